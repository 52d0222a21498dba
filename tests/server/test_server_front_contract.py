"""What the device plane promises, through nginx: the very tests of the direct plane, once more."""

import pytest
from fronts import Fronted
from server_world import Server
from test_server_ddi import (  # noqa: F401
    one,
    test_certificate_speaks_for_the_name_in_it,
    test_deployment_has_what_all_clients_need,
    test_file_comes_whole_in_ranges_and_by_head_without_a_write,
    test_file_is_for_whom_it_is_given_to_and_while_it_is,
    test_token_of_a_gateway_speaks_for_those_enrolled_by_one_alone,
    test_who_does_not_show_who_it_is_gets_401_and_leaves_a_trace,
)
from test_server_devices import (  # noqa: F401
    test_certificate_that_names_no_device_is_answered_401,
    test_certificate_with_other_curve_is_answered_401,
    test_first_check_in_registers_the_device,
    test_no_answer_is_made_of_the_clients_host,
    test_no_certificate_is_answered_401,
    test_payload_in_ranges_adds_up_and_writes_no_row,
    test_payload_is_for_assigned_and_running_devices_only,
    test_range_of_another_file_restarts_from_the_beginning,
    test_resumed_session_keeps_its_identity,
    test_revoked_device_gets_nothing_on_its_open_connection,
    test_second_certificate_with_another_key_is_refused_until_admitted,
    test_tls_below_1_2_is_refused,
    test_two_check_ins_on_one_connection_without_waiting,
    test_update_is_counted_when_confirmed_and_not_before,
)
from test_server_refusals import (  # noqa: F401
    test_clone_with_another_key_is_shown_with_the_device,
    test_refused_body_leaves_a_trace,
)
from test_server_request_ids import test_each_request_of_a_device_has_an_id_of_its_own  # noqa: F401
from test_server_retirement import (  # noqa: F401
    test_device_that_was_never_seen_can_be_retired_and_then_never_gets_in,
    test_retired_device_is_refused_on_its_open_connection_and_at_its_next_handshake,
)


@pytest.fixture(scope="module")
def server(fronted: Fronted) -> Server:
    return fronted.server


@pytest.fixture(scope="module")
def ddi_server(fronted: Fronted) -> Server:
    return fronted.server
