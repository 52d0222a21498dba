"""Names files that are neither firmware as we read it nor ours, and says what to do with them."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"UF2\n\x57\x51\x5d\x9e", "a UF2 file: give the ELF, HEX or BIN that it was made of"),
    (0, b"PK\x03\x04", "a zip archive: unpack it, and give the file in it"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x1f\x8b", "compressed by gzip: unpack it first (gunzip)"),
    (0, b"\xfd7zXZ\0", "compressed by xz: unpack it first (unxz)"),
    (0, b"BZh", "compressed by bzip2: unpack it first (bunzip2)"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first (unzstd)"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive: unpack it, and give the file in it"),
    (257, b"ustar", "a tar archive: unpack it, and give the file in it"),
    (0, b"!<arch>\n", "a library of object files: link it first"),
    (0, b"DfuSe", "a DfuSe file: give the ELF, HEX or BIN that it was made of"),
    (0, b"\xce\xfa\xed\xfe", "a Mach-O file, a program of a Mac: compile it for the device"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O file, a program of a Mac: compile it for the device"),
    (0, b"\xfe\xed\xfa", "a Mach-O file, a program of a Mac: compile it for the device"),
    (0, b"\xca\xfe\xba\xbe", "a Mach-O file or a Java class: compile it for the device"),
    (0, b"MZ", "a program of Windows: compile it for the device"),
    (0, b"\0asm", "a WebAssembly module: compile it for the device"),
    (0, b"\x96\xf3\xb8\x3d", "an MCUboot image of a big-endian device"),
    (0, b"\x3d\xb8\xf3\x96", "a signed image already: give what the linker made"),
    (0, b"\xd8\x6b", "a manifest: give what the linker made"),
    (0, b"\xff\xfe", "a text in UTF-16: save it as ASCII"),
    (0, b"\xfe\xff", "a text in UTF-16: save it as ASCII"),
    (0, b"version https://git-lfs", "a pointer of Git LFS: fetch the file itself (git lfs pull)"),
)
_HEAD = 4096


def foreign_kind(data: bytes) -> str | None:
    """Return what ``data`` is, by its first bytes, and what to do about it; None: no kind that is known."""
    for offset, magic, sentence in _MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return sentence
    head = data[:_HEAD].removeprefix(b"\xef\xbb\xbf")
    if b"-----BEGIN " in head:
        return "a key or certificate in PEM: give what the linker made"
    if not head or not head.translate(None, b"\t\n\r\f\x1a").isascii() or _controls(head):
        return None
    text = head.lstrip()
    if text[:1] == b"S" and text[1:2].isdigit():
        return "a Motorola S-record file: give the ELF, HEX or BIN that it was made of"
    if text[:1] == b"@":
        return "a TI-TXT or Verilog hex file: convert it to Intel HEX"
    if text[:1] in (b"<", b"{"):
        return "a text in HTML, XML or JSON, perhaps of a server that had no such file"
    return "a text: give what the linker made"


def _controls(head: bytes) -> bool:
    return any(byte < 32 or byte == 127 for byte in head.translate(None, b"\t\n\r\f\x1a"))
