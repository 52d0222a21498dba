"""Every command of ``fota``, a folder with a good file of every kind, and a process that runs lines in it."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from lifeline import HANG_S

from fota_cli.main import cli
from fota_signer.examples import example_files
from fota_wire import host_note, host_tree
from fota_wire.host_note import LOG, Checkpoint, Signer
from fota_wire.host_options import FileName

WORDS = {
    "label": "image/x", "version": "1.2.3", "model": "m", "vendor_domain": "example.com", "name": "x",
    "device_id": "012300000000000001", "device_ids": "012300000000000001", "server_url": "https://h:1",
    "server": "https://127.0.0.1:1", "module": "/none.so", "token": "t", "slot": "A", "role": "read",
    "security_counter": "3", "sequence": "1", "number": "1", "count": "1", "at": "1", "bank": "1",
    "waves": "5% 2096-12-01 2097-01-01", "class_id": "1" * 32, "vendor_id": "1" * 32, "duration": "0.1",
}  # fmt: skip
FILES = {
    "source": "app.bin", "image": "image.img", "image_file": "image.img", "envelope": "release.suit",
    "document": "root.cbor", "root": "root.cbor", "root_file": "root.cbor", "genesis_root": "root.cbor",
    "roots": "root.cbor", "device": "blank.vdev", "ca_key": "device-ca.pem", "device_ca_key": "device-ca.pem",
    "ca_cert": "device-ca.crt", "device_ca_cert": "device-ca.crt", "server_ca": "server-ca.crt",
    "ca": "server-ca.crt", "certificate": "device-ca.crt", "root_key": "root-1.pub.pem",
    "release_key": "release-1.pub.pem", "assign_key": "assign.pub.pem", "key": "image-a.pem",
    "image_key": "image-a.pub.pem", "root_a": "image-a.pub.pem", "root_b": "image-b.pub.pem",
    "policy_file": "fota.toml", "campaign_key": "campaign.pub.pem", "manifest_file": "release.suit",
    "signing": "root-1.pem", "retire_image_key": "image-b.pub.pem", "password_file": "password",
    "ca_password_file": "password", "token_file": "password", "pin_file": "password", "folder": "gateway",
    "tls_cert": "server.crt", "tls_key": "server.pem", "device_ca": "device-ca.crt",
    "bootloader": "app.bin", "record": "record.json", "log": "record.json", "ledger": "ledger.sqlite",
}  # fmt: skip
OUTPUTS = ("output", "prepare", "cert", "certificate_out", "request_out", "csv_out", "bus_log")
FOLDERS = {"data": "data", "keys": ".", "directory": "new/keys", "devices": "new/devices", "work": "new/work",
           "card": "card", "output": "new/out", "folder": "gateway"}  # fmt: skip
ONLY = {  # file -> what it is for this command alone
    ("inspect", "file"): "image.img", ("verify", "file"): "image.img", ("verify", "key"): "image-a.pub.pem",
    ("root sign", "file"): "root.cbor", ("root sign", "key"): "root-3.pem",
    ("root show", "file"): "root.cbor",
    ("campaign sign", "file"): "app.campaign", ("campaign show", "file"): "app.campaign",
    ("campaign sign", "key"): "campaign.pem",
    ("manifest sign", "file"): "release.suit", ("manifest sign", "key"): "release-3.pem",
    ("manifest verify", "file"): "release.suit", ("keys show", "file"): "image-a.pem",
    ("keys public", "file"): "image-a.pem", ("provision run-plan", "plan_file"): "record.json",
    ("provision load", "hex_file"): "app.bin", ("server init", "assign_key"): "assign.pem",
    ("server run", "assign_key"): "assign.pem", ("vdev create", "file"): "new.vdev",
    ("log show", "key"): "log.pub", ("log verify", "key"): "log.pub", ("log witness", "key"): "log.pub",
    ("log verify", "last"): "log.head", ("log witness", "last"): "log.head",
    ("log witness", "witness_key"): "witness.key", ("log receipt", "manifest"): "release.suit",
    ("sign-list", "listed"): "images.txt",
}  # fmt: skip
RELEASE_POLICY = """\
format = 1
product = {vendor-domain = "example.com", model = "m"}
firmware = {file = "app.bin", linked-for = 0x08004200}
version.fixed = "1.2.3"
sequence.number = 1
security-counter.number = 3
keys.image = "image-a.pem"
signed = {root = "root.cbor", image = ["image-a.pub.pem"]}
refuse = {dirty = false, development-keys = false}
"""

LOG_SIGNER = Signer("log.example/l", LOG, bytes(range(32)))


def leaves(command: click.Command, path: tuple[str, ...], ctx: click.Context) -> Iterator[Any]:
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            yield from leaves(command.get_command(ctx, name), (*path, name), ctx)
    else:
        yield " ".join(path), command


ALL = dict(leaves(cli, (), click.Context(cli)))


class World:
    """A folder with a good file of every kind, and a process that runs commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        env = {name: value for name, value in os.environ.items() if not name.startswith("FOTA_")}
        env |= {
            "FOTA_ALLOW_EXAMPLE_KEYS": "1",
            "FOTA_TOKEN": "x",
            "FOTA_KEY_PASSWORD": "correct horse battery",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(Path(__file__).with_name("walker.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=env,
        )  # fmt: skip
        for name, content in example_files().items():
            (folder / name).write_bytes(content)
        vectors = struct.pack("<II", 0x20010000, 0x08004301)
        (folder / "app.bin").write_bytes(vectors + bytes(range(256)) * 11)
        (folder / "password").write_text("correct horse battery\n")
        (folder / "record.json").write_text("{}")
        (folder / "random").write_bytes(os.urandom(1 << 20))
        (folder / "empty").touch()
        (folder / "unreadable").write_text("x")
        (folder / "unreadable").chmod(0)
        (folder / "closed").mkdir(mode=0o500)
        for name in ("data", "gateway", "card"):
            (folder / name).mkdir()
        model = ("--vendor-domain", "example.com", "--model", "m")
        (folder / "images.txt").write_text("app.bin -o new/listed.img --version 1.0.0 --security-counter 3"
                                           f" --linked-for 0x08004200 {' '.join(model)}\n")  # fmt: skip
        self.good("sign", "app.bin", "-o", "image.img", "--key", "image-a.pem", "--version", "1.2.3",
                  "--security-counter", "3", "--linked-for", "0x08004200", *model)  # fmt: skip
        self.good("manifest", "new", "image.img", "-o", "release.suit", "--sequence", "1", *model)
        for number in "12":
            key = f"release-{number}.pem"
            self.good("manifest", "sign", "release.suit", "-o", "release.suit", "--key", key)
        keys = [word for role in ("root", "release") for number in "123"
                for word in (f"--{role}-key", f"{role}-{number}.pub.pem")]  # fmt: skip
        self.good("root", "new", *keys, "--assign-key", "assign.pub.pem", "-o", "root.cbor",
                  "--sign", "root-1.pem", "--sign", "root-2.pem")  # fmt: skip
        self.good("log", "new-witness", "witness.example/w", "-o", "witness.key")
        head = Checkpoint("log.example/l", 0, host_tree.EMPTY)
        (folder / "log.pub").write_text(f"{LOG_SIGNER.public}\n")
        (folder / "log.head").write_bytes(host_note.sign_checkpoint(head, LOG_SIGNER))
        self.good("keys", "new", "campaign/x", "-o", "campaign.pem")
        self.good("keys", "public", "campaign.pem", "-o", "campaign.pub.pem")
        self.good(
            "campaign", "new", "release.suit", "--wave", "5% 2096-12-01 2097-01-01", "-o", "app.campaign"
        )
        (folder / "fota.toml").write_text(RELEASE_POLICY)
        self.good("vdev", "create", "blank.vdev", "--seed", "1")
        self.files = self.snapshot()

    def run(self, words: list[str], **case: Any) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"words": words, **case}) + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))

    def good(self, *words: str) -> None:
        done = self.run(list(words))
        assert done["code"] == 0, done

    def snapshot(self) -> dict[str, tuple[int, int]]:
        """What is there; ledgers, records, locks and blank devices change in ways that harm nobody."""
        found = {}
        for place, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name != "provisioning"]
            for name in names:
                if not name.endswith(("lock", ".vdev", ".sqlite")):
                    state = os.lstat(f"{place}/{name}")
                    found[f"{place}/{name}"] = state.st_size, state.st_mtime_ns
        return found

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(HANG_S)
        self.process.stdout.close()


def is_output(param: click.Parameter) -> bool:
    return isinstance(param.type, FileName) and param.name in OUTPUTS and param.type.name == "file"


def good_value(path: str, param: click.Parameter) -> str:
    if (path, param.name) in ONLY:
        return ONLY[path, param.name]
    if is_output(param):
        return f"new-{param.name}"
    if isinstance(param.type, FileName):
        table = FOLDERS if param.type.name == "folder" else FILES
        return table.get(param.name or "", "blank.vdev")
    if isinstance(param.type, click.Choice):
        return WORDS.get(param.name or "", str(param.type.choices[0]))
    return WORDS.get(param.name or "", "1")


def line(path: str, command: click.Command, changed: dict[str, str]) -> list[str]:
    """Return a command line that is good but for what is ``changed``: all that is required, and these."""
    words, end = path.split(), []
    for param in command.params:
        wanted = param.required or param.name in changed or (path, param.name) in (
            ("agent run", "device"), ("agent run", "duration"), ("provision look", "file"),
            ("provision device", "file"), ("provision run-plan", "file"), ("sign", "vendor_domain"),
            ("sign", "model"), ("manifest new", "vendor_domain"), ("manifest new", "model"),
            ("rollout start", "device"), ("rollback", "device"), ("device rotate", "device_ids"),
            ("device renew", "device_ids"),
        ) or param.name == "server"  # fmt: skip
        if not wanted or getattr(param, "is_flag", False):
            continue
        value = changed.get(param.name or "", good_value(path, param))
        if isinstance(param, click.Argument):
            end.append(value)
        else:
            words += [f"{param.opts[-1]}={value}" if param.opts[-1].startswith("--") else param.opts[-1]]
            words += [] if param.opts[-1].startswith("--") else [value]
    return [*words, *end]
