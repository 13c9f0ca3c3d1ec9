"""The table of what is served of Kafka's protocol: it says why, for every gap and for nothing else."""

from __future__ import annotations

from kio.schema.index import api_key_map

from ottla.broker import TABLE, coverage
from ottla.broker.api.coverage import BETWEEN_SERVERS, REASONS
from tests.broker.world import World


def test_every_api_of_kafka_is_there_once() -> None:
    rows = coverage()
    assert [row.key for row in rows] == sorted(api_key_map)
    assert {row.key for row in TABLE} < {row.key for row in rows}


def test_every_gap_has_its_reason() -> None:
    assert not [row.name for row in coverage() if row.missing and not row.reason]


def test_no_reason_is_given_for_what_is_served() -> None:
    """Whoever serves an API, or the last version of it, takes the row out of REASONS."""
    missing = {row.key for row in coverage() if row.missing}
    assert REASONS.keys() <= missing
    assert not [row.name for row in coverage() if row.reason and not row.missing]


def test_what_passes_between_servers_is_not_served() -> None:
    assert not BETWEEN_SERVERS & {row.key for row in TABLE}
    assert not BETWEEN_SERVERS & REASONS.keys()


async def test_it_is_what_a_broker_announces(world: World) -> None:
    """ApiVersions, against the table."""
    answer = await world.call(18, 3, {"client_software_name": "t", "client_software_version": "1"})
    announced = {row.api_key: (row.min_version, row.max_version) for row in answer.api_keys}
    assert announced == {row.key: row.served for row in coverage() if row.served is not None}
    assert coverage(announced) == coverage()


def test_missing_versions_are_counted_one_by_one() -> None:
    rows = {row.key: row for row in coverage({0: (3, 9), 3: (0, 99)})}
    assert rows[0].missing == tuple(range(10, rows[0].kafka[1] + 1))
    assert rows[3].missing == ()
    assert rows[1].missing == tuple(range(rows[1].kafka[0], rows[1].kafka[1] + 1))
