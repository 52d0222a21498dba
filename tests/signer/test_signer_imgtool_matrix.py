"""imgtool's options, each and in combinations: `fota inspect` explains every image that it makes, whole, and
says what our bootloader has against it: nothing, exactly where the strict reader takes it.
"""

import itertools
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imgtool.main import imgtool

from fota_signer import describe, mcuboot
from fota_wire import image
from fota_wire.errors import FotaError

VALUES = {  # what is chosen of each option; None leaves it out
    "key": (None, "ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-3072"),
    "--header-size": ("0x200", "0x20", "0x400"),
    "--version": ("1.2.3+4", "0.0.0", "255.255.65535+4294967295"),
    "--security-counter": (None, "0", "1", "auto", "262144"),
    "--cid": (None, "00000000-0000-4000-8000-000000000001"),
    "--vid": (None, "example.com"),
    "--align": ("1", "8", "32"),
    "--public-key-format": (None, "full"),
    "--sha": (None, "256", "384", "512"),
    "--rom-fixed": (None, "0x08004000", "0x08020000"),
    "--load-addr": (None, "0x20000000"),
    "--encrypt": (None, "enc-ecdsa-p256.pem", "enc-rsa-2048.pem", "enc-x25519.pem"),
    "--encrypt-keylen": (None, "256"),
    "--hmac-sha": (None, "512"),
    "--compression": (None, "lzma2", "lzma2armthumb"),
    "--dependencies": (None, "(1, 1.2.3+0)"),
    "--boot-record": (None, "SPE"),
    "--erased-val": (None, "0"),
    "--endian": (None, "big"),
    "--max-align": (None, "32"),
    "--max-sectors": (None, "256"),
}
FLAGS = ("--pure", "--pad", "--test", "--confirm", "--overwrite-only", "--clear", "--save-enctlv",
         "--non-bootable", "--pad-sig")  # fmt: skip
TLVS = (None, ("0x00a0", "stm32u585"), ("0x00b0", "0x1234"))
CHOICES = {**VALUES, **dict.fromkeys(FLAGS, (False, True)), "--custom-tlv": TLVS}
NOT_HERE = {
    "--slot-size": "always given", "--pad-header": "always given", "--hex-addr": "of HEX, which is firmware",
    "--vector-to-sign": "gives no image", "--sig-out": "a second file, nothing of the image",
    "--fix-sig": "the same bytes by another road", "--fix-sig-pubkey": "the same",
    "--custom-tlv-file": "the same bytes as --custom-tlv", "--key": "as key", "--help": "",
}  # fmt: skip


def call(*words):
    return CliRunner().invoke(imgtool, list(words), catch_exceptions=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("imgtool")
    code = struct.pack("<II", 0x20010000, 0x08004241) + bytes(range(256)) * 8
    (made / "app.bin").write_bytes(code)
    for kind in filter(None, VALUES["key"]):
        assert call("keygen", "-k", str(made / f"{kind}.pem"), "-t", kind).exit_code == 0
    for name in filter(None, VALUES["--encrypt"]):
        kind, private = name.removeprefix("enc-").removesuffix(".pem"), str(made / f"private-{name}")
        assert call("keygen", "-k", private, "-t", kind).exit_code == 0
        assert call("getpub", "-k", private, "-e", "pem", "-o", str(made / name)).exit_code == 0
    return made


def made_by(folder, chosen):
    """Return the image of these choices; None: imgtool does not take them together."""
    words = ["sign", "--pad-header", "--slot-size", "0x20000"]
    for option, value in chosen.items():
        if option == "key":
            words += ["--key", str(folder / f"{value}.pem")] if value else []
        elif option == "--encrypt":
            words += [option, str(folder / value)] if value else []
        elif option == "--custom-tlv":
            words += [option, *value] if value else []
        elif value is True:
            words.append(option)
        elif value:
            words += [option, value]
    out = folder / "out.img"
    out.unlink(missing_ok=True)
    done = call(*words, str(folder / "app.bin"), str(out))
    return out.read_bytes() if done.exit_code == 0 and out.exists() else None


def require_explained(data, chosen):
    path = Path("out.img")
    if chosen.get("--endian") == "big":
        with pytest.raises(FotaError, match="big-endian"):
            describe.describe(path, data)
        return
    shown = describe.describe(path, data)
    found = mcuboot.Explained(data)
    assert shown["kind"] == "image"
    try:
        image.parse_image(data, programs=True)
        taken = True
    except FotaError:
        taken = False
    refused = shown.get("refused_for", [])
    assert (refused == []) == taken, refused
    assert not found.flags & ~sum(mcuboot._FLAGS), "each flag has a name"
    kinds = {kind for kind, _ in found.protected + found.unprotected}
    assert not [kind for kind in kinds if mcuboot.tlv_name(kind) == "unknown"]
    said = " ".join(map(str, refused))
    for option, word in (("--pad", "trailer"), ("--encrypt", "ENC_"), ("--pure", "SIG_PURE")):
        assert not chosen.get(option) or word in said or not taken, refused


def test_every_option_of_imgtool_is_tried_or_named():
    known = {
        name for param in imgtool.commands["sign"].params for name in param.opts if name.startswith("--")
    }
    assert known - set(CHOICES) - set(NOT_HERE) == set()


@pytest.mark.parametrize("option", CHOICES)
@pytest.mark.parametrize("key", ["ecdsa-p256", "ed25519", "rsa-2048"])
def test_image_by_one_option_beside_the_usual_ones_is_explained(folder, option, key):
    usual = {"key": key, "--header-size": "0x200", "--version": "1.2.3+4", "--align": "8",
             "--security-counter": "5", "--cid": VALUES["--cid"][1]}  # fmt: skip
    made = [
        (chosen, made_by(folder, chosen)) for value in CHOICES[option] for chosen in [usual | {option: value}]
    ]
    assert any(data for _, data in made)
    for chosen, data in made:
        if data is not None:
            require_explained(data, chosen)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in CHOICES.items()}))
def test_image_by_any_options_is_explained(folder, chosen):
    data = made_by(folder, chosen)
    if data is not None:
        require_explained(data, chosen)


def test_image_of_two_options_is_explained(folder):
    usual = {"key": "ecdsa-p256", "--header-size": "0x200", "--version": "1.2.3", "--align": "8"}
    made = 0
    for one, other in itertools.combinations([name for name in CHOICES if name not in usual], 2):
        chosen = usual | {one: CHOICES[one][-1], other: CHOICES[other][-1]}
        data = made_by(folder, chosen)
        if data is not None:
            made += 1
            require_explained(data, chosen)
    assert made > 100
