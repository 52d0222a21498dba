"""A product in git with a release policy, its keys, its ROOT and an ELF: what `fota release` starts from."""

import os
import subprocess
from pathlib import Path

from elf_world import Elf

from fota_signer.examples import example_files

POLICY = """\
format = 1

[product]
vendor-domain = "example.com"
model = "sensor"

[firmware]
file = "build/app.elf"

[version]
tag = "v*"

[sequence]
major = 1_000_000
minor = 1_000
revision = 1

[security-counter]
file = "security-counter"

[keys]
image = "keys/image-a.pem"
release = "keys/release-1.pem"

[signed]
root = "root.cbor"

[refuse]
development-keys = false
"""


def git(folder: Path, *words: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class Product:
    """The sources in ``folder``, at tag v1.2.3; built things and keys are not in git."""

    def __init__(self, folder: Path, root: bytes, policy: str = POLICY) -> None:
        self.folder, self.policy = folder, policy
        (folder / "keys").mkdir(parents=True)
        (folder / "build").mkdir()
        for name, content in example_files().items():
            (folder / "keys" / name).write_bytes(content)
        (folder / "build/app.elf").write_bytes(Elf().build())
        (folder / "root.cbor").write_bytes(root)
        (folder / "security-counter").write_text("4\n")
        (folder / "fota.toml").write_text(policy)
        (folder / ".gitignore").write_text("/build/\n/keys/\n/release*/\n/digest\n/signature\n")
        git(folder, "init", "-q")
        self.commit("v1.2.3")

    def commit(self, tag: str | None = None) -> str:
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-q", "--allow-empty", "-m", "a change")
        if tag is not None:
            git(self.folder, "tag", tag)
        return git(self.folder, "rev-parse", "HEAD")

    def change(self, old: str, new: str) -> None:
        """Change the policy, in a commit that takes the tag along."""
        assert old in self.policy
        self.policy = self.policy.replace(old, new)
        (self.folder / "fota.toml").write_text(self.policy)
        self.commit()
        git(self.folder, "tag", "-f", "v1.2.3")


def files_of(folder: Path) -> dict[str, bytes]:
    """{name: content} of what lies in a folder, at any depth; empty if there is none."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def elf_with(text: bytes) -> bytes:
    """An ELF whose firmware has a text in it."""
    from elf_world import CODE, START

    return Elf(segments=[(START, CODE + text)]).build()
