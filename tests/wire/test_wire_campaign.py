"""CAMPAIGN: who is in which wave, and until when; its bytes stand in tests/vectors/campaign.json."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fota_wire import campaign, checkin, settings
from fota_wire.errors import FormatError, InputError, VerifyError

DIGEST, DEVICE = bytes(32), bytes(9)
WAVES = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.integers(50, 100),
        st.integers(1, campaign.WHOLE),
        st.sampled_from(["", "a", "b"]),
    ),
    min_size=1,
    max_size=campaign.MAX_WAVES,
)


def devices(count):
    return [number.to_bytes(9, "big") for number in range(count)]


def test_share_is_of_devices_that_stand_elsewhere_for_each_release():
    first = {one for one in devices(20_000) if campaign.place_of(DIGEST, one) < 500}
    other = {one for one in devices(20_000) if campaign.place_of(b"\1" * 32, one) < 500}
    assert 900 < len(first) < 1100
    assert len(first & other) < 100
    assert {campaign.place_of(DIGEST, one) for one in devices(20_000)} <= set(range(campaign.WHOLE))


def test_larger_share_has_all_devices_of_a_smaller_one():
    one, all_of = (
        campaign.unsafe_read_campaign(campaign.build_campaign(DIGEST, [(0, 9, share, "")]))
        for share in (1, campaign.WHOLE)
    )
    found = devices(30_000)
    small = [device for device in found if one.waves_of(device, "")]
    assert 0 < len(small) < 30
    assert all(all_of.waves_of(device, "") for device in found)


@given(WAVES, st.sampled_from(["", "a", "b", "c"]), st.integers(0, 120))
def test_device_is_given_a_release_exactly_while_a_wave_of_its_own_is_open(waves, group, time):
    found = campaign.unsafe_read_campaign(campaign.build_campaign(DIGEST, waves))
    place = campaign.place_of(DIGEST, DEVICE)
    mine = [(begin, end) for begin, end, share, of in waves if place < share and of in ("", group)]
    ends = [end for begin, end in mine if begin <= time <= end]
    assert found.waves_of(DEVICE, group) == mine
    if ends:
        assert found.until(DEVICE, group, time) == max(ends)
        return
    with pytest.raises(VerifyError) as caught:
        found.until(DEVICE, group, time)
    assert caught.value.code == ("campaign-time" if mine else "campaign-scope")


@pytest.mark.parametrize("group", ["a b", "ä", "x" * 33, 'a"', "a\n"])
def test_group_that_could_be_mistaken_for_another_is_not_made(group):
    with pytest.raises(FormatError):
        campaign.build_campaign(DIGEST, [(0, 1, 1, group)])
    fields = dict.fromkeys(("genesis_root", "server_ca", "device_cert"), b"-")
    with pytest.raises(InputError):
        settings.pack_trust_store(
            settings.TrustStore(
                **fields, server_url="https://a", vendor_id=bytes(16), class_id=bytes(16), group=group
            )
        )


def test_trust_store_of_a_device_without_a_group_is_as_before():
    fields = dict.fromkeys(("genesis_root", "server_ca", "device_cert"), b"-")
    fields |= {"server_url": "https://a", "vendor_id": bytes(16), "class_id": bytes(16)}
    packed = {
        group: settings.pack_trust_store(settings.TrustStore(**fields, group=group)) for group in ("", "a")
    }
    assert {group: settings.unpack_trust_store(raw).group for group, raw in packed.items()} == {
        "": "",
        "a": "a",
    }
    assert len(packed["a"]) == len(packed[""]) + 3


@pytest.mark.parametrize("group", [None, "", "canary"])
def test_check_in_says_whether_its_device_takes_campaigns_and_of_which_group_it_is(group):
    request = checkin.Request(bytes(16), 1, None)
    request.group = group
    assert checkin.parse_request(checkin.encode_request(request)).group == group


def test_answer_brings_a_campaign_in_a_field_that_agents_of_before_ignore():
    response = checkin.Response(b"-", [], None, 60, bytes(16), "none")
    response.campaign = b"document"
    raw = checkin.encode_response(response)
    assert checkin.parse_response(raw).campaign == b"document"
    assert checkin.CAMPAIGN >= checkin.FIRST_EXTENSION
    response.campaign = bytes(checkin.MAX_CAMPAIGN + 1)
    with pytest.raises(FormatError):
        checkin.parse_response(checkin.encode_response(response))
