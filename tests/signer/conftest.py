import contextlib
import io
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fota_cli.main import main
from fota_signer.examples import example_files

MODEL = ("--vendor-domain", "example.com", "--model", "demo")


@pytest.fixture(scope="session")
def key_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("keys")
    for name, content in example_files().items():
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture
def firmware(tmp_path):
    """A raw binary with a vector table and functions where it points, 3000 bytes."""
    path = tmp_path / "app.bin"
    content = bytearray(bytes(range(256)) * 12)[:3000]
    handlers = range(0x100, 0x200, 0x20)
    content[:64] = struct.pack("<16I", 0x20010000, *(0x08004201 + at for at in handlers), *[0] * 7)
    for at in handlers:
        content[at : at + 4] = bytes.fromhex("80b580bd")  # push {r7, lr}; pop {r7, pc}
    path.write_bytes(content)
    return path


@pytest.fixture
def fota(tmp_path, monkeypatch):
    """Run the command as its entry point does: ``fota("sign", ...) -> CompletedProcess``."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FOTA_")]:
        monkeypatch.delenv(name)

    def run(*words, env=None, allow=True):
        out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
        allowed = {"FOTA_ALLOW_EXAMPLE_KEYS": "1"} if allow else {}
        with monkeypatch.context() as patch, open(os.devnull) as nothing:  # noqa: PTH123
            for name, value in (allowed | (env or {})).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["fota", *[str(word) for word in words]])
            patch.setattr(sys, "stdin", nothing)
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as end,
            ):
                main()
        return subprocess.CompletedProcess(words, end.value.code or 0, _text(out), _text(err))

    return run


def _text(stream):
    return stream.buffer.getvalue().decode()


@pytest.fixture
def refused(fota, tmp_path):
    """Run the command; it has to end with ``code``, one clear line, and no file new or changed."""

    def run(code, *words, says, **options):
        before = snapshot(tmp_path)
        result = fota(*words, **options)
        assert result.returncode == code, result.stderr
        assert result.stderr.startswith("fota: error: ")
        assert result.stderr.count("\n") == 1
        assert says in result.stderr
        assert result.stdout == ""
        assert snapshot(tmp_path) == before
        return result

    return run


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def sign(fota, key_dir):
    """Sign a file with image-a as 1.1.0, counter 3; returns the image's path."""

    def run(source, output, *more, key="image-a", version="1.1.0", counter=3):
        words = ("--key", key_dir / f"{key}.pem", "--version", version, "--security-counter", counter)
        result = fota("sign", source, "-o", output, *words, *MODEL, *more)
        assert result.returncode == 0, result.stderr
        return output

    return run


@pytest.fixture
def new_root(fota, key_dir, tmp_path):
    """Make a ROOT of the example keys, which names image-a; returns its bytes."""

    def run(*more):
        words = [word for role in ("root", "release") for n in (1, 2, 3)
                 for word in (f"--{role}-key", key_dir / f"{role}-{n}.pub.pem")]  # fmt: skip
        words += ["--assign-key", key_dir / "assign.pub.pem", "--image-key", key_dir / "image-a.pub.pem"]
        words += ["--sign", key_dir / "root-1.pem", "--sign", key_dir / "root-2.pem", *more]
        made = fota("root", "new", *words, "-o", tmp_path / "root")
        assert made.returncode == 0, made.stderr
        content = (tmp_path / "root").read_bytes()
        (tmp_path / "root").unlink()
        return content

    return run


@pytest.fixture
def product(new_root, tmp_path, monkeypatch):
    """A product with a release policy (`release_world`), which is where commands run."""
    sys.path.insert(0, str(Path(__file__).parent))
    from release_world import Product

    made = Product(tmp_path / "product", new_root())
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def build(fota, product):
    """`fota release build`, which has to succeed; returns what is said as JSON."""

    def run(*more, output="release", **options):
        result = fota("release", "build", "-o", output, "--json", *more, **options)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    return run


@pytest.fixture
def signs(fota, key_dir):
    """Have somebody sign the release, in place."""

    def run(name, envelope="release/manifest.suit"):
        result = fota("manifest", "sign", envelope, "-o", envelope, "--key", key_dir / f"{name}.pem")
        assert result.returncode == 0, result.stderr

    return run


@pytest.fixture
def check(fota, product):
    """`fota release check`; returns {what: detail} of what is lacking; exit code and words fit it."""

    def run(folder="release", **options):
        from release_world import files_of

        before = files_of(product.folder)
        result = fota("release", "check", folder, "--json", **options)
        said = json.loads(result.stdout)
        lacks = {row["what"]: row["detail"] for row in said["rows"] if not row["good"]}
        assert (said["complete"], said["lacks"]) == (not lacks, list(lacks))
        assert (result.returncode, result.stderr) == (1 if lacks else 0, "")
        assert files_of(product.folder) == before
        return lacks

    return run


@pytest.fixture
def refuses(fota, product):
    """`fota release build`, which ends with ``code`` and one line, and leaves everything as it was."""

    from release_world import files_of

    def run(code, says, *more, output="release", **options):
        before = files_of(product.folder.parent)
        result = fota("release", "build", "-o", output, *more, **options)
        assert (result.returncode, result.stdout) == (code, ""), result.stderr
        assert result.stderr.startswith("fota: error: ")
        assert result.stderr.count("\n") == 1
        assert says in result.stderr
        assert files_of(product.folder.parent) == before

    return run


@pytest.fixture(scope="module")
def shared_job(tmp_path_factory):
    """What a factory line works with; keys and CA are made once for a file of tests."""
    from factory_world import new_job

    return new_job(tmp_path_factory.mktemp("work"))


@pytest.fixture
def job(shared_job, tmp_path):
    """The same with a record folder of its own."""
    return replace(shared_job, work=tmp_path / "work")
