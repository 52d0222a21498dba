"""Writes ``lies.json``: one good answer to a check-in, and lies in every field of it and of its ASSIGNMENT.

``python tests/vectors/make_lies.py``. For any interpreter: ``tests/agent/lies.py`` runs the engine over them.
Each case replaces field ``key`` of the answer by the CBOR ``value`` (null: leaves it out); ``pursued`` tells
whether the engine may then go after the manifest, and ``error`` how the refusal begins to read.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

from fota_wire import assignment, cbor, checkin, cose, suit

HERE = Path(__file__).parent
NONCE, SERVER_NONCE = bytes(range(100, 116)), bytes(range(16))
SIZE = 20_000


def load_maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_vectors", HERE / "make_vectors.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def all_lies() -> str:
    """Return the content of the file."""
    m = load_maker()
    roles = {
        0: (2, [m.xy(f"root-{n}") for n in (1, 2, 3)]),
        1: (2, [m.xy(f"release-{n}") for n in (1, 2, 3)]),
        2: (1, [m.xy("assign")]),
    }
    genesis = m.roots.build_root(1, roles)
    for name in ("root-1", "root-2"):
        genesis = m.roots.FORM.add_signature(genesis, m.kid(name), m.signer(name))

    def envelope(*signers: str, sequence: int = 2, **changes: Any) -> bytes:
        fields = {"vendor": m.VENDOR, "device_class": m.CLASS, "size": SIZE, **changes}
        manifest = suit.build_manifest(
            sequence, fields["vendor"], fields["device_class"], m.IMAGE_DIGEST, fields["size"]
        )
        raw = suit.build_envelope(manifest, [])
        for name in signers:
            raw = suit.add_signature(raw, m.kid(name), m.signer(name))
        return raw

    good = envelope("release-1", "release-2")
    digest = suit.parse_envelope(good).manifest_digest

    def order(name: str = "assign", aad: bytes = assignment.AAD, **changes: Any) -> bytes:
        payload: dict[Any, Any] = {
            1: 1,
            2: NONCE,
            3: m.DEVICE,
            4: 1_795_000_000,
            5: 2,
            6: digest,
            7: 1,
            8: 7,
            9: 3600,
        }
        payload.update({int(key[1:]): value for key, value in changes.items()})
        payload = {key: value for key, value in payload.items() if value is not ...}
        return cose.sign1(cbor.encode(payload), m.kid(name), m.signer(name), aad)

    base = {1: 1, 2: order(), 3: [], 4: good, 5: 60, 6: SERVER_NONCE, 7: "none"}
    cases: list[dict[str, Any]] = []

    def lie(name: str, key: int, value: Any, error: str | None = "", pursued: bool = False) -> None:
        encoded = None if value is ... else cbor.encode(value).hex()
        cases.append({"name": name, "key": key, "value": encoded, "error": error, "pursued": pursued})

    lie("true", 7, "none", None, True)
    for key, what in (
        (1, "format"),
        (2, "order"),
        (3, "roots"),
        (5, "interval"),
        (6, "nonce"),
        (7, "status"),
    ):
        lie(f"{what}-missing", key, ..., f"check-in response has no field {key}")
        for kind, value in (("null", None), ("map", {}), ("negative", -1), ("huge", (1 << 64) - 1)):
            lie(f"{what}-{kind}", key, value)
    lie("format-2", 1, 2, "check-in response: format is not 1")
    lie("unknown-field", 8, 0, "check-in response has an unknown field 8")
    lie("extension", 99, b"?", None, True)
    lie("interval-0", 5, 0, None, True)
    lie("interval-most", 5, 0xFFFFFFFF, None, True)
    lie("nonce-short", 6, bytes(15), "nonce has 15 bytes")
    lie("status-long", 7, "x" * 257, "report status is longer")
    lie("five-roots", 3, [b""] * 5, "ROOT steps has 5")
    lie("root-empty", 3, [b""])
    lie("root-is-no-root", 3, [good])
    lie("root-again", 3, [genesis], "ROOT 1 does not follow")
    lie("manifest-missing", 4, ..., "the server withholds")
    lie("manifest-null", 4, None, "the server withholds")
    lie("manifest-number", 4, 5, "manifest is not a byte string")
    lie("manifest-empty", 4, b"")
    lie("manifest-long", 4, bytes(4097), "manifest is longer")
    lie("manifest-cut", 4, good[:-1])
    lie("manifest-one-signature", 4, envelope("release-1"), "1 of 2")
    lie("manifest-unsigned", 4, envelope(), "0 of 2")
    lie("manifest-by-assign", 4, envelope("release-1", "assign"), "1 of 2")
    lie("manifest-other", 4, envelope("release-1", "release-2", sequence=3), "manifest is not the one")
    others: dict[str, dict[str, Any]] = {
        "vendor": {"vendor": bytes(16)},
        "class": {"device_class": bytes(16)},
        "size": {"size": 1 << 30},
    }
    for what, changes in others.items():
        wrong = envelope("release-1", "release-2", **changes)
        lie(f"order-of-wrong-{what}", 4, wrong, "manifest is not the one")
    for key, what in enumerate(
        ("format", "nonce", "device", "time", "sequence", "digest", "root", "campaign", "validity"), 1
    ):
        lie(f"order-{what}-missing", 2, order(**{f"_{key}": ...}), f"ASSIGNMENT has no field {key}")
        for kind, value in (("text", "x"), ("map", {}), ("negative", -1), ("huge", (1 << 64) - 1)):
            lie(f"order-{what}-{kind}", 2, order(**{f"_{key}": value}))
    lie("order-other-nonce", 2, order(_2=bytes(16)), "ASSIGNMENT answers another nonce")
    lie("order-other-device", 2, order(_3=bytes(9)), "ASSIGNMENT is for device")
    lie("order-other-sequence", 2, order(_5=3), "manifest is not the one")
    lie("order-other-digest", 2, order(_6=bytes(32)), "manifest is not the one")
    lie("order-root-2", 2, order(_7=2), "ASSIGNMENT refers to ROOT 2")
    lie("order-root-0", 2, order(_7=0), "ASSIGNMENT refers to old ROOT 0")
    lie("order-campaign-0", 2, order(_8=0), "ASSIGNMENT names a manifest and no campaign")
    lie("order-time-0", 2, order(_4=0), None, True)
    lie("order-time-last", 2, order(_4=(1 << 63) - 1), None, True)
    lie("order-nothing-wanted", 2, order(_6=None), None)
    lie("order-unknown-field", 2, order(_10=0), "ASSIGNMENT has an unknown field 10")
    lie("order-by-release", 2, order("release-1"), "ROOT 1 does not know")
    lie("order-as-report", 2, order(aad=b"fota/report/1"))
    lie("order-long", 2, order() + bytes(512), "ASSIGNMENT is longer")
    constants = {"device": m.DEVICE, "vendor": m.VENDOR, "class": m.CLASS, "nonce": NONCE, "genesis": genesis}
    table = {name: value.hex() for name, value in constants.items()}
    return json.dumps({**table, "answer": checkin_body(base).hex(), "cases": cases}, indent=1) + "\n"


def checkin_body(base: dict[int, Any]) -> bytes:
    """Return the good answer, and see that it is one."""
    raw = cbor.encode(base)
    checkin.parse_response(raw)
    return raw


if __name__ == "__main__":
    (HERE / "lies.json").write_text(all_lies())
