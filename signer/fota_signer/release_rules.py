"""What a release policy comes to for the sources as they lie there: version, sequence, counter, commit."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from fota_signer.release_policy import LIMIT, PARTS, NumberRule, Policy, VersionRule
from fota_wire import layout
from fota_wire.errors import FotaError, InputError, StorageError, VerifyError
from fota_wire.files import read_text
from fota_wire.host_values import shown, whole
from fota_wire.release import MAX_SEQUENCE
from fota_wire.version import format_version, parse_version

Version = tuple[int, int, int, int]
EPOCH = "SOURCE_DATE_EPOCH"
_LAST = 253402300799  # 9999-12-31


class Sources(NamedTuple):
    """The sources of a build: ``commit`` in hex and ``time`` in seconds since 1970 (None: not in git);
    ``changed``: the first file that differs from the commit, None if none does.
    """

    commit: str | None
    time: int | None
    changed: str | None


class Ruled(NamedTuple):
    """What the rules say."""

    version: Version
    sequence: int
    security_counter: int
    sources: Sources

    @property
    def time(self) -> str | None:
        """The time of the release: SOURCE_DATE_EPOCH, else that of the commit, else None."""
        return said_time(self.sources.time)


def said_time(seconds: int | None = None) -> str | None:
    """Return SOURCE_DATE_EPOCH, else ``seconds`` since 1970, else None, as ISO 8601 in UTC."""
    if said := os.environ.get(EPOCH):
        seconds = whole(said, EPOCH, 0, _LAST)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ruled(policy: Policy, folder: Path) -> Ruled:
    """Return what the rules say of the sources in ``folder``, and refuse builds that the policy refuses.

    Raises:
        VerifyError: a changed tree (code ``dirty``); the version is another commit's (``tagged``).
        InputError: a rule has no answer here: no tag, no such file, no number in it.
        StorageError: there is no git, and a rule needs it.
    """
    sources = sources_of(policy, folder)
    version = version_of(policy.version, folder)
    if policy.tagged is not None:
        _require_free(policy.tagged, version, folder)
    return Ruled(
        version,
        number_of(policy.sequence, "sequence", version, folder, 0, MAX_SEQUENCE, each=True),
        number_of(policy.security_counter, "security-counter", version, folder, 1, layout.SEC_CNT_MAX),
        sources,
    )


def sources_of(policy: Policy, folder: Path) -> Sources:
    """Return where the sources come from.

    Raises:
        VerifyError: the tree differs from the commit, and the policy refuses that; code ``dirty``.
        InputError, StorageError: there is no commit to be asked for, and the policy wants one.
    """
    by_git = policy.dirty or policy.version.kind == "tag" or policy.tagged is not None
    try:
        commit, time = _git(folder, "log", "-1", "--format=%H %ct").split()
    except (InputError, StorageError, ValueError) as exc:
        if not by_git:
            return Sources(None, None, None)
        raise type(exc)(f"{exc}; refuse.dirty = false if the product is not in git") from exc
    found = _git(folder, "status", "--porcelain=v1", "-z").split("\0")[0][3:] or None
    if found and policy.dirty:
        raise VerifyError(
            f"{shown(found)} differs from commit {commit[:12]}, or is not in it: commit it, or name it in"
            " .gitignore (refuse.dirty)",
            "dirty",
        )
    return Sources(commit, int(time), found)


def version_of(rule: VersionRule, folder: Path) -> Version:
    """Return the version by its rule. InputError, StorageError: it has none here."""
    if rule.kind == "fixed":
        return _version(rule.value, "version.fixed")
    if rule.kind == "file":
        return _version(_first_line(folder / rule.value, "version.file"), f"version.file: {rule.value}")
    tags = _git(folder, "tag", "--points-at", "HEAD").split("\n")
    found = {tag: _version(text, f"tag {tag}") for tag in tags if (text := _within(rule.value, tag))}
    if not found:
        raise InputError(
            f"version.tag: no tag {rule.value} at this commit: git tag it, or git fetch --tags where a"
            " pipeline has left them out"
        )
    if len(set(found.values())) > 1:
        raise InputError(f"version.tag: this commit has {' and '.join(sorted(found))}: take one away")
    return next(iter(found.values()))


def number_of(
    rule: NumberRule, what: str, version: Version, folder: Path, low: int, high: int, *, each: bool = False
) -> int:
    """Return a number by its rule, which never falls when the version rises; ``each``: it rises each time.

    Raises:
        InputError: it does not come to a number of ``low`` to ``high``, or would fall, or stay.
    """
    if rule.file is not None:
        return whole(_first_line(folder / rule.file, f"{what}.file"), f"{what}.file: {rule.file}", low, high)
    if rule.weights is None:
        return int(rule.number or 0)
    total = 0
    for name, part, weight in reversed(list(zip(PARTS, version, rule.weights, strict=True))):
        if weight and total >= weight:
            raise InputError(
                f"{what}: version {format_version(version)}: what is below {name} comes to {total}, and one"
                f" {name} is {weight}: make {what}.{name} larger"
            )
        if part and not weight and each:
            raise InputError(
                f"{what}: version {format_version(version)} has {name} {part}, which does not count: say"
                f" what one {name} is, {what}.{name} = 1"
            )
        total += part * weight
    total += rule.plus
    if not low <= total <= high:
        raise InputError(
            f"{what}: version {format_version(version)} comes to {total}, which is not one of {low} to {high}"
        )
    return total


def _first_line(path: Path, key: str) -> str:
    try:
        return read_text(path, LIMIT).partition("\n")[0].strip()
    except FotaError as exc:
        raise type(exc)(f"{key}: {exc}") from exc


def _require_free(pattern: str, version: Version, folder: Path) -> None:
    name = pattern.replace("*", format_version(version))
    tagged = _git(
        folder, "for-each-ref", "--format=%(objectname) %(*objectname)", f"refs/tags/{name}"
    ).split()
    if tagged and tagged[-1] != _git(folder, "rev-parse", "HEAD").strip():
        raise VerifyError(
            f"{format_version(version)} is released: tag {name} is another commit, {tagged[-1][:12]}: raise"
            " the version (refuse.tagged)",
            "tagged",
        )


def _version(text: str, where: str) -> Version:
    try:
        return parse_version(text)
    except InputError as exc:
        raise InputError(f"{where}: {exc}") from exc


def _within(pattern: str, tag: str) -> str | None:
    """Return what stands in a tag where the pattern has its ``*``, None if it does not fit."""
    before, _, after = pattern.partition("*")
    fits = tag.startswith(before) and tag.endswith(after) and len(tag) > len(before) + len(after)
    return tag[len(before) : len(tag) - len(after)] if fits else None


def _git(folder: Path, *words: str) -> str:
    """Return what git prints of the repository in which ``folder`` lies, whatever a hook's variables say."""
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")
    }
    env |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    line = ["git", "-c", "core.fsmonitor=false", *words]
    try:
        done = subprocess.run(line, cwd=folder, env=env, capture_output=True, check=False)
    except FileNotFoundError as exc:
        raise StorageError("git is not installed, and the release policy asks it") from exc
    except OSError as exc:
        raise StorageError(f"git cannot be run: {exc.strerror}") from exc
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise InputError(f"git {words[0]} in {folder}: {said[0].removeprefix('fatal: ')}")
    return done.stdout.decode(errors="replace")
