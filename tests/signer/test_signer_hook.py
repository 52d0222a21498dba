"""The hook for pre-commit (`.pre-commit-hooks.yaml`), by pre-commit itself, in a product's repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
MANIFEST = REPO / ".pre-commit-hooks.yaml"
PRE_COMMIT = REPO / "build/check-jsonschema/bin/pre-commit"
pytestmark = pytest.mark.skipif(
    not PRE_COMMIT.exists() or shutil.which("git") is None, reason="no pre-commit: make oracles"
)


@pytest.fixture
def pre_commit(tmp_path):
    """Run pre-commit in the product; nothing of the machine's own settings is seen."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "FOTA_"))}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path)}
    env |= {
        "PRE_COMMIT_HOME": str(tmp_path / "cache"),
        "PATH": f"{Path(sys.executable).parent}:{env['PATH']}",
    }
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    shutil.copy(MANIFEST, hooks)
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "hooks")):
        subprocess.run(["git", *words], cwd=hooks, env=env, check=True, capture_output=True)

    def run(*words):
        done = subprocess.run([PRE_COMMIT, *words], env=env, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return lambda stage: run("try-repo", str(hooks), "fota-release-check", "--hook-stage", stage, "--verbose")


def test_manifest_is_one_that_pre_commit_takes():
    done = subprocess.run([PRE_COMMIT, "validate-manifest", MANIFEST], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hook_lets_pass_what_lacks_nothing_and_says_what_is_lacking(pre_commit, build, signs):
    build()
    code, said = pre_commit("manual")
    assert (code, "release lacks 1 of 7" in said) == (1, True), said
    signs("release-2")
    code, said = pre_commit("pre-push")
    assert (code, "release is complete" in said) == (0, True), said
