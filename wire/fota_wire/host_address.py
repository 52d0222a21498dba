"""What is wrong with a server's address that somebody typed (not for devices, which only refuse it): each
fault in a line of its own.
"""

from fota_wire.address import MAX_ADDRESS, parse_address, parse_url
from fota_wire.errors import FormatError, InputError

_SCHEME = "https://"
_ODD = "?#@\\"
_ODD_BEHIND = "?#\\"  # a path may have an @


def require_address(text: str, what: str, *, path: bool = False) -> None:
    """Return if devices take ``text`` as the address of their server, ``path``: with a path behind it.

    Raises:
        InputError: they do not; begins with ``what``, and says why.
    """
    try:
        parse_url(text) if path else parse_address(text)
    except FormatError as exc:
        words = fault(text, path=path) or _fault_of_host(_parts(text)[0])
        raise InputError(f"{what} {text}: {words}" if words else f"{what}: {exc}", exc.code) from exc


def fault(text: str, *, path: bool = False) -> str:
    """Return what is wrong with ``https://host[:port]``, "" if nothing but perhaps its host's name is."""
    if any(letter.isspace() or not letter.isprintable() for letter in text):
        return "there is a blank in it, or what nobody sees"
    if len(text) > MAX_ADDRESS:
        return f"it is longer than {MAX_ADDRESS} characters"
    scheme, colon, _ = text.partition("://")
    if not colon:
        return f"it lacks https:// in front: https://{text}"
    if text[: len(_SCHEME)] != _SCHEME:
        return f"it begins with {scheme}://, and has to begin with {_SCHEME}"
    authority = text[len(_SCHEME) :].partition("/")[0]
    if "@" in authority:
        return "there is a user in it, which nobody asks for: host and port alone"
    odd = next((letter for letter in text if letter in (_ODD_BEHIND if path else _ODD)), "")
    if odd:
        return f"there is {odd!r} in it, which an address has not"
    if authority.count(":") > 1 and authority[0] != "[":
        return "an IPv6 address stands in brackets: https://[::1]:8443"
    host, port, behind = _parts(text)
    if not host:
        return "there is no host in it"
    if behind.strip("/") and not path:
        return f"there is a path behind it, {behind}: host and port alone"
    return _fault_of_port(port)


def _parts(text: str) -> tuple[str, str | None, str]:
    """Return (host, port, path); an IPv6 address keeps its brackets; None: no colon for a port."""
    authority, slash, path = text[len(_SCHEME) :].partition("/")
    head, closed, rest = authority.rpartition("]")
    host, colon, port = rest.partition(":")
    return head + closed + host, port if colon else None, slash + path


def _fault_of_port(port: str | None) -> str:
    if port is None:
        return ""
    if not port:
        return "there is a colon, and no port behind it"
    if not port.isascii() or not port.isdigit():
        return f"its port {port!r} is not a number"
    if not 0 < int(port[:9]) < 65536:
        return f"its port {port} is not one of 1 to 65535"
    return f"its port {port} begins with 0" if port[0] == "0" else ""


def _fault_of_host(host: str) -> str:
    if host != host.lower():
        return f"its host is in capitals: say {host.lower()}"
    if not host.isascii():
        return f"its host {host} has letters that are not ASCII: give its xn-- form"
    return f"{host!r} is no name of a host, nor an IP address"
