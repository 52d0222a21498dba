"""What docs/operations.md says is kept is what the code keeps, and every table is named there or small."""

from pathlib import Path

from fota_server import changes, config, facts, refusals, schema, webhooks

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
FOR_EVER = {
    *("audit", "retirements", "releases", "rollouts", "targets", "left_out", "waves", "roots"),
    *("release_keys", "release_chips", "release_hardware", "campaigns", "ddi_files", "spent", "approvals"),
    *("log_leaves", "log_heads", "release_sboms", "release_components", "rehearsals"),
}
ONE_OF_EACH = {  # a row of each device, group or token: as many as there are of these
    *("devices", "device_keys", "attestations", "attributes", "groups", "members", "meta", "tokens"),
    *("ddi_devices", "ddi_attributes", "webhooks"),
}
BOUNDED = {
    "events": (facts.EVENTS_KEPT,),
    "confirmations": (facts.CONFIRMATIONS_KEPT,),
    "said": (facts.CONFIRMATIONS_KEPT,),
    "telemetry": (),
    "refusals": (refusals.KEPT_OF_ONE, refusals.KEPT[True], refusals.KEPT[False]),
    "changes": (config.ServerConfig.__dataclass_fields__["keep_changes_days"].default, changes.MOST),
    "dead_letters": (webhooks.LETTERS,),
}


def test_table_of_what_is_kept_is_that_of_the_code() -> None:
    table = PAGE.partition("## What is kept")[2].partition("\n## ")[0]
    for name, numbers in BOUNDED.items():
        for number in numbers:
            assert f" {number}" in table, (name, number)
    assert set(schema.metadata.tables) == {*FOR_EVER, *ONE_OF_EACH, *BOUNDED}, "who bounds a new table?"
