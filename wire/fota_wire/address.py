"""Server addresses as ROOT names them (SPEC 5.2): ``https://host[:port]``, in one way of writing only."""

from fota_wire.errors import FormatError

MAX_ADDRESS = 255
DEFAULT_PORT = 443
_SCHEME = "https://"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"


def parse_address(text: str) -> "tuple[str, int]":
    """Return (host, port) of a server address; the host of an IPv6 address without its brackets.

    A host is a name of letters, digits and hyphens in lower case (an international one in its ``xn--`` form),
    an IPv4 address, or an IPv6 address in brackets; a port is 1..65535, 443 if there is none.

    Raises:
        FormatError: anything else, a path or a blank say; code ``address``.
    """
    if len(text) > MAX_ADDRESS:
        raise FormatError(f"a server's address is longer than {MAX_ADDRESS} characters", "address")
    if not text.startswith(_SCHEME):
        raise _refused(text, "begins with https://")
    rest = text[len(_SCHEME) :]
    if rest[:1] == "[":
        host, closed, port = rest[1:].partition("]")
        if not closed or not _is_ipv6(host) or (port and port[0] != ":"):
            raise _refused(text, "has an IPv6 address in brackets")
        return host, _port(text, port)
    host, colon, port = rest.partition(":")
    if not _is_name(host):
        raise _refused(text, "has a host name in lower case, or an IP address, and no path behind it")
    return host, _port(text, colon + port)


def parse_url(text: str) -> "tuple[str, int, str]":
    """Return (host, port, prefix) of a device's first server: an address, and perhaps a path that all others
    stand behind.

    Raises:
        FormatError: anything else; code ``address``.
    """
    authority, slash, path = text[len(_SCHEME) :].partition("/")
    host, port = parse_address(text[: len(_SCHEME)] + authority)
    if not all("!" <= letter <= "~" and letter not in "?#\\" for letter in path):
        raise _refused(text, "has a path of printable ASCII, without ? and #")
    return host, port, slash + path


def _port(text: str, port: str) -> int:
    if not port:
        return DEFAULT_PORT
    digits = port[1:]
    usable = _only(digits, _DIGITS) and len(digits) <= 5 and digits[0] != "0" and int(digits) < 65536
    if not usable:
        raise _refused(text, "has a port of 1 to 65535, and no path behind it")
    return int(digits)


def _is_name(host: str) -> bool:
    labels = host.split(".")
    if _only(labels[-1], _DIGITS):  # no name ends in a number: an IPv4 address, or a mistake
        return len(labels) == 4 and all(_is_byte(label) for label in labels)
    return len(host) <= 253 and all(_is_label(label) for label in labels)


def _is_label(label: str) -> bool:
    return len(label) <= 63 and _only(label, _LETTERS + _DIGITS + "-") and "-" not in (label[0], label[-1])


def _is_byte(text: str) -> bool:
    return _only(text, _DIGITS) and len(text) <= 3 and (text == "0" or text[0] != "0") and int(text) < 256


def _is_ipv6(host: str) -> bool:
    head, gap, tail = host.partition("::")
    groups = (head.split(":") if head else []) + (tail.split(":") if tail else [])
    whole = len(groups) < 8 if gap else len(groups) == 8
    return whole and all(_only(group, _DIGITS + "abcdef") and len(group) <= 4 for group in groups)


def _only(text: str, letters: str) -> bool:
    return bool(text) and all(letter in letters for letter in text)


def _refused(text: str, rule: str) -> FormatError:
    return FormatError(f"{text!r} is no server's address: one {rule}", "address")
