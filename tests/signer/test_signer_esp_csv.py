"""A partition table as CSV becomes the bytes that Espressif's own tool makes of it (esp-idf-defs)."""

import random

import pytest
from esp_idf_defs.partitions import InputError as TheirError
from esp_idf_defs.partitions import PartitionTable

from fota_signer.factory import esp_csv, esp_flash
from fota_wire import esp_partitions, status
from fota_wire.chips import esp32c3
from fota_wire.errors import FotaError, InputError, VerifyError

OWN = """# Name,   Type, SubType, Offset,  Size, Flags
nvs,      data, nvs,     0x9000,  0x5000,
otadata,  data, ota,     ,        8K
fota,     0x40, 1,       0x10000, 32k,

app0,     app,  ota_0,   ,        1M,   encrypted
app1,     APP,  ota_1,   ,        0x100000
storage,  data, spiffs,  ,        -4M,  encrypted:readonly
"""


def ours(text):
    return esp_partitions.build(esp_csv.read_csv(text.encode(), esp32c3, "partitions.csv"))


def theirs(text):
    return PartitionTable.from_csv(text, primary_bootloader_offset=0).to_binary()


def test_table_of_a_project_is_taken_as_it_is():
    assert esp_flash.table_image(OWN.encode(), esp32c3, "partitions.csv") == theirs(OWN)
    where = esp_flash.places(ours(OWN), esp32c3)
    assert where.copy() == (0x10000, 0x20000, 0x100000, 0x120000, 0x100000)


@pytest.mark.parametrize(
    "text",
    [
        OWN.replace("\n", "\r\n"),
        "bootloader, bootloader, primary,,\ntable, partition_table, primary,,\n" + OWN,
        "nvs,data,nvs,,24576\nx,data,,,1\ny,0x41,7,,1\nfactory,app,factory,,0x10000\nt,app,test,,1M",
        "tee,app,tee_0,,64K\nz,app,0x1f,,64K\nc,data,coredump,,64K,encrypted\n",
        "zwölf,data,fat,36864,0x1000",
    ],
)
def test_every_convention_is_theirs(text):
    assert ours(text) == theirs(text)


def test_byte_order_mark_is_no_name():
    assert esp_flash.table_image(b"\xef\xbb\xbf" + OWN.encode(), esp32c3, "p.csv") == theirs(OWN)


WORDS = [
    *(
        "",
        "0",
        "1",
        "255",
        "256",
        "-1",
        "0x40",
        "0x5000",
        "0x9000",
        "0x10000",
        "0x21000",
        "4K",
        "1M",
        "-1M",
        "k",
    ),
    *("data", "app", "ota", "nvs", "phy", "ota_0", "ota_1", "factory", "readonly", "encrypted", "x", "a b"),
]


def test_mutated_tables_are_those_of_their_tool_or_refused():
    dice, same = random.Random(54), 0
    for _ in range(3000):
        lines = [line.split(",") for line in OWN.splitlines()]
        for _ in range(dice.randrange(1, 4)):
            line = dice.choice(lines)
            line[dice.randrange(len(line))] = dice.choice(WORDS)
        text = "\n".join(",".join(line) for line in lines)
        try:
            made = ours(text)
        except FotaError:
            continue
        assert made == theirs(text), text
        same += 1
    assert same > 300


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a,data,nvs,0x8000,4K", "line 1: 0x8000 lies in front of 0x9000"),
        ("\n# x\na,data,nvs,,", "line 3: size '' is no number"),
        ("a,data,nvs,,0", "it has no size"),
        ("a,data,nvs,0x9000,-0x9000", "it has no size"),
        ("a,app,,,64K", "needs a subtype"),
        ("a,apps,factory,,64K", "type 'apps' is no number, nor one of app, data"),
        ("a,app,ota_16,,64K", "subtype 'ota_16'"),
        ("a,data,nvs,,4K,secret", "flag 'secret' is none of encrypted, readonly"),
        ("a,data,nvs,,4K,,7", "more than six fields"),
        ("a,data,nvs,,4K\na,data,phy,,4K", "line 2: there is a partition 'a' already"),
        ("seventeen letters,data,nvs,,4K", "more than 16 bytes"),
        ("a,data,nvs,,$SIZE", "variables are not replaced"),
        ("a,data,300,,4K", "subtype 300 is out of range"),
        ("a,data,nvs,0x100000000,4K", "offset 0x100000000 is out of range"),
        ("a,bootloader,ota,,", "is no number, nor one of primary"),
        ("a,bootloader,1,,", "only the primary ones"),
        ("# nothing", "no line names a partition"),
        ("", "no line names a partition"),
    ],
)
def test_line_that_is_none_is_named(line, says):
    with pytest.raises(InputError, match=r"partitions\.csv") as caught:
        ours(line)
    assert says in str(caught.value)


def test_what_is_no_text_and_what_lacks_our_partitions_is_refused():
    with pytest.raises(InputError, match=r"p\.csv: no partition table: neither a binary one nor a CSV"):
        esp_flash.table_image(b"\xff\xfea\0", esp32c3, "p.csv")
    with pytest.raises(VerifyError, match=r"p\.csv: partition table: it has 0 slots") as caught:
        esp_flash.table_image(b"nvs,data,nvs,,0x5000", esp32c3, "p.csv")
    assert caught.value.code == status.PT1


def test_what_their_tool_refuses_is_refused():
    for text in ("a,data,nvs,0x8000,4K", "a,app,,,64K", "a,data,nvs,,4K,secret"):
        with pytest.raises(TheirError):
            theirs(text)
        with pytest.raises(InputError):
            ours(text)
