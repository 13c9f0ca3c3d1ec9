"""OffsetFetch, v1-v10: what is committed and replicated, so that no failover takes it back.

v2 all topics, and an error for the group · v5 leader epochs (KIP-320) · v7 require_stable (KIP-447) · v8 many groups
(KIP-709) · v9 member epochs (KIP-848) · v10 topic ids.

Differences from Kafka: a coordinator that was replaced, and does not know it yet, tells nobody what it knows, but
NOT_COORDINATOR, also when it cannot find out within offsets.commit.timeout.ms. An error of the group is told for each
partition too, up to v7: aiokafka looks only there, and would begin anew. With require_stable a position is
UNSTABLE_OFFSET_COMMIT from the moment that a transaction writes it until that is decided here. A position that was
committed for a topic which is gone is not told for a new one of the same name, in whatever version it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from kio.schema.errors import ErrorCode

from ottla.broker.answering import then, together
from ottla.broker.context import Answer, BrokerContext, Reply
from ottla.broker.groups import At, OffsetValue, Shard
from ottla.wire import Request

_MANY = 8
_BY_ID = 10


Found = Mapping[str, Shard | ErrorCode]
"""For each group its shard, or why there is none."""


def handle(context: BrokerContext, request: Request) -> Reply:
    body = request.body
    names = [each.group_id for each in body.groups] if request.api_version >= _MANY else [body.group_id]
    found: Found = {name: context.groups.shard_of(name) for name in names}
    shards = list(dict.fromkeys(each for each in found.values() if isinstance(each, Shard)))
    if not shards:
        return _answer(context, request, found)

    def answer(certain: Sequence[bool]) -> Answer:
        surely = {shard for shard, leads in zip(shards, certain, strict=True) if leads and shard.log.leads}
        known = {
            name: ErrorCode.not_coordinator if isinstance(shard, Shard) and shard not in surely else shard
            for name, shard in found.items()
        }
        return _answer(context, request, known)

    return then(together([shard.confirmations.ask() for shard in shards]), answer)


def _answer(context: BrokerContext, request: Request, shards: Found) -> Answer:
    body, version = request.body, request.api_version
    stable: bool = getattr(body, "require_stable", False)
    if version >= _MANY:
        groups = [_group(context, shards[wanted.group_id], wanted, version, stable) for wanted in body.groups]
        return {"groups": groups}
    found = _group(context, shards[body.group_id], body, version, stable)
    error = found["error_code"]
    if error is not ErrorCode.none:
        found["topics"] = [_refused(topic, error) for topic in body.topics or ()]
    return found


class _Rows:
    """The positions of a group in the topics that there are now. `stable`: only those that no transaction is about to
    change (KIP-447)."""

    def __init__(self, context: BrokerContext, shard: Shard, group_id: str, *, stable: bool) -> None:
        self._topics = context.view.image.topics
        self._committed = shard.offsets.of(group_id)
        self._shard = shard
        self._group_id = group_id
        self._stable = stable

    def row(self, at: At) -> dict[str, object]:
        if self._stable and self._shard.commits.is_undecided(self._group_id, at):
            return _row(at[1], None, ErrorCode.unstable_offset_commit)
        return _row(at[1], self._value(at))

    def known(self) -> list[At]:
        return [at for at in self._committed if self._value(at) is not None]

    def _value(self, at: At) -> OffsetValue | None:
        """What was committed for an older topic of the name says nothing about this one."""
        value, topic = self._committed.get(at), self._topics.get(at[0])
        return None if value is not None and topic is not None and not value.is_of(topic.id) else value


def _group(
    context: BrokerContext, shard: Shard | ErrorCode, wanted: object, version: int, stable: bool
) -> dict[str, object]:
    group_id: str = getattr(wanted, "group_id", "")
    if isinstance(shard, ErrorCode):
        return {"group_id": group_id, "topics": [], "error_code": shard}
    error = shard.commits.check_fetch(group_id, getattr(wanted, "member_id", None), getattr(wanted, "member_epoch", -1))
    if error is not ErrorCode.none:
        return {"group_id": group_id, "topics": [], "error_code": error}
    rows = _Rows(context, shard, group_id, stable=stable)
    topics: Iterable[object] | None = getattr(wanted, "topics", None)
    answer = (
        _all(context, rows, version) if topics is None else [_some(context, rows, each, version) for each in topics]
    )
    return {"group_id": group_id, "topics": answer, "error_code": ErrorCode.none}


def _all(context: BrokerContext, rows: _Rows, version: int) -> list[dict[str, object]]:
    """Everything that is committed; by id only what still has one."""
    topics: dict[str, list[dict[str, object]]] = {}
    for topic, partition in rows.known():
        topics.setdefault(topic, []).append(rows.row((topic, partition)))
    if version < _BY_ID:
        return [{"name": name, "partitions": partitions} for name, partitions in topics.items()]
    image = context.view.image.topics
    return [{"topic_id": image[name].id, "partitions": each} for name, each in topics.items() if name in image]


def _some(context: BrokerContext, rows: _Rows, wanted: object, version: int) -> dict[str, object]:
    indexes: tuple[int, ...] = getattr(wanted, "partition_indexes", ())
    if version < _BY_ID:
        name: str = getattr(wanted, "name", "")
        return {"name": name, "partitions": [rows.row((name, index)) for index in indexes]}
    topic_id = getattr(wanted, "topic_id", None)
    topic = None if topic_id is None else context.view.image.topic_by_id(topic_id)
    if topic is None:
        unknown = ErrorCode.unknown_topic_id
        return {"topic_id": topic_id, "partitions": [_row(index, None, unknown) for index in indexes]}
    return {"topic_id": topic_id, "partitions": [rows.row((topic.name, index)) for index in indexes]}


def _row(partition: int, value: OffsetValue | None, error: ErrorCode = ErrorCode.none) -> dict[str, object]:
    return {
        "partition_index": partition,
        "committed_offset": -1 if value is None else value.offset,
        "committed_leader_epoch": -1 if value is None else value.leader_epoch,
        "metadata": "" if value is None else value.metadata,
        "error_code": error,
    }


def _refused(wanted: object, error: object) -> dict[str, object]:
    assert isinstance(error, ErrorCode)
    indexes: tuple[int, ...] = getattr(wanted, "partition_indexes", ())
    return {"name": getattr(wanted, "name", ""), "partitions": [_row(index, None, error) for index in indexes]}
