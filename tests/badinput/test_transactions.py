"""Transactional requests that are none, or in somebody else's name: Kafka's codes, and no transaction is touched."""

from __future__ import annotations

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from tests.badinput.node import Running, eventually

E = ErrorCode
INIT, ADD, OFFSETS, END, FIND, DESCRIBE, LIST = 22, 24, 25, 26, 10, 65, 66
ID = "mine"


async def ready(node: Running) -> Any:
    """The InitProducerId answer for ID, with its partition in a transaction."""
    for key_type in (0, 1):
        found = await node.witness.call(FIND, 6, {"key_type": key_type, "coordinator_keys": [ID]})
        assert found.coordinators[0].error_code is E.none
    coordinator = node.broker.transactions
    await eventually(lambda: not isinstance(coordinator.shard_of(ID), ErrorCode))
    made = await node.witness.call(INIT, 5, {"transactional_id": ID, "transaction_timeout": 60_000})
    assert made.error_code is E.none
    assert await added(node, made.producer_id, made.producer_epoch) is E.none
    return made


async def added(node: Running, producer_id: int, epoch: int, name: str = ID, topic: str = "target") -> ErrorCode:
    values = {
        "v3_and_below_transactional_id": name,
        "v3_and_below_producer_id": producer_id,
        "v3_and_below_producer_epoch": epoch,
        "v3_and_below_topics": [{"name": topic, "partitions": [0]}],
    }
    answer = await node.witness.call(ADD, 3, values)
    error: ErrorCode = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    return error


def end_values(producer_id: int, epoch: int, name: str = ID) -> dict[str, Any]:
    return {"transactional_id": name, "producer_id": producer_id, "producer_epoch": epoch, "committed": True}


async def state(node: Running) -> tuple[str, int, int]:
    (row,) = (await node.witness.call(DESCRIBE, 0, {"transactional_ids": [ID]})).transaction_states
    return row.transaction_state, row.producer_id, row.producer_epoch


async def test_nobody_else_ends_or_extends_a_transaction(node: Running) -> None:
    made = await ready(node)
    own, epoch = made.producer_id, made.producer_epoch
    async with node.unharmed():
        for producer_id, its_epoch, error in (
            (own + 7, epoch, E.invalid_producer_id_mapping),
            (own, epoch + 1, E.producer_fenced),
            (own, -1, E.producer_fenced),
            (-1, -1, E.invalid_producer_id_mapping),
            (2**63 - 1, 32767, E.invalid_producer_id_mapping),
            (-(2**63), -32768, E.invalid_producer_id_mapping),
        ):
            assert await added(node, producer_id, its_epoch) is error
            for version in range(6):
                answer = await node.witness.call(END, version, end_values(producer_id, its_epoch))
                known = E.invalid_producer_epoch if error is E.producer_fenced and version < 2 else error
                assert answer.error_code is known
            values = {"transactional_id": ID, "producer_id": producer_id, "producer_epoch": its_epoch, "group_id": "g"}
            assert (await node.witness.call(OFFSETS, 4, values)).error_code is error
    assert await state(node) == ("Ongoing", own, epoch)


async def test_a_producer_that_was_never_there_gets_nothing(node: Running) -> None:
    await ready(node)
    async with node.unharmed():
        for producer in ((2**63 - 1, 32766), (5, 0), (0, 32767)):
            values = {"transactional_id": ID, "transaction_timeout": 1000}
            values |= {"producer_id": producer[0], "producer_epoch": producer[1]}
            answer = await node.witness.call(INIT, 5, values)
            assert (answer.error_code, answer.producer_id) == (E.producer_fenced, -1)
    assert (await state(node))[0] == "Ongoing", "and the transaction is not aborted by somebody like that"


@pytest.mark.parametrize("timeout_ms", [0, -1, -(2**31), 900_001, 2**31 - 1])
async def test_timeouts_that_are_none(node: Running, timeout_ms: int) -> None:
    await ready(node)
    async with node.unharmed():
        values = {"transactional_id": "other", "transaction_timeout": timeout_ms}
        assert (await node.witness.call(INIT, 5, values)).error_code is E.invalid_transaction_timeout


async def test_partitions_that_are_none(node: Running) -> None:
    made = await ready(node)
    async with node.unharmed():
        unknown = E.unknown_topic_or_partition
        for topic in ("missing", "", "../../etc/passwd", "a\0b", "__cluster_metadata"):
            assert await added(node, made.producer_id, made.producer_epoch, topic=topic) is unknown
    assert (await state(node))[0] == "Ongoing"


async def test_what_only_brokers_may_ask(node: Running) -> None:
    """A leader's form of AddPartitionsToTxn could add or look for partitions in anybody's name."""
    made = await ready(node)
    row = {"transactional_id": ID, "producer_id": made.producer_id, "producer_epoch": made.producer_epoch}
    async with node.unharmed():
        for version in (4, 5):
            for verify_only in (False, True):
                rows = [{**row, "verify_only": verify_only, "topics": [{"name": "witness", "partitions": [0]}]}]
                answer = await node.witness.call(ADD, version, {"transactions": rows})
                assert answer.error_code is E.cluster_authorization_failed
                assert answer.results_by_transaction == ()


async def test_long_ids(node: Running) -> None:
    """The longest that Kafka's records can hold is taken; one more is no string at all."""
    await ready(node)
    longest = "x" * 32_767
    values = {"transactional_id": longest, "transaction_timeout": 1000}
    made = await node.witness.call(INIT, 5, values)
    assert made.error_code is E.none
    assert await added(node, made.producer_id, 0, longest) is E.none
    async with node.unharmed(lines=1):
        peer = await node.client()
        with pytest.raises(ConnectionError):
            await peer.call(INIT, 5, {**values, "transactional_id": longest + "x"})


async def test_questions_about_transactions(node: Running) -> None:
    made = await ready(node)
    async with node.unharmed():
        answer = await node.witness.call(LIST, 2, {"duration_filter": -(2**63), "producer_id_filters": [-1, 2**63 - 1]})
        assert (answer.error_code, answer.transaction_states) == (E.none, ())
        for pattern in ("(", "[", "a{1,9999}", r"(.)\1", "x" * 600):
            answer = await node.witness.call(LIST, 2, {"transactional_id_pattern": pattern})
            assert answer.error_code is E.invalid_regular_expression, pattern
        for pattern in ("(a+)+$", "x" * 100):
            answer = await node.witness.call(LIST, 2, {"transactional_id_pattern": pattern})
            assert (answer.error_code, answer.transaction_states) == (E.none, ()), pattern
        answer = await node.witness.call(DESCRIBE, 0, {"transactional_ids": ["", "nobody"]})
        assert [row.error_code for row in answer.transaction_states] == [
            E.invalid_request,
            E.transactional_id_not_found,
        ]
    assert await state(node) == ("Ongoing", made.producer_id, made.producer_epoch)
