"""Libraries that the plain install leaves out: what to say where one of them is missing."""

EXTRAS = {
    "server": ("alembic", "httptools", "prometheus_client", "sqlalchemy", "starlette", "uvicorn"),
    "postgresql": ("psycopg",),
    "s3": ("obstore",),
    "oidc": ("jwt",),
    "vdev": ("unicorn",),
    "pkcs11": ("pkcs11",),
    "gateway": ("pkcs11",),
    "kms": ("boto3", "botocore"),
}
"""Extra -> the top-level modules that come with it; a test holds it against pyproject.toml."""


def hint(module: str | None) -> str | None:
    """Return one line about a module that cannot be imported; None if no extra of ours brings it.

    The names in it are those of the libraries, which the index has; ours need not be on any.
    """
    top = (module or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if top in modules:
            names = " ".join(f"'{name}'" for name in requirements(extra))
            clone = f"pip install '.[{extra}]'"
            return f"this needs the Python library {top}: pip install {names} (in a clone: {clone})"
    return None


def requirements(extra: str) -> list[str]:
    """Return what an extra asks for, as the installed package says."""
    from importlib.metadata import requires

    marker = f"extra == '{extra}'"
    found = (line.partition(";") for line in requires("fota") or ())
    return [name.strip() for name, _, condition in found if condition.strip().replace('"', "'") == marker]
