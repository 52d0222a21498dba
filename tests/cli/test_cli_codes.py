"""Exit codes 2, 3 and 5 against the table in docs/command-line.md: words, inputs and machine kept apart."""

import pytest
from walk_world import World

MODEL = "--vendor-domain example.com --model m"
KEYS = "--release-key release-1.pub.pem --release-key release-2.pub.pem --assign-key assign.pub.pem"
FACTORY = ("--image-key-a image-a.pub.pem --image-key-b image-b.pub.pem --ca-key device-ca.pem"
           " --ca-cert device-ca.crt")  # fmt: skip
GATEWAY = ("--image image.img --image-key image-a.pub.pem --root root.cbor --server https://h"
           f" --server-ca server-ca.crt {MODEL} --token t --pin-file password --ca-key device-ca.pem"
           " --ca-cert device-ca.crt")  # fmt: skip
SIGN = "sign app.bin -o new --key image-a.pem --version 1.2.3 --security-counter 3"
LINKED = f"{SIGN} {MODEL} --linked-for 0x08004200"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        # words that are missing
        (SIGN, 2, "say which device class: --class UUID"),
        (f"{SIGN} --model m", 2, "--model needs --vendor-domain"),
        (f"manifest new image.img -o new --sequence 1 --class {'1' * 32}", 3, "is for class"),
        (f"root new {KEYS} -o new", 2, "no key of role root: name them with --root-key"),
        ("verify image.img", 2, "say which keys devices accept"),
        ("server init --data new", 2, "name the folder of all files by --keys, or --tls-cert"),
        ("server init --data new --root root.cbor", 2, "or --tls-cert, --tls-key, --device-ca, --assign-key"),
        ("release list --server=", 2, "which server? pass --server"),
        # words that do not go together
        (f"{SIGN} {MODEL} --program --linked-for 0x08004200", 2, "are for firmware, not for a --program"),
        # words that are there twice: of two values, one would be left out
        (f"{LINKED} --key image-b.pem", 2, "--key is given twice, and takes one value (see 'fota sign"),
        (f"{LINKED} --version=1.2.4", 2, "--version is given twice, and takes one value"),
        (f"{LINKED} --output image.img", 2, "--output is given twice, and takes one value"),
        ("manifest sign release.suit --key release-1.pem --key release-3.pem", 2, "--key is given twice"),
        ("agent run --vdev blank.vdev --once --until-idle", 2, "--once and --until-idle exclude each other"),
        # inputs
        ("server init --data new --keys closed", 3, "--keys closed: there is no server.crt (--tls-cert)"),
        ("server run --data gateway", 3, "gateway is not set up"),
        (f"provision device blank.vdev {FACTORY} --ledger root.cbor", 3, "root.cbor is a ROOT"),
        (f"provision device blank.vdev {FACTORY} --ledger random", 3, "ledger random: not a database"),
        ("provision export random", 3, "ledger random: not a database"),
        ("verify none --key image-a.pub.pem", 3, "none: No such file"),
        (f"gateway init gw {GATEWAY} --module /no/such.so", 3,
         "--module /no/such.so: cannot open shared object file: No such file"),
        (f"gateway init gw {GATEWAY} --module ./random", 3, "--module ./random: invalid ELF header"),
        ("agent run --vdev blank.vdev --from gateway --once", 3, "--from gateway: no manifest.suit in it"),
        ("agent run --vdev blank.vdev --from card --once", 3, "--from card: no payload/"),
        # values that are none
        (f"{SIGN} --class 00000000-0000-0000-0000-000000000000", 3, "names nobody"),
        (f"{SIGN} --class {'F' * 32}", 3, "names nobody"),
        ("rollout plan 1.1.0 --group g -o new --price nan --server https://h", 3, "'nan' is no price"),
        ("rollout plan 1.1.0 --group g -o new --price 1e400 --server https://h", 3, "'1e400' is no price"),
        # values that are written in one way
        (f"{SIGN.replace('1.2.3', '01.02.3')} {MODEL}", 3, "version '01.02.3': a number in it begins with 0"),
        (f"{SIGN.replace('1.2.3', '1.2.3+07')} {MODEL}", 3, "begins with 0"),
        (f"manifest new image.img -o new --sequence 4294967295 {MODEL}", 3, "of 0 to 4293918719"),
        (f"root new --root-version 4294967295 {KEYS} --root-key root-1.pub.pem --root-key root-2.pub.pem"
         " -o new", 1, "no ROOT could follow version 4294967295 for long"),
        ("device show 01230000000000000 --server https://h", 3, "is not the id of a device, 18 hex digits"),
        ("rollback --device x --server https://h", 3, "--device: 'x' is not the id of a device"),
        ("rollout start 1.1.0 --device", 2,
         "Option '--device' requires an argument (see 'fota rollout start --help')"),
        ("rollback --server https://h", 2, "name --device, --group, --rollout or --since"),
        ("rollback --since noon --server https://h", 3, "--since: 'noon' is no time such as 2026-"),
        ("rollback --rollout 1 --waves 1,rest --server https://h", 2, "no --to, --since or waves"),
        ("rollback --since 2026-12-01 --group g --server https://h", 2, "--since is about all devices"),
        ("rollout show 9223372036854775808 --server https://h", 3, "'9223372036854775808' is too large"),
        ("audit verify none.jsonl", 3, "none.jsonl: No such file"),
        ("server init --data new --keys . --host 300.1.1.1", 3, "--host: '300.1.1.1' is no address"),
        ("server init --data new --keys . --operator-host a..b", 3, "--operator-host: 'a..b' is no address"),
        ("server init --data new --keys . --port 8444", 3, "--port and --operator-port are both 8444"),
        ("server init --data new --keys . --operator-port 8443", 3, "and --operator-port are both 8443"),
        ("release list --server https://h:84433/path", 3,
         "--server https://h:84433/path: there is a path behind it, /path: host and port alone"),
        ("release list --server https://h:84433", 3, "its port 84433 is not one of 1 to 65535"),
        ("release list --server h:8444", 3, "it lacks https:// in front: https://h:8444"),
        (f"root new {KEYS} --root-key root-1.pub.pem --root-key root-2.pub.pem -o new"
         " --server-url https://h:84433", 3, "--server-url https://h:84433: its port 84433 is not"),
        (f"gateway init gw {GATEWAY.replace('https://h', 'https://h:84433/x')} --module ./random", 3,
         "--server https://h:84433/x: its port 84433 is not one of 1 to 65535"),
        ("provision hex --server-url https://H record.json", 3,
         "--server-url https://H: its host is in capitals: say h"),
        # folders that are missing
        (f"{LINKED.replace('-o new', '-o nowhere/new')}", 3, "error: nowhere: no such folder: make it"),
        ("keys new image/x -o nowhere/x.pem", 3, "error: nowhere: no such folder: make it first"),
        ("ca new -o nowhere/ca.pem --cert nowhere/ca.crt --name x", 3, "error: nowhere: no such folder"),
        ("vdev create nowhere/x.vdev", 3, "error: nowhere: no such folder: make it first"),
        ("vdev create app.bin/x.vdev", 3, "error: app.bin is no folder"),
        ("vdev run nowhere/x.vdev", 3, "error: nowhere/x.vdev: no such virtual device; make one with"),
        ("vdev run blank.vdev --bus-log nowhere/log", 3, "error: nowhere: no such folder: make it first"),
        (f"provision device blank.vdev {FACTORY} --ledger nowhere/l", 3, "error: nowhere: no such folder"),
        # an output that exists hides no other fault, and is told before a password is asked for
        (LINKED.replace("-o new", "-o image.img").replace("app.bin", "empty"), 3, "empty: linked for"),
        (LINKED.replace("-o new", "-o image.img").replace("1.2.3", "1..2"), 3, "version '1..2'"),
        (LINKED.replace("-o new", "-o image.img"), 3, "image.img exists: choose another name"),
        (f"manifest new image.img -o root.cbor --sequence 1 --class {'1' * 32}",
         3, "is for class"),
        ("manifest sign random --key release-3.pem -o release.suit", 3, "random: "),
        ("manifest sign release.suit --key release-3.pem -o image.img", 3, "image.img exists: choose"),
        ("manifest merge release.suit random -o image.img", 3, "random: "),
        (f"root new {KEYS} -o root.cbor", 2, "no key of role root"),
        (f"root new {KEYS} --root-key root-1.pub.pem --root-key root-2.pub.pem -o root.cbor", 3,
         "root.cbor exists: choose another name, or say --force"),
        ("root sign random --key root-3.pem -o image.img", 3, "random: "),
        ("root sign root.cbor --key root-3.pem -o image.img", 3, "image.img exists: choose another name"),
        ("keys import random --role image/x -o image.img", 3, "random: "),
        # a backup that is none
        ("server restore . --data new", 3, ".: no backup of a server: there is no backup.json in it"),
        ("server restore nowhere --data new", 3, "nowhere: no backup of a server: there is no such folder"),
        # this machine
        ("provision export closed/none", 3, "closed/none: no such ledger"),
        (f"provision device blank.vdev {FACTORY} --ledger closed/ledger", 5, "closed/ledger: cannot be"),
        ("verify unreadable --key image-a.pub.pem", 5, "unreadable: Permission denied"),
    ],
)  # fmt: skip
def test_exit_code_is_the_documented_one(world: World, line: str, code: int, said: str) -> None:
    if " card " in line:
        (world.folder / "card/manifest.suit").write_bytes((world.folder / "release.suit").read_bytes())
    done = world.run(line.split(), weak=True)
    (world.folder / "card/manifest.suit").unlink(missing_ok=True)
    assert (done["code"], done["err"].count("\n")) == (code, 1), done
    assert said in done["err"]
    assert world.snapshot() == world.files


def test_token_that_is_nowhere_is_a_matter_of_words(world: World) -> None:
    done = world.run(["release", "list", "--server", "https://127.0.0.1:1"], env={"FOTA_TOKEN": ""})
    assert (done["code"], done["err"]) == (
        2, "fota: error: no API token: pass --token-file FILE, or set FOTA_TOKEN\n"
    )  # fmt: skip


def test_two_planes_may_have_one_port_of_two_addresses(world: World) -> None:
    line = "server init --data two --keys . --host 127.0.0.2 --port 8444"
    done = world.run(line.split())
    assert (done["code"], done["err"].count("\n")) == (0, 1), done  # a warning: no IMAGE key
    for path in sorted((world.folder / "two").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (world.folder / "two").rmdir()


def test_version_with_build_zero_is_shown_as_it_is_kept(world: World) -> None:
    done = world.run(f"{SIGN.replace('1.2.3', '1.2.3+0')} {MODEL} --linked-for 0x08004200".split())
    (world.folder / "new").unlink()
    assert done["out"].startswith("new: 1.2.3, security counter 3"), done
