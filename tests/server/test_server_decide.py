"""The pure core: what a check-in means."""

import secrets
from typing import Any

import pytest
from server_world import Built, Keys

from fota_server.decide import (
    CLOSED,
    VERDICTS,
    Release,
    RolloutState,
    Target,
    TargetState,
    Twin,
    judge,
    why_not,
)
from fota_wire import cose, host_crypto, report
from fota_wire import root as roots
from fota_wire.checkin import Request

DEVICE = "0123" + "ab" * 7
NONCE = bytes(range(16))


@pytest.fixture(scope="module")
def device_key() -> Any:
    from server_world import new_key

    return new_key()


@pytest.fixture
def root(keys: Keys) -> roots.Root:
    return roots.open_genesis(keys.genesis, host_crypto.verify)


def release_of(built: Built, number: int = 7, sequence: int = 2) -> Release:
    image = built.image
    return Release(
        id=number,
        version=built.version,
        vendor_id=bytes(16),
        class_id=image.class_id,
        sequence=sequence,
        manifest_digest=built.manifest_digest,
        file_digest=image.file_digest,
        file_size=len(built.file),
        image_hash=image.image_hash,
        sec_cnt=image.sec_cnt,
        envelope=built.envelope,
        key_hash=image.key_hash,
    )


def target_of(built: Built, state: TargetState, *, paused: bool = False) -> Target:
    return Target(id=1, rollout_id=9, release=release_of(built), state=state, reason=None, paused=paused)


def twin_of(target: Target | None, nonce: bytes | None = NONCE) -> Twin:
    return Twin(device_id=DEVICE, report_nonce=nonce, confirmed_hash=None, target=target)


def report_of(key: Any, built: Built, state: str, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "nonce": NONCE,
        "device_id": bytes.fromhex(DEVICE),
        "slot": "B",
        "image_hash": built.image.image_hash,
        "version": built.version,
        "sec_cnt": 1,
        "floor": 1,
        "root_version": 1,
        "state": state,
        "installed": None,
        "events": [],
        "reset_cause": 0,
        "kid": cose.kid_of(host_crypto.public_xy(key)),
        "sign": host_crypto.signer(key),
    }
    return report.build(**values | changes)


def judged(root: roots.Root, key: Any, target: Target | None, raw: bytes | None, **kwargs: Any) -> Any:
    request = Request(secrets.token_bytes(16), kwargs.pop("root_version", 1), None, raw)
    return judge(twin_of(target, **kwargs), request, host_crypto.public_xy(key), root, host_crypto.verify)


AP1 = [("reverted", "AP1 self-test")]
AP3 = [("reverted", "AP3 no-check-in")]
STATES = {"trying": "trial", "falling": "fallback"}


@pytest.mark.parametrize(
    ("before", "runs", "installed", "events", "after", "reason", "offered"),
    [
        pytest.param("pending", "old", False, [], "offered", None, True, id="pending-is-offered"),
        pytest.param("offered", "old", False, [], "offered", None, True, id="offered-again"),
        pytest.param("offered", "old", True, [], "installed", None, True, id="written"),
        pytest.param("offered", "trying", True, [], "trial", None, True, id="trial-is-not-success"),
        pytest.param("trial", "new", True, [], "confirmed", None, True, id="confirmed"),
        pytest.param("pending", "new", False, [], "confirmed", None, True, id="runs-it-already"),
        pytest.param("trial", "old", True, AP1, "reverted", "AP1 self-test", False, id="self-test"),
        pytest.param("offered", "old", True, AP1, "reverted", "AP1 self-test", False, id="unseen-trial"),
        pytest.param("confirmed", "old", True, [], "reverted", "another image runs", False, id="drift"),
        pytest.param("trial", "old", True, AP3, "offered", "AP3", True, id="trial-without-network"),
        pytest.param("installed", "falling", True, [], "installed", "runs in place", True, id="fallback"),
        pytest.param(
            "installed", "old", True, [("rejected", "IM6 image-hash")], "rejected", "IM6", False,
            id="bootloader-refused",
        ),
        pytest.param(
            "offered", "old", False, [("refused", "PO2 counter-step: too far")], "failed", "PO2", False,
            id="agent-refused-the-image",
        ),
        pytest.param(
            "offered", "old", False, [("refused", "too late")], "offered", "too late", True,
            id="agent-refused-once",
        ),
        pytest.param(
            "offered", "old", False, [("failed", "download cut")], "offered", "download cut", True,
            id="download-failure-is-retried",
        ),
        pytest.param(
            "offered", "old", False, AP1, "offered", None, True, id="revert-of-another-release-not-ours"
        ),
        pytest.param("reverted", "old", True, [], "reverted", None, False, id="reverted-stays"),
        pytest.param("failed", "old", False, [], "failed", None, False, id="failed-stays"),
        pytest.param("superseded", "old", False, [], "superseded", None, False, id="superseded"),
    ],
)  # fmt: skip
def test_report_moves_target(
    root: roots.Root, device_key: Any, releases: dict[str, Built], before: str, runs: str,
    installed: bool, events: list[tuple[str, str]], after: str, reason: str | None, offered: bool,
) -> None:  # fmt: skip
    wanted = releases["1.1.0"]
    raw = report_of(
        device_key,
        releases["1.0.0"] if runs == "old" else wanted,
        STATES.get(runs, "confirmed"),
        installed=wanted.manifest_digest if installed else None,
        events=events,
    )
    verdict = judged(root, device_key, target_of(wanted, TargetState(before)), raw)
    assert verdict.report_status == "accepted"
    assert verdict.target_state == after
    assert (verdict.target_reason or "").startswith(reason or "")
    assert bool(verdict.target_reason) == bool(reason)
    assert (verdict.wanted is not None) == offered


def test_second_refusal_for_the_same_reason_is_final(
    root: roots.Root, device_key: Any, releases: dict[str, Built]
) -> None:
    target = target_of(releases["1.1.0"], TargetState.OFFERED)
    for reason, state in (("wrong class", "offered"), ("too late", "offered"), ("too late", "failed")):
        raw = report_of(device_key, releases["1.0.0"], "confirmed", events=[("refused", reason)])
        verdict = judged(root, device_key, target, raw)
        assert (verdict.target_state, verdict.target_reason) == (state, reason)
        target = target._replace(reason=verdict.target_reason)


@pytest.mark.parametrize("state", ["offered", "installed", "trial", "confirmed"])
def test_check_in_without_report_is_offered_nothing_again(
    root: roots.Root, device_key: Any, releases: dict[str, Built], state: str
) -> None:
    verdict = judged(root, device_key, target_of(releases["1.1.0"], TargetState(state)), None)
    assert verdict.wanted is None
    assert verdict.target_state == state
    assert verdict.asks == (state != "confirmed")
    paused = judged(root, device_key, target_of(releases["1.1.0"], TargetState(state), paused=True), None)
    assert paused.asks == (state == "trial")


@pytest.mark.parametrize(
    ("state", "runs", "offered"),
    [
        ("pending", "1.0.0", False),
        ("offered", "1.0.0", False),
        ("trial", "1.1.0", True),
        ("confirmed", "1.1.0", True),
    ],
)
def test_pause_withholds_the_release_from_those_that_do_not_run_it(
    root: roots.Root, device_key: Any, releases: dict[str, Built], state: str, runs: str, offered: bool
) -> None:
    raw = report_of(device_key, releases[runs], "trial" if state == "trial" else "confirmed")
    verdict = judged(root, device_key, target_of(releases["1.1.0"], TargetState(state), paused=True), raw)
    assert (verdict.wanted is not None) == offered
    assert verdict.target_state == state


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nonce": bytes(16)}, "another nonce"),
        ({"device_id": bytes(9)}, "is of device"),
        ({"kid": bytes(8)}, "another key"),
        ({"sign": lambda _digest: b"\x01" * 64}, "signature"),
    ],
)
def test_false_report_changes_no_fact(
    root: roots.Root, device_key: Any, releases: dict[str, Built], changes: dict[str, Any], reason: str
) -> None:
    raw = report_of(device_key, releases["1.1.0"], "confirmed", **changes)
    verdict = judged(root, device_key, target_of(releases["1.1.0"], TargetState.OFFERED), raw)
    assert verdict.report is None
    assert verdict.report_status.startswith("refused: ")
    assert reason in verdict.report_status
    assert verdict.target_state == "offered"
    assert verdict.wanted is None
    assert verdict.newly_confirmed is None


def test_report_that_nobody_asked_for_is_refused(
    root: roots.Root, device_key: Any, releases: dict[str, Built]
) -> None:
    raw = report_of(device_key, releases["1.1.0"], "confirmed")
    verdict = judged(root, device_key, None, raw, nonce=None)
    assert verdict.report is None
    assert "no report was asked for" in verdict.report_status


def test_device_far_behind_in_root_is_offered_nothing_until_it_caught_up(
    keys: Keys, device_key: Any, releases: dict[str, Built], root: roots.Root
) -> None:
    for version in range(2, 8):
        root = roots.step(root, keys.root_document(version), host_crypto.verify)
    target = target_of(releases["1.1.0"], TargetState.PENDING)
    assert judged(root, device_key, target, None, root_version=2).wanted is None
    assert judged(root, device_key, target, None, root_version=3).wanted is not None


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"min_sequence": 3}, "manifest sequence 2 is below 3"),
        ({"min_secver": 3}, "security counter 2 is below 3"),
        ({"min_sequence": 2, "min_secver": 2}, None),
    ],
)
def test_root_minimum_decides_over_a_release(
    keys: Keys, releases: dict[str, Built], document: dict[str, int], reason: str | None
) -> None:
    root = roots.open_genesis(keys.root_document(1, **document), host_crypto.verify)
    told = why_not(release_of(releases["1.1.0"]), root)
    assert (told is None) if reason is None else str(told).startswith(reason)


def test_revoked_release_is_offered_no_more(keys: Keys, device_key: Any, releases: dict[str, Built]) -> None:
    digest = releases["1.1.0"].manifest_digest
    root = roots.open_genesis(keys.root_document(1, revoked=(digest,)), host_crypto.verify)
    verdict = judged(root, device_key, target_of(releases["1.1.0"], TargetState.PENDING), None)
    assert verdict.wanted is None
    assert (verdict.target_state, verdict.target_reason) == (
        "withdrawn",
        "ROOT 1 revokes this manifest",
    )


def test_release_that_an_operator_withdrew_is_offered_no_more(
    root: roots.Root, device_key: Any, releases: dict[str, Built]
) -> None:
    target = target_of(releases["1.1.0"], TargetState.OFFERED)._replace(withdrawn=True)
    verdict = judged(root, device_key, target, report_of(device_key, releases["1.0.0"], "confirmed"))
    assert (verdict.wanted, verdict.target_state, verdict.hurry) == (None, "withdrawn", False)
    kept = judged(root, device_key, target, report_of(device_key, releases["1.1.0"], "confirmed"))
    assert (kept.wanted, kept.target_state) == (None, "confirmed"), "what runs it stays"


def test_cancelled_rollout_is_offered_no_more(
    root: roots.Root, device_key: Any, releases: dict[str, Built]
) -> None:
    target = target_of(releases["1.1.0"], TargetState.PENDING)._replace(cancelling=True)
    verdict = judged(root, device_key, target, None)
    assert (verdict.wanted, verdict.target_state, verdict.hurry) == (None, "cancelled", False)


@pytest.mark.parametrize("state", CLOSED)
@pytest.mark.parametrize("runs", ["1.0.0", "1.1.0"])
def test_closed_target_stays_as_it_is(
    root: roots.Root, device_key: Any, releases: dict[str, Built], state: TargetState, runs: str
) -> None:
    raw = report_of(device_key, releases[runs], "confirmed")
    verdict = judged(root, device_key, target_of(releases["1.1.0"], state), raw)
    assert (verdict.target_state, verdict.wanted, verdict.hurry) == (state, None, False)


def test_rollback_is_not_done_while_the_newer_image_waits_for_the_next_reset(
    root: roots.Root, device_key: Any, releases: dict[str, Built]
) -> None:
    old, new = releases["1.0.0"], releases["1.1.0"]
    state, settled, reason = TargetState.PENDING, None, None

    def report(runs: Built, how: str, **changes: Any) -> Any:
        nonlocal state, settled, reason
        target = target_of(old, state)._replace(reason=reason)
        twin = Twin(
            device_id=DEVICE,
            report_nonce=NONCE,
            confirmed_hash=None,
            target=target,
            running_hash=old.image.image_hash,
            settled=settled,
        )
        raw = report_of(device_key, runs, how, **changes)
        request = Request(secrets.token_bytes(16), 1, None, raw)
        verdict = judge(twin, request, host_crypto.public_xy(device_key), root, host_crypto.verify)
        state, settled, reason = verdict.target_state, verdict.settled, verdict.target_reason
        return verdict

    for _ in range(2):
        waits = report(old, "confirmed", installed=new.manifest_digest)
        assert (waits.target_state, waits.wanted is not None) == ("offered", True)
        assert "starts at the next reset" in str(waits.target_reason)
    trial = report(new, "trial", installed=new.manifest_digest)
    assert (trial.target_state, trial.wanted is not None) == ("offered", True), "and is sent back again"
    assert report(old, "confirmed", installed=old.manifest_digest).target_state == "confirmed"


def test_image_that_had_its_trial_does_not_keep_a_rollback_waiting(
    root: roots.Root, device_key: Any, releases: dict[str, Built]
) -> None:
    old, new = releases["1.0.0"], releases["1.1.0"]
    twin = Twin(
        device_id=DEVICE,
        report_nonce=NONCE,
        confirmed_hash=None,
        target=target_of(old, TargetState.PENDING),
        running_hash=old.image.image_hash,
        settled=None,
    )
    raw = report_of(device_key, old, "confirmed", installed=new.manifest_digest, events=AP1)
    request = Request(secrets.token_bytes(16), 1, None, raw)
    verdict = judge(twin, request, host_crypto.public_xy(device_key), root, host_crypto.verify)
    assert (verdict.target_state, verdict.settled) == ("confirmed", new.manifest_digest)


def test_every_state_of_a_device_leads_to_one_verdict() -> None:
    found = [state for _, states in VERDICTS for state in states]
    assert sorted([*found, TargetState.CANCELLED]) == sorted(TargetState), "each once"
    assert VERDICTS[-1] == (RolloutState.DONE, (TargetState.CONFIRMED,)), "done: nothing else is left"
