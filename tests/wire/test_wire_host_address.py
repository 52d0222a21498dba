"""An address that is mistyped is told by its fault; and whatever devices refuse, has one."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fota_wire.address import parse_address, parse_url
from fota_wire.errors import FormatError, InputError
from fota_wire.host_address import fault, require_address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it lacks https:// in front: https://"),
        ("h:8443", "it lacks https:// in front: https://h:8443"),
        ("http://h", "it begins with http://, and has to begin with https://"),
        ("HTTPS://h", "it begins with HTTPS://, and has to begin with https://"),
        ("https:///x", "there is no host in it"),
        ("https://:8443", "there is no host in it"),
        ("https://u:p@h", "there is a user in it, which nobody asks for: host and port alone"),
        ("https://h?x", "there is '?' in it, which an address has not"),
        ("https://h/a#b", "there is '#' in it, which an address has not"),
        ("https:// h", "there is a blank in it, or what nobody sees"),
        ("https://h\u200b", "there is a blank in it, or what nobody sees"),
        ("https://h/path", "there is a path behind it, /path: host and port alone"),
        ("https://h:8443/path", "there is a path behind it, /path: host and port alone"),
        ("https://h:", "there is a colon, and no port behind it"),
        ("https://h:x", "its port 'x' is not a number"),
        ("https://h:84433", "its port 84433 is not one of 1 to 65535"),
        ("https://h:0", "its port 0 is not one of 1 to 65535"),
        ("https://h:084", "its port 084 begins with 0"),
        ("https://::1:8443", "an IPv6 address stands in brackets: https://[::1]:8443"),
        ("https://[::1]:84433", "its port 84433 is not one of 1 to 65535"),
        ("https://H.example", "its host is in capitals: say h.example"),
        ("https://\u00e4", "its host \u00e4 has letters that are not ASCII: give its xn-- form"),
        ("https://300.1.1.1", "'300.1.1.1' is no name of a host, nor an IP address"),
        ("https://a..b", "'a..b' is no name of a host, nor an IP address"),
        ("https://[::g]", "'[::g]' is no name of a host, nor an IP address"),
        ("https://" + "a" * 250, "it is longer than 255 characters"),
    ],
)  # fmt: skip
def test_each_fault_of_an_address_has_its_own_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        require_address(text, "--server-url")
    assert str(refused.value) == f"--server-url {text}: {said}"


@pytest.mark.parametrize("text", ["https://h", "https://h:8443", "https://[::1]:1", "https://h:8443/a/b"])
def test_address_that_devices_take_passes(text: str) -> None:
    require_address(text, "--server-url", path=True)
    assert fault(text, path=True) == ""


def test_path_may_be_wrong_beside_a_wrong_port() -> None:
    with pytest.raises(InputError, match="its port 84433 is not one of 1 to 65535"):
        require_address("https://h:84433/x", "--server", path=True)


@example("https://a/@", True)
@given(st.text("htps:/[]@?#.a1 0-_A\u00e4", max_size=24).map(lambda text: "https://" + text), st.booleans())
def test_devices_and_words_agree(text: str, path: bool) -> None:
    try:
        parse_url(text) if path else parse_address(text)
    except FormatError:
        with pytest.raises(InputError, match=r"."):
            require_address(text, "x", path=path)
    else:
        require_address(text, "x", path=path)
        assert fault(text, path=path) == ""
