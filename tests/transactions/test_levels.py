"""The levels of the feature transaction.version, and what the coordinator writes on them (KIP-890)."""

from __future__ import annotations

from ottla.broker.replication import Partition
from ottla.records import decode_batch, iter_headers
from tests.broker.world import World
from tests.transactions.serving import NONE, add, add_as_leader, begin, ended, entries, state, states


def value_versions(partition: Partition) -> list[int]:
    """Of the values in the log of the coordinator, oldest first."""
    assert partition.log is not None
    data = partition.log.read(0, 1 << 20, up_to=partition.log_end_offset)
    values = [record.value for at, _ in iter_headers(data) for record in decode_batch(data, at)]
    return [int.from_bytes((value or b"")[:2], "big") for value in values]


async def test_the_records_of_the_coordinator_have_the_form_of_the_level(world: World) -> None:
    """Level 0 has no tagged fields, so that a coordinator from before them can read what it writes."""
    (partition,) = await world.coordinate_transactions()
    world.set_levels(transaction_version=0)
    producer = await begin(world)
    assert await add(world, producer, ("t", 0), ("t", 1)) is NONE
    await ended(world, producer, version=4)
    assert value_versions(partition) == [0, 0, 0, 0]
    assert states(partition) == ["Empty", "Ongoing", "PrepareCommit", "CompleteCommit"]
    assert [entry.value and entry.value.partitions for entry in entries(partition)][:2] == [
        frozenset(),
        frozenset({("t", 0), ("t", 1)}),
    ]
    world.set_levels(31, transaction_version=1)
    assert await add(world, producer, ("t", 0)) is NONE
    assert value_versions(partition)[4:] == [1]


async def test_a_transaction_of_the_second_protocol_keeps_what_it_needs_on_level_0(world: World) -> None:
    """A client that has not heard of the downgrade yet is served, also by the next coordinator."""
    (partition,) = await world.coordinate_transactions()
    producer = await begin(world)
    world.set_levels(transaction_version=0)
    assert set((await add_as_leader(world, producer, ("t", 0))).values()) == {NONE}
    following = await ended(world, producer)
    assert following == (producer.id, producer.epoch + 1)
    assert value_versions(partition)[2:] == [1, 1], "prepared and complete"
    found = state(world)
    assert found is not None and found == entries(partition)[-1].value
