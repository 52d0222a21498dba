"""A file of a wrong kind is named, with the kind that was expected: wherever a command takes a file."""

import base64
import json
import os
import re
import sqlite3
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import click
import pytest
from walk_world import ALL, World, good_value, is_output, line

from fota_signer.examples import example_files
from fota_wire import host_kinds
from fota_wire.errors import InputError
from fota_wire.host_kinds import ALSO, kind_of, what_is
from fota_wire.host_options import FileName

ANY = {("inspect", "file"), ("vdev flash-image", "image")}  # these take whatever there is
WRITTEN = {("vdev create", "file"), ("server signer", "socket")}
FILES = example_files()


def der(pem: bytes) -> bytes:
    """Return the binary form of the last block in PEM."""
    return base64.b64decode(pem.rpartition(b"-----BEGIN ")[2].split(b"-----")[1])


SAMPLES: dict[str, bytes] = {
    host_kinds.IMAGE: b"\x3d\xb8\xf3\x96" + bytes(60),
    host_kinds.ESPRESSIF: b"\xe9\x02\x00\x20" + bytes(60),
    host_kinds.MANIFEST: b"\xd8\x6b\xa2" + bytes(60),
    host_kinds.ROOT: b"\x83\x59\x01\x40\xa6\x01\x01\x02" + bytes(60),
    host_kinds.CAMPAIGN: b"\x81\x58\x40\xa3\x01\x01\x02\x58\x20" + bytes(60),
    host_kinds.MESSAGE: b"\xd2\x84\x43\xa1\x01\x28" + bytes(60),
    host_kinds.PRIVATE: FILES["root-1.pem"],
    host_kinds.PUBLIC: FILES["root-1.pub.pem"],
    host_kinds.CERTIFICATE: FILES["device-ca.crt"],
    host_kinds.DER_CERTIFICATE: der(FILES["device-ca.crt"]),
    host_kinds.DER_PUBLIC: der(FILES["root-1.pub.pem"]),
    host_kinds.DER_PRIVATE: der(FILES["root-1.pem"]),
    host_kinds.OPENSSH: b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    host_kinds.OPENSSH_PUBLIC: b"ecdsa-sha2-nistp256 AAAAE2VjZHNh ci@build\n",
    host_kinds.PKCS12: b"\x30\x82\x04\x10\x02\x01\x03\x30\x82" + bytes(60),
    host_kinds.JWK: b'{"kty": "EC", "crv": "P-256"}',
    host_kinds.REQUEST: b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    host_kinds.TOKEN: b"fota_" + b"0" * 16 + b"_" + b"1" * 64 + b"\n",
    host_kinds.VDEV: b"FOTAVDEV\x01\x00" + bytes(60),
    host_kinds.HEX: b":020000040800F2\n:00000001FF\n",
    host_kinds.ELF: b"\x7fELF" + bytes(60),
    host_kinds.PARTITIONS: b"\xaa\x50\x01\x02" + bytes(60),
    host_kinds.RECORD: json.dumps({"format": 1, "serial": "00"}, indent=1).encode(),
    host_kinds.PLAN: json.dumps({"format": 1, "placeholders": {}}, indent=1).encode(),
    host_kinds.ROLLOUT: json.dumps({"kind": "fota rollout plan", "order": {}}, indent=1).encode(),
    host_kinds.BUS_LOG: json.dumps({"log": "fota bus log", "format": 1}).encode(),
}
FOLDERS = {
    host_kinds.GATEWAY: "gateway.toml",
    host_kinds.SERVER: "config.json",
    host_kinds.BACKUP: "backup.json",
    host_kinds.CARD: "manifest.suit",
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One file or folder of each kind."""
    place = tmp_path_factory.mktemp("kinds")
    made = {kind: place / f"sample-{number}" for number, kind in enumerate((*SAMPLES, *FOLDERS))}
    for kind, content in SAMPLES.items():
        made[kind].write_bytes(content)
    for kind, name in FOLDERS.items():
        made[kind].mkdir()
        (made[kind] / name).touch()
    made[host_kinds.FOLDER] = place / "folder"
    made[host_kinds.FOLDER].mkdir()
    made[host_kinds.DATABASE] = place / "ledger"
    with sqlite3.connect(made[host_kinds.DATABASE]) as database:
        database.execute("CREATE TABLE x (y)")
    database.close()
    return made


def test_every_kind_is_recognised(samples: dict[str, Path]) -> None:
    assert {kind: what_is(path) for kind, path in samples.items()} == {kind: kind for kind in samples}


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"correct horse battery", b"\x00\x00\x01\x20\x01\x43\x00\x08" + bytes(60), b"\xe9t\xe9",
     b"#!/bin/sh\n", b"{}", b"\x83\x01\x02\x03", bytes(range(256)),
     b"\xd8\x6b\x00\x20\xcd\x42\x00\x08" + bytes(60),  # a stack that ends at 0x20006bd8
     b"#!/bin/sh\nca='" + FILES["device-ca.crt"] + b"'\n",
     b"\x00\x00\x01\x20\x01\x43\x00\x08" + FILES["device-ca.crt"],
     FILES["server.pem"] + FILES["server.crt"]],
)  # fmt: skip
def test_what_is_in_doubt_is_left_to_its_reader(content: bytes) -> None:
    assert kind_of(content) is None


def test_files_that_the_commands_make_are_of_their_kinds(world: World) -> None:
    kinds = {
        "image.img": host_kinds.IMAGE,
        "release.suit": host_kinds.MANIFEST,
        "root.cbor": host_kinds.ROOT,
        "app.campaign": host_kinds.CAMPAIGN,
        "blank.vdev": host_kinds.VDEV,
        "image-a.pem": host_kinds.PRIVATE,
        "app.bin": None,
    }
    assert {name: what_is(world.folder / name) for name in kinds} == kinds


def inputs() -> list[tuple[str, click.Parameter]]:
    return [
        (path, param)
        for path, command in ALL.items()
        for param in command.params
        if isinstance(param.type, FileName) and not is_output(param) and (path, param.name) not in WRITTEN
    ]


def test_every_input_says_what_it_has_to_be_and_names_what_it_is_not(samples: dict[str, Path]) -> None:
    faults = []
    for path, param in inputs():
        assert isinstance(param.type, FileName)
        if (path, param.name) in ANY:
            continue
        taken = {*param.type.kinds, *(also for kind in param.type.kinds for also in ALSO.get(kind, ()))}
        if not taken:
            faults.append(f"{path} {param.name}: takes anything")
        for kind, sample in samples.items():
            said = ""
            try:
                param.type.convert(str(sample), param, None)
            except InputError as exc:
                said = exc.message
            wrong = f"{sample} is {kind}, expected {' or '.join(param.type.kinds)}"
            if (kind in taken) == bool(said) or (said and wrong not in said):
                faults.append(f"{path} {param.name}: {kind}: {said!r}")
    assert not faults, "\n".join(faults)


def swaps() -> list[tuple[str, str, str]]:
    """Every two files that a command cannot do without; options are tried one by one, above."""
    found = []
    for path in ALL:
        own = [
            param for at, param in inputs() if at == path and param.required and (path, param.name) not in ANY
        ]
        found += [(path, str(one.name), str(two.name)) for one, two in combinations(own, 2)]
    return found


THEMSELVES = {
    "a key": FILES["image-a.pem"].decode(),
    "a key in one line": FILES["image-a.pem"].decode().replace("\n", " "),
    "a token": "fota_" + "0" * 16 + "_" + "1" * 64,
    "lines": "one\ntwo",
}


@pytest.mark.parametrize("what", THEMSELVES)
def test_what_a_file_should_hold_is_no_name_of_one_and_is_not_shown(world: World, what: str) -> None:
    """A variable of the wrong type in CI: --key "$KEY"."""
    for _, param in inputs():
        with pytest.raises(InputError, match="that is no name of a file, but what is to be in it") as refused:
            param.type.convert(THEMSELVES[what], param, None)
        assert THEMSELVES[what][:8] not in str(refused.value)
    words = (
        "sign app.bin -o new --version 1.2.3 --security-counter 3 --model m --vendor-domain example.com --key"
    )
    done = world.run([*words.split(), THEMSELVES[what]])  # this command reads its line by itself
    assert done["code"] == 3
    assert done["err"].startswith("fota: error: --key: that is no name of a file")


@pytest.mark.parametrize("option", ["--password-file", "--token-file"])
def test_name_of_a_secret_that_is_not_there_is_not_shown(world: World, option: str) -> None:
    words = "manifest sign release.suit --key release-3.pem -o new"
    if option == "--token-file":
        words = "release list --server https://127.0.0.1:1"
    done = world.run([*words.split(), option, "correct-horse-battery"])
    assert (done["code"], done["err"].count("\n")) == (3, 1), done
    assert "there is no such file with the " in done["err"]
    assert "correct-horse" not in done["err"]


def test_swapped_files_are_named_by_every_command(world: World) -> None:
    faults = []
    for path, one, two in swaps():
        command = ALL[path]
        params = {str(param.name): param for param in command.params}
        values = {name: good_value(path, params[name]) for name in (one, two)}
        known = {name: what_is(world.folder / value) for name, value in values.items()}
        fits = [known[b] in _taken(params[a]) or known[b] is None for a, b in ((one, two), (two, one))]
        if all(fits):
            continue  # a password file and a raw binary look like anything
        done = world.run(line(path, command, {one: values[two], two: values[one]}))
        if done["code"] != 3 or not re.search(r" is (an?|the) .*, expected ", done["err"]):
            faults.append(f"{path} --{one} and --{two}: {done['code']}: {done['err']}")
    assert not faults, "\n".join(faults)
    assert world.snapshot() == world.files


def _taken(param: click.Parameter) -> set[str]:
    assert isinstance(param.type, FileName)
    return {*param.type.kinds, *(also for kind in param.type.kinds for also in ALSO.get(kind, ()))}


OPERATOR = {"FOTA_SERVER": "https://127.0.0.1:1", "FOTA_TOKEN": "x"}


@pytest.mark.parametrize(
    ("line", "env", "said"),
    [
        ("release publish release.suit image.img", OPERATOR,
         "IMAGE: release.suit is a manifest, expected a signed image"),
        ("manifest sign image.img --key release-1.pem -o out", {},
         "ENVELOPE: image.img is a signed image, expected a manifest"),
        ("manifest new image.img -o out --sequence 1 --root release.suit", {},
         "--root: release.suit is a manifest, expected a ROOT"),
        ("sign release.suit -o out --key image-a.pem --version 1.2.3 --security-counter 1 --model m"
         " --vendor-domain example.com", {},
         "FIRMWARE: release.suit is a manifest, expected firmware as the linker made it"),
        ("sign app.bin -o out --key image-a.pem --version 1.2.3 --security-counter 1 --model m"
         " --vendor-domain example.com --password-file root.cbor", {},
         "--password-file: root.cbor is a ROOT, expected a password or PIN"),
        ("inspect ci.token", {}, "ci.token: not firmware, an image, manifest, ROOT, assignment, report or PEM"
                                 " key: it is an API token"),
        ("agent run --gateway blank.vdev", {},
         "--gateway: blank.vdev is a virtual device, expected a gateway's folder"),
        ("agent run --vdev gateway", {}, "--vdev: gateway is a folder, expected a virtual device"),
        ("server run --data root.cbor", {}, "--data: root.cbor is a ROOT, expected a server's folder"),
        ("server run --data app.bin", {}, "--data: app.bin is a file, expected a server's folder"),
        ("server init --data new --keys keyz", {}, "--keys keyz: no such folder"),
        ("server init --data new --keys root.cbor", {}, "--keys: root.cbor is a ROOT, expected a folder"),
        ("release list", OPERATOR | {"FOTA_TOKEN": "ci.token"},
         "FOTA_TOKEN is the name of a file; it stands for the API token itself: --token-file ci.token"),
        ("release list", OPERATOR | {"FOTA_TOKEN": "no.such"},
         "FOTA_TOKEN has characters that no API token has: put the token itself into it"),
        ("release list --token-file image-a.pem", OPERATOR,
         "--token-file: image-a.pem is a private key, expected an API token"),
        ("release list", OPERATOR | {"FOTA_CA": "gateway"},
         "--ca [FOTA_CA]: gateway is a folder, expected a certificate"),
        ("release list", OPERATOR | {"FOTA_CA": "image-a.pem"},
         "--ca [FOTA_CA]: image-a.pem is a private key, expected a certificate"),
        ("keys show image-a.p8", {},
         "FILE: image-a.p8 is a private key in DER, expected a private key or a public key or a certificate;"
         " make PEM of it: fota keys import"),
        ("keys import id_ecdsa --role image/x -o out", {},
         "FILE: id_ecdsa is a private key of OpenSSH, expected a private key or a private key in DER; make"
         " PEM of a copy: ssh-keygen -p -m PKCS8 -f COPY"),
        ("ca show ca.der", {}, "CERTIFICATE: ca.der is a certificate in DER, expected a certificate in PEM:"
                               " openssl x509 -inform der -in FILE -out NEW"),
        ("release list", OPERATOR | {"FOTA_CA": "ca.der"},
         "--ca [FOTA_CA]: ca.der is a certificate in DER, expected a certificate in PEM:"
         " openssl x509 -inform der -in FILE -out NEW"),
        ("inspect ca.der", {}, "ca.der: not firmware, an image, manifest, ROOT, assignment, report or PEM"
                               " key: it is a certificate in DER"),
        ("keys show root.cbor", {},
         "FILE: root.cbor is a ROOT, expected a private key or a public key or a certificate"),
        ("root new --assign-key server-ca.crt -o out", {},
         "--assign-key: server-ca.crt is a certificate, expected a public key; if its key is meant:"
         " fota keys public"),
        ("root new --root-key /dev/stdin -o out", {},
         "/dev/stdin: a certificate, where the public key of role root is wanted; if its key is meant:"
         " fota keys public /dev/stdin -o NEW"),
    ],
)  # fmt: skip
def test_wrong_file_is_named_where_people_met_it(
    world: World, tmp_path: Path, line: str, env: dict[str, str], said: str
) -> None:
    for name in ("release.suit", "image.img", "blank.vdev", "root.cbor", "app.bin", "image-a.pem",
                 "image-a.pub.pem", "release-1.pem", "server-ca.crt"):  # fmt: skip
        (tmp_path / name).symlink_to(world.folder / name)
    (tmp_path / "gateway").mkdir()
    (tmp_path / "app.hex").write_bytes(SAMPLES[host_kinds.HEX])
    (tmp_path / "ca.der").write_bytes(SAMPLES[host_kinds.DER_CERTIFICATE])
    (tmp_path / "image-a.p8").write_bytes(SAMPLES[host_kinds.DER_PRIVATE])
    (tmp_path / "id_ecdsa").write_bytes(SAMPLES[host_kinds.OPENSSH])
    (tmp_path / "ci.token").write_bytes(SAMPLES[host_kinds.TOKEN])
    before = sorted(tmp_path.iterdir())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FOTA_")}
    done = subprocess.run(
        [sys.executable, "-m", "fota_cli", *line.split()],
        cwd=tmp_path, env=clean | env, capture_output=True, text=True, check=False,
        input=(world.folder / "server-ca.crt").read_text(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, f"fota: error: {said}\n")
    assert sorted(tmp_path.iterdir()) == before
