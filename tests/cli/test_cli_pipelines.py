"""docs/ci: the pipelines for GitHub Actions and GitLab CI, run as far as a shell can: each line of each job,
in clones of their own, with moto for AWS KMS and a real server; the rest is held to both's schemas.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kms import SECRET, served
from server_world import Keys, Server

from fota_wire import cose, host_crypto
from fota_wire import root as roots
from fota_wire.host_keys import place_of

REPO = Path(__file__).parents[2]
CI = REPO / "docs/ci"
JUDGE = REPO / "build/check-jsonschema/bin/check-jsonschema"
SCHEMAS = {
    "github": ("--builtin-schema", "vendor.github-workflows"),
    "gitlab": ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"),
}
TOOLS = "pip install --require-hashes --requirement ci-requirements.txt"  # what the tests have installed
POLICY = """
format = 1
product = {vendor-domain = "example.com", model = "sensor"}
firmware = {file = "build/app.elf"}
version = {tag = "v*"}
sequence = {major = 1_000_000, minor = 1_000, revision = 1}
security-counter = {number = 1}
keys = {image = "awskms:///alias/image/a", release = "awskms:///alias/release/ci"}
signed = {root = "root.cbor"}
"""
MAKEFILE = f"firmware:\n\tmkdir -p build\n\tcp {REPO}/build/sample/app-1.1.0.elf build/app.elf\n"
IN_KMS = ("image/a", "release/ci", "release/second")


def jobs(kind):
    """Return name, shell lines and environment of each job, in order."""
    said = yaml.safe_load((CI / f"{kind}.yml").read_text())
    if kind == "gitlab":
        names = [name for stage in said["stages"] for name in said if (said[name] or {}) and name == stage]
        before = said["default"]["before_script"]
        return [(name, [*before, *said[name]["script"]], {}) for name in names]
    found = []
    for name, job in said["jobs"].items():
        steps = [step for step in job["steps"] if "run" in step]
        environment = {key: text for step in steps for key, text in step.get("env", {}).items()}
        found.append((name, [step["run"] for step in steps], environment))
    return found


@pytest.mark.parametrize("kind", SCHEMAS)
def test_pipeline_is_what_its_service_takes(kind):
    if not JUDGE.exists():
        pytest.skip("no check-jsonschema: make oracles")
    done = subprocess.run([JUDGE, *SCHEMAS[kind], CI / f"{kind}.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", SCHEMAS)
def test_no_line_has_a_secret_or_what_somebody_else_may_have_written(kind):
    """What a service puts into a script in place of an expression is run by the shell, whoever named it."""
    for name, lines, _ in jobs(kind):
        assert lines[0] == TOOLS, name
        for line in lines:
            assert "${{" not in line, (name, line)
            assert not re.search(r"TOKEN[^_ ]*=|--token|PASSWORD", line), (name, line)


class Product:
    """A product whose keys are in KMS, committed and tagged; its server; and clones for jobs."""

    def __init__(self, folder, environment):
        self.folder, self.clones = folder, iter(range(9))
        self.release = folder / "artifact"  # what a job leaves for the next one
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        clean = {
            name: text for name, text in os.environ.items() if not name.startswith(("FOTA", "GIT", "AWS"))
        }
        names = [f"GIT_{role}_{part}" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")]
        who = dict.fromkeys(names, "x@example.com") | {"GIT_CONFIG_GLOBAL": os.devnull}
        self.environment = clean | environment | who | {"PATH": path}
        keys = Keys(folder / "keys")
        root = genesis(keys)
        (keys.folder / "root.cbor").write_bytes(root)
        sources = folder / "product"
        files = {
            "fota.toml": POLICY.encode(),
            "root.cbor": root,
            "server-ca.crt": keys.server_ca.read_bytes(),
        }
        files |= {".gitignore": b"/build/\n/release/\n", "Makefile": MAKEFILE.encode()}
        sources.mkdir()
        for name, content in files.items():
            (sources / name).write_bytes(content)
        for words in (("init", "-q", "."), ("add", "."), ("commit", "-q", "-m", "1.1.0"), ("tag", "v1.1.0")):
            subprocess.run(["git", *words], cwd=sources, env=self.environment, check=True)
        self.server = Server(keys, folder / "server").init().start()
        token = f"fota server token create ci --role publisher --data {self.server.data} -o {folder}/token"
        self.run(folder, [token], {}).check_returncode()
        self.token = (folder / "token").read_text().strip()

    def run(self, where, lines, more):
        script = "set -eo pipefail\n" + "\n".join(line for line in lines if line != TOOLS)
        words = ["bash", "-c", script]
        return subprocess.run(words, cwd=where, env=self.environment | more, capture_output=True, text=True)

    def job(self, lines, said):
        """Run a job in a clone of its own, with what the one before has left; return its end."""
        clone = self.folder / f"clone-{next(self.clones)}"
        words = ["git", "clone", "-q", self.folder / "product", clone]
        subprocess.run(words, env=self.environment, check=True)
        if self.release.exists():
            shutil.copytree(self.release, clone / "release")
        known = {
            "FOTA_SERVER": self.server.operator_url,
            "FOTA_TOKEN": self.token,
            "FOTA_CA": "server-ca.crt",
            "AWS_ID_TOKEN": "a.b.c",
            "AWS_WEB_IDENTITY_TOKEN_FILE": f"{clone}.tmp/id-token",
        }
        for name, text in said.items():
            asked = re.fullmatch(r"\$\{\{ (?:vars|secrets)\.(\w+) \}\}", text)
            known[name] = known[asked[1]] if asked else text
        done = self.run(clone, lines, known)
        assert SECRET not in done.stdout + done.stderr
        assert self.token not in done.stdout + done.stderr
        if done.returncode == 0 and (clone / "release").exists():
            shutil.rmtree(self.release, ignore_errors=True)
            shutil.copytree(clone / "release", self.release)
        return done

    def published(self):
        return [release["version"] for release in self.server.api("GET", "releases")[1]["releases"]]


def genesis(keys):
    """Return a ROOT that names the server's ASSIGN key, and keys that are made in KMS."""
    image, ci, second = (place_of("awskms:///").make(name, None)[1] for name in IN_KMS)
    people = [host_crypto.public_xy(key) for key in keys.root]
    roles = {
        roots.ROOT: (2, people),
        roots.RELEASE: (2, [ci, second]),
        roots.ASSIGN: (1, [host_crypto.public_xy(keys.assign)]),
    }
    raw = roots.build_root(1, roles, 0, 0, (), retired=(), image_keys=(image,))
    for key in keys.root[:2]:
        kid = cose.kid_of(host_crypto.public_xy(key))
        raw = roots.FORM.add_signature(raw, kid, host_crypto.signer(key))
    return raw


@pytest.fixture
def product(tmp_path, monkeypatch):
    with served() as kms:
        for name, value in kms.environment.items():
            monkeypatch.setenv(name, value)
        found = Product(tmp_path, kms.environment)
        yield found
        assert found.server.stop()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCHEMAS)
def test_tag_becomes_a_release_by_two_keys_and_not_by_one(product, kind):
    (build, approve, publish) = jobs(kind)
    for name, lines, said in (build, publish, approve, publish):
        done = product.job(lines, said)
        early = name == "publish" and not product.published() and "1 of 2" in done.stdout
        assert done.returncode == int(early), (name, done.stdout, done.stderr)
        assert product.published() == ["1.1.0"] * (name == "publish" and not early)
    done = product.job(publish[1], publish[2])
    assert done.returncode == 0, "a job may run again"
    assert product.published() == ["1.1.0"]
