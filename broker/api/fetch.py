"""Fetch, v4-v18: records for consumers and for followers.

v4 isolation level · v5 log start offset · v7 sessions (KIP-227) · v9 leader epochs (KIP-320) · v10 zstd · v11 rack ·
v12 last fetched epoch and diverging epoch (KIP-595) · v13 topic ids (KIP-516) · v15 replica epoch (KIP-903) ·
v16 the new leader's address with the error (KIP-951) · v17 directory ids · v18 the high watermark that a follower
knows (KIP-1166; it is not looked at).

Differences from Kafka: a follower serves a consumer (KIP-392) only while it is in the ISR and has heard from its leader
in this epoch, and only one that gives its rack or a leader epoch: another one comes with old metadata, and is told
where the leader is. It answers OFFSET_NOT_AVAILABLE and never OFFSET_OUT_OF_RANGE, as only the leader
knows the range. A follower must have authenticated itself as the broker whose id it gives, and hears of the high
watermark within 0.1 s, or at once where replica.selector.class sends consumers to followers. A consumer that asks from
above the high watermark, but not above the log end, waits as in Kafka.

A leader that was replaced may not know it yet. So an offset above the log end is OFFSET_OUT_OF_RANGE only when whoever
may be elected has fetched here since it was first asked for, and till then one at which there is nothing yet; and a
`last_fetched_epoch` above the leader's own is UNKNOWN_LEADER_EPOCH. In Kafka consumers begin anew in both cases.

What a quota does not allow any more is sent all the same, and waited for afterwards; Kafka answers without records.

A long poll is woken by an append, a move of the high watermark (of the last stable offset, for readers of committed
records) or a change of role; it is never polled. Requests of a session look only at partitions that had such an event,
or that the client named.
"""

from __future__ import annotations

import asyncio

from kio.schema.errors import ErrorCode

from ottla.broker.context import BrokerContext
from ottla.broker.fetch_sessions import FetchItem, FetchPlan, Key, key_of
from ottla.broker.fetching import TOPIC_IDS_SINCE, Fetching, selects_by_rack
from ottla.broker.quotas import FETCH
from ottla.broker.replication import NEWS_WITHIN_S, FetchWait
from ottla.wire import FetchPartitionResponse, FetchRequest, Later, Raw, Request, encode_fetch_response, on_the_bill

SESSIONS_SINCE = 7
MAX_WAIT_S = 300.0


def handle(context: BrokerContext, request: Request) -> Raw | Later:
    body: FetchRequest = request.body
    version = request.api_version
    principal = request.connection.principal
    if body.replica_id >= 0 and principal != f"node:{body.replica_id}":
        return _refuse(version, body, ErrorCode.cluster_authorization_failed)
    now = asyncio.get_running_loop().time()
    plan = _plan(context, version, body, now)
    if isinstance(plan, ErrorCode):
        return encode_fetch_response(version, (), error_code=plan)
    fetching = Fetching(context, version, body, plan, request.connection.listener)
    fetching.look(first=True)
    if fetching.size >= body.min_bytes or fetching.urgent or body.max_wait_ms <= 0 or fetching.nothing_asked:
        return fetching.answer(_charge(context, request, fetching))
    wait_s = body.max_wait_ms / 1000
    deadline = now + (wait_s if wait_s < MAX_WAIT_S else MAX_WAIT_S)
    news_within = 0.0 if selects_by_rack(context) else NEWS_WITHIN_S
    if fetching.news and now + news_within < deadline:
        deadline = now + news_within
    wait = context.replicas.fetch_wait(body.min_bytes - fetching.size, deadline, news_within=news_within)
    fetching.watch(wait)
    return _answer_after(context, request, wait, fetching)


def _charge(context: BrokerContext, request: Request, fetching: Fetching) -> int:
    """Count the bytes that go to a consumer, and the time until now, against its quotas. Followers have throttles of
    their own."""
    wait_ms = 0
    if context.quotas.fetches and not fetching.follower:
        wait_ms = context.quotas.charge(FETCH, fetching.size, request)
    if request.bill is not None:
        wait_ms = max(wait_ms, request.bill.charge(request))
    return wait_ms


def _answer_after(context: BrokerContext, request: Request, wait: FetchWait, fetching: Fetching) -> Later:
    """The answer once the wait is over."""
    later = Later(wait.give_up)

    def over() -> None:
        try:
            fetching.look(first=False)
            answer = fetching.answer(_charge(context, request, fetching))
        except Exception as error:  # noqa: BLE001 - handed on to the wire
            later.fail(error)
        else:
            later.give(answer)

    wait.then(on_the_bill(request, over))
    return later


def _plan(context: BrokerContext, version: int, body: FetchRequest, now: float) -> FetchPlan | ErrorCode:
    items = [FetchItem(topic, row) for topic, rows in body.topics for row in rows] if body.topics else []
    if len(items) > 1:
        # Each partition once, the last row counts, as in Kafka.
        items = list({item.key: item for item in items}.values())
    if version < SESSIONS_SINCE:
        return FetchPlan(None, False, items, 0)
    forgotten: list[Key] = []
    for topic, indexes in body.forgotten:
        forgotten += [key_of(topic, index) for index in indexes]
    return context.sessions.begin(
        body.session_id,
        body.session_epoch,
        items,
        forgotten,
        privileged=body.replica_id >= 0,
        uses_topic_ids=version >= TOPIC_IDS_SINCE,
        now=now,
    )


def _refuse(version: int, body: FetchRequest, error: ErrorCode) -> Raw:
    """The request as a whole; by partition where the version has no error for the whole."""
    if version >= SESSIONS_SINCE:
        return encode_fetch_response(version, (), error_code=error)
    topics = [(topic, [FetchPartitionResponse(row.partition, error) for row in rows]) for topic, rows in body.topics]
    return encode_fetch_response(version, topics)
