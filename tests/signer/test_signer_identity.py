"""Vendor and class follow from names that are written in one way only."""

import pytest

from fota_signer.identity import device_class
from fota_wire.errors import InputError


def class_of(domain="example.com", model="sensor"):
    return device_class(class_uuid=None, domain=domain, model=model).class_id


@pytest.mark.parametrize(
    "domain", ["example.com", "a.b.c.example", "xn--bcher-kva.de", "1and1.com", "a-b.io"]
)
def test_domain_in_lower_case_is_taken(domain):
    assert class_of(domain=domain) != class_of(domain="other.example")


@pytest.mark.parametrize(
    ("domain", "says"),
    [
        ("Example.COM", "say example.com"),
        (" example.com", "say example.com"),
        ("example.com\n", "say example.com"),
        ("example.com.", "say example.com"),
        ("https://example.com", "say example.com"),
        ("https://www.Example.com:443/shop?x", "say www.example.com"),
        ("info@example.com", "say example.com"),
        ("b\u00fccher.de", "say xn--bcher-kva.de"),
        ("ex ample.com", "name one that is yours"),
        ("example", "name one that is yours"),
        ("10.0.0.1", "name one that is yours"),
        ("-a.com", "name one that is yours"),
        ("a..com", "name one that is yours"),
        ("a" * 64 + ".com", "name one that is yours"),
        (".".join(["a" * 50] * 6) + ".com", "lower case"),
        ("\udcff.com", "name one that is yours"),
        ("", "name one that is yours"),
    ],
)
def test_domain_written_otherwise_is_no_other_class_but_refused(domain, says):
    with pytest.raises(InputError) as caught:
        class_of(domain=domain)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["sensor", "Sensor 2", "S/2.1", "F\u00fchler"])
def test_model_is_taken_as_it_is(model):
    assert class_of(model=model) == class_of(model=model) != class_of(model="other")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("Pro\ufb01ler", "say 'Profiler'"),
        ("\uff33ensor", "say 'Sensor'"),
        (" sensor", "say 'sensor'"),
        ("sensor\t", "say 'sensor'"),
        ("sensor  2", "say 'sensor 2'"),
        ("sensor\u00a02", "say 'sensor 2'"),
        ("Fu\u0308hler", "say 'F\u00fchler'"),
        ("sen\u200bsor", "name it in letters and digits"),
        ("sen\0sor", "name it in letters and digits"),
        ("\udcff", "name it in letters and digits"),
        ("", "name it in letters and digits"),
    ],
)
def test_model_with_what_nobody_sees_refused(model, says):
    with pytest.raises(InputError) as caught:
        class_of(model=model)
    assert says in str(caught.value)
