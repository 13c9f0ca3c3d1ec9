"""Writes the pages of docs/ that are tables of the code: settings, APIs, metrics, the states of the peer
watch, and what a simulation does to a cluster.

`make docs` runs it; a test compares what is committed with what it gives, so that the pages cannot drift from the code.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from uuid import UUID

from prometheus_client.metrics_core import Metric

from ottla.broker import TABLE, Coverage, QuorumStatus, TransactionSummary, coverage
from ottla.broker.api import Row
from ottla.broker.groups.classic import TRANSITIONS as GROUP_TRANSITIONS
from ottla.broker.groups.classic import State
from ottla.broker.groups.consumer import GROUP_STEPS, MEMBER_STEPS, GroupState, MemberState
from ottla.broker.transactions import TRANSITIONS as TRANSACTION_TRANSITIONS
from ottla.broker.transactions import State as TransactionState
from ottla.client.producer.transactions import TRANSITIONS as PRODUCER_TRANSITIONS
from ottla.client.producer.transactions import State as ProducerState
from ottla.controller import (
    TOPIC_CONFIGS,
    BrokerImage,
    Listener,
    MetadataImage,
    PartitionImage,
    TopicImage,
)
from ottla.controller.rpc.watch_state import MAX_PROBES, TRANSITIONS, Sign, Standing
from ottla.gateway import GroupRow, MetadataChanges, NodeViews, ReplicaRow
from ottla.gateway.metrics import make_registry
from ottla.log import CleanerStatus
from ottla.node.definitions import BROKER_CONFIGS
from ottla.node.kafka_keys import DIFFERENT, INERT, REFUSED, UNDESCRIBED
from ottla.node.reference import describe_settings
from ottla.simulation.faults import GROUPS, needs_sync
from ottla.simulation.whims import CHOICES, RATES
from ottla.wire import Stats

WIDTH = 120
FOLDER = Path(__file__).resolve().parent
HEAD = "<!-- Made by docs/generate.py from the code; `make docs` makes it anew. -->\n"

TOPIC_SYNONYMS = {synonym.name: row.name for row in TOPIC_CONFIGS.values() for synonym in row.synonyms}
"""Broker configs that give topics their defaults, and the topic config that each one gives."""


def pages() -> Mapping[str, str]:
    """The generated pages, by file name in docs/."""
    return {
        "apis.md": apis(),
        "configuration.md": configuration(),
        "faults.md": faults(),
        "metrics.md": metrics(),
        "group-states.md": group_states(),
        "transaction-states.md": transaction_states(),
        "producer-states.md": producer_states(),
        "peer-watch.md": peer_watch(),
    }


def _page(lines: Iterable[str]) -> str:
    return HEAD + "\n" + "\n".join(lines).rstrip("\n") + "\n"


def _prose(text: str) -> list[str]:
    return [*textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False), ""]


def _item(text: str) -> list[str]:
    return textwrap.wrap(f"- {text}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


# configuration.md


def configuration() -> str:
    return _page(_configuration())


def _configuration() -> Iterator[str]:
    yield "# Configuration\n"
    yield from _prose(
        "Every setting of a node, under Kafka's names. They are given in a TOML file (`ottla node --config FILE`; "
        '`node.id = 1`, `"node.id" = 1` and `id = 1` under `[node]` mean the same) or as environment variables, which '
        "win: `KAFKA_` and then the name in upper case with `.` as `_`, `_` as `__` and `-` as `___`, so "
        "`KAFKA_NODE_ID`. `CLUSTER_ID` is `cluster.id`. A wrong name, value or combination is one line on standard "
        "error and exit status 2."
    )
    yield from _prose(
        "Defaults are Kafka's unless the text says so. Names that begin with `ottla.` are not Kafka's. `log.dir` means "
        "`log.dirs`, `broker.id` means `node.id`. What is taken without effect, and what is refused, is listed at the "
        "end; a test holds all of it against the keys of Kafka 4.1, with their types and defaults."
    )
    yield "## Settings of a node\n"
    yield from _prose(
        "The *dynamic* ones can be changed while the cluster runs, for one broker or for all "
        "(IncrementalAlterConfigs), and take effect at once; what the file says holds again when the change is deleted "
        "(KIP-226)."
    )
    for name, kind, default, doc in describe_settings():
        if name not in TOPIC_SYNONYMS and name not in INERT:
            dynamic = ", dynamic" if BROKER_CONFIGS[name].dynamic else ""
            yield from _item(_setting(name, kind + dynamic, default, doc))
    yield ""
    yield "## Settings that topics take their defaults from\n"
    yield from _prose(
        "They are dynamic too, except those whose name ends in a coarser unit than milliseconds. A topic's own config "
        "wins over all of them. `min.insync.replicas` is one number for the whole cluster: the first broker that "
        "registers has the active controller's file written down in the metadata, and from then on only "
        "IncrementalAlterConfigs for all brokers changes it, as whoever commits with fewer replicas than the "
        "controller counts on would lose records (KIP-966)."
    )
    for name, kind, default, doc in describe_settings():
        if name in TOPIC_SYNONYMS:
            yield from _item(_setting(name, kind, default, doc))
    yield ""
    yield "## Configs of a topic\n"
    yield from _prose("Set when a topic is created, or later with IncrementalAlterConfigs.")
    for row in TOPIC_CONFIGS.values():
        synonyms = ", ".join(f"`{synonym.name}`" for synonym in row.synonyms)
        doc = f"{row.doc} Default from {synonyms}." if synonyms else row.doc
        yield from _item(_setting(row.name, row.type.name.lower(), row.default or "", doc))
    yield ""
    yield from _beside()


def _beside() -> Iterator[str]:
    yield "## Taken without effect\n"
    yield from _prose(
        "Files and compose services made for Kafka commonly have these. They are accepted, named in one log line at "
        "the start, shown by DescribeConfigs as read-only with what the file says (a change while the "
        "node runs is refused, as it would look like one), and do nothing:"
    )
    for row in INERT.values():
        reason = row.doc.removeprefix("Taken without effect: ")
        yield from _item(_setting(row.name, row.type.name.lower(), row.default or "", reason))
    yield ""
    yield from _prose(
        "So are these, which Kafka 4 does not know, or keeps to itself; DescribeConfigs does not show them: "
        + ", ".join(f"`{name}`" for name in sorted(UNDESCRIBED))
        + "."
    )
    yield "## Not as in Kafka\n"
    yield from _prose("Settings whose type or default is another, or that only Kafka changes while it runs:")
    for name, reason in DIFFERENT.items():
        yield from _item(f"**`{name}`**: {reason}.")
    yield ""
    yield "## Refused\n"
    yield from _prose(
        "Kafka's other keys, of brokers, topics and groups. A file that has one is refused, since what it asks for "
        "would not be so; DescribeConfigs does not show them."
    )
    by_reason: dict[str, list[str]] = {}
    for pattern, reason in REFUSED.items():
        by_reason.setdefault(reason, []).append(f"`{pattern}`")
    for reason, patterns in by_reason.items():
        yield from _item(f"{', '.join(patterns)}: {reason}.")


def _setting(name: str, kind: str, default: str, doc: str) -> str:
    shown = default if default == "(required)" else f"default `{default}`" if default else "no default"
    return f"**`{name}`** ({kind}, {shown.strip('()')}): {doc}"


# apis.md


def apis() -> str:
    return _page(_apis())


def _apis() -> Iterator[str]:
    yield "# APIs\n"
    yield from _prose(
        "What a broker serves of Kafka's protocol, against what Kafka 4 has in its own schema (as far as kio, the "
        "codec, knows it), and why the rest is missing. A client uses the largest version that both sides have. `ottla "
        "apis` prints the same, and with `--bootstrap` what any running broker says of itself."
    )
    rows = coverage()
    yield from _coverage_table([row for row in rows if row.for_clients])
    yield "## Between Kafka's servers\n"
    yield from _prose(
        "The rest of Kafka's schema passes between Kafka's own brokers and controllers, which here is the business of "
        "the controller listener; no client has a use for it."
    )
    yield from _prose(", ".join(f"{row.name} ({row.key})" for row in rows if not row.for_clients) + ".")
    yield "## Version notes and differences from Kafka\n"
    for row in TABLE:
        yield f"### {row.name} ({row.key})\n"
        yield from _notes(row)
    yield "### ApiVersions (18)\n"
    yield from _prose(
        "Answered by the registry that dispatches requests. A version that is not known gets the v0 body with "
        "UNSUPPORTED_VERSION and the range of ApiVersions itself (KIP-511)."
    )


def _coverage_table(rows: Iterable[Coverage]) -> Iterator[str]:
    yield "| Key | API | Kafka | Served | Missing | Why |"
    yield "|---:|---|---|---|---|---|"
    for row in rows:
        served = _versions(*row.served) if row.served is not None else "-"
        missing = "all" if row.served is None else ", ".join(f"v{version}" for version in row.missing)
        cells = (row.key, row.name, _versions(*row.kafka), served, missing, row.reason or "")
        yield "| " + " | ".join(map(str, cells)) + " |"
    yield ""


def _notes(row: Row) -> Iterator[str]:
    module = sys.modules[row.handle.__module__]
    assert module.__doc__ is not None, f"{module.__name__} says nothing about its versions"
    for paragraph in module.__doc__.strip().split("\n\n"):
        yield from _prose(" ".join(paragraph.split()))


def _versions(low: int, high: int) -> str:
    return f"v{low}" if low == high else f"v{low}-v{high}"


# faults.md


def faults() -> str:
    return _page(_faults())


def _faults() -> Iterator[str]:
    yield "# What a simulation does to a cluster\n"
    yield from _prose(
        "The kinds of fault that `ottla simulate` knows, by what they harm (`--faults` takes their names). Each seed "
        "turns a few of them on; how it goes on from there is told in [simulation.md](simulation.md). *Nodes* is the "
        "smallest cluster that a fault makes sense in. *Synced* marks those that no cluster may be expected to take "
        "that acknowledges records before they are on disk: with one of them `ottla.flush` is `synced`. Those in "
        "*italics* are drawn only with the clients that they are about, and strike where they are asked for by name."
    )
    for group, kinds in GROUPS.items():
        yield f"## {group.capitalize()}\n"
        yield "| Fault | Nodes | Synced | What happens |"
        yield "|---|---:|---|---|"
        for name, kind in kinds.items():
            shown = name if kind.usual else f"*{name}*"
            yield f"| {shown} | {kind.nodes} | {'yes' if needs_sync([name]) else ''} | {kind.doc} |"
        yield ""
    yield "## What else a seed decides\n"
    yield from _prose(
        "Half of the runs have the first value of a setting, the others any of them: small limits make happen all the "
        "time what is rare otherwise. Clients do "
        + ", ".join(f"{rate:g}" for rate in RATES)
        + " operations per second in all, mostly few."
    )
    yield "| Setting of the nodes | Values |"
    yield "|---|---|"
    for name, values in CHOICES.items():
        yield f"| `{name}` | {', '.join(values)} |"


# metrics.md


def metrics() -> str:
    return _page(_metrics())


def _metrics() -> Iterator[str]:
    yield "# Metrics\n"
    yield from _prose(
        "What `/metrics` on a node's HTTP listener tells, in Prometheus' text format or OpenMetrics as the scraper "
        "asks. Names of kafka_exporter (`kafka_topic_...`, `kafka_brokers`) are about the cluster, and each sample "
        "comes from one node only: the active controller, or the leader of the partition. Names of Kafka's JMX beans "
        "as Strimzi exports them (`kafka_server_...`) are about one node. `ottla_` is what nobody else has."
    )
    for metric in sorted(make_registry(_example()).collect(), key=lambda each: each.name):
        yield from _item(_metric(metric))


def _metric(metric: Metric) -> str:
    name = metric.name + ("_total" if metric.type == "counter" else "")
    labels = ", ".join(sorted({label for sample in metric.samples for label in sample.labels}))
    return f"**`{name}`** ({metric.type}{f' by {labels}' if labels else ''}): {metric.documentation}"


def _example() -> NodeViews:
    """A node that has something to tell of everything, so that every metric has a sample with its labels."""
    broker = BrokerImage(1, 1, "life", (Listener("PLAINTEXT", "node-1", 9092),), fenced=False)
    topic = TopicImage(UUID(int=1), "topic", {0: PartitionImage((1, 2), (1, 2), 1, 0, 0)})
    image = MetadataImage("cluster", 1, {1: broker}, {topic.name: topic}, {topic.id: topic.name})
    replica = ReplicaRow(topic.name, 0, True, 0, 1, 0, 1, 100, 1, 2, 2, {2: 1}, last_stable_offset=1)
    changes = MetadataChanges(1, image)
    return NodeViews(
        node_id=1,
        reasons_not_ready=dict,
        image=lambda: image,
        quorum=lambda: QuorumStatus(1, 1, 1, 1, (1,)),
        is_active_controller=lambda: True,
        raft_log_end=lambda: 2,
        standings=lambda: {2: "watching"},
        replicas=lambda: [replica],
        groups=lambda: [GroupRow("group", "Stable", 1, {(topic.name, 0): 1})],
        transactions=lambda: TransactionSummary({"Ongoing": 1}, 0.5, 0),
        traffic=lambda: Stats(requests={0: 1}),
        changes=lambda: changes,
        cleaner=lambda: CleanerStatus(0, 0.0),
    )


# peer-watch.md


def peer_watch() -> str:
    return _page(_peer_watch())


def _peer_watch() -> Iterator[str]:
    yield "# The states of the watch over a peer\n"
    yield from _prose(
        "Every node keeps a connection to every other one, and concludes from what becomes of it (see "
        "[architecture.md](architecture.md#when-a-node-dies)). Rows are what was known, columns what was seen, cells "
        "what is known then; a dot stands for what cannot occur. Entering *dead* is evidence, and is reported to Raft "
        "and to the active controller, as is *refused* after that; entering *watching* lifts it."
    )
    yield "| | " + " | ".join(sign.value for sign in Sign) + " |"
    yield "|---" * (len(Sign) + 1) + "|"
    for standing in Standing:
        yield f"| **{standing.value}** | " + " | ".join(_next(standing, sign) for sign in Sign) + " |"
    yield ""
    for sign, meaning in SIGNS.items():
        yield from _item(f"*{sign.value}*: {meaning}")
    yield ""
    yield from _prose(
        f"After {MAX_PROBES} attempts in a row that prove nothing, *broken* becomes *silent*: nothing is concluded "
        "from silence, and the session timeout decides."
    )


SIGNS = {
    Sign.ESTABLISHED: "the peer accepted the watch.",
    Sign.GOODBYE: "it stops on purpose.",
    Sign.BROKEN: "the connection was closed or reset without a goodbye.",
    Sign.REFUSED: "nobody listens at any of its addresses.",
    Sign.UNRESOLVABLE: "its name does not resolve.",
    Sign.SILENT: "a deadline passed, there is no route, or the peer refuses this node.",
}


def _next(standing: Standing, sign: Sign) -> str:
    after = TRANSITIONS.get((standing, sign))
    return "·" if after is None else after.value


# group-states.md


def group_states() -> str:
    return _page(_group_states())


def _diagram(steps: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield "```mermaid\nstateDiagram-v2"
    for before, after in steps:
        yield f"    {before} --> {after}"
    yield "```\n"


def _group_states() -> Iterator[str]:
    yield "# The states of groups\n"
    yield "## A classic group\n"
    yield from _prose(
        "From the table that the coordinator itself goes by; any other step ends in an error. A group that is loaded "
        "from the log begins in Stable when it has members, and else in Empty."
    )
    order = list(State).index
    steps = [
        (state.value, after.value) for state, all_of in GROUP_TRANSITIONS.items() for after in sorted(all_of, key=order)
    ]
    yield from _diagram([("[*]", "Empty"), *steps, ("Dead", "[*]")])
    for state, meaning in GROUP_STATES.items():
        yield from _item(f"*{state.value}*: {meaning}")
    yield from _consumer_group_states()


def _consumer_group_states() -> Iterator[str]:
    yield "\n## A group of the consumer protocol (KIP-848)\n"
    yield from _prose(
        "Its state follows from its epochs and its members, and is kept nowhere. The table has what one decision can "
        "lead to; random schedules of the tests make every step in it, and no other."
    )
    order = list(GroupState).index
    steps = [(str(state), str(after)) for state, all_of in GROUP_STEPS.items() for after in sorted(all_of, key=order)]
    yield from _diagram([("[*]", "Empty"), *steps, ("Empty", "[*]")])
    for each, meaning in CONSUMER_GROUP_STATES.items():
        yield from _item(f"*{each}*: {meaning}")
    yield "\n### Its members\n"
    yield from _prose(
        "The numbers are those in `__consumer_offsets`. A member goes from step to step with its heartbeats, and an "
        "instance that says that it will be back (epoch -2) is STABLE until then. No partition has two owners: a "
        "member keeps its epoch, and so may commit, until it has given up what it must, and is handed only what is "
        "nobody's."
    )
    beginnings = [("[*]", "STABLE"), ("[*]", "UNRELEASED_PARTITIONS")]
    yield from _diagram(
        [*beginnings, *((one.name, next.name) for one, all_of in MEMBER_STEPS.items() for next in all_of)]
    )
    for member, meaning in MEMBER_STATES.items():
        yield from _item(f"{member.value} *{member.name}*: {meaning}")
    yield "\n| from | to | why |\n|---|---|---|"
    for member, next_states in MEMBER_STEPS.items():
        for following, why in next_states.items():
            yield f"| {member.name} | {following.name} | {why} |"


CONSUMER_GROUP_STATES = {
    GroupState.EMPTY: "no members; committed offsets may be there.",
    GroupState.ASSIGNING: "its epoch is ahead of its target assignment, which the next heartbeat makes.",
    GroupState.RECONCILING: "has a target assignment, and members who do not have it yet, or are away.",
    GroupState.STABLE: "every member has what the target says, and knows its epoch.",
}

MEMBER_STATES = {
    MemberState.STABLE: "it has what it is to have in its epoch, which another target may have overtaken.",
    MemberState.UNREVOKED_PARTITIONS: "it has to give up partitions within its rebalance timeout, and keeps its epoch "
    "until it did.",
    MemberState.UNRELEASED_PARTITIONS: "it has the new epoch and part of its target; others have to give up the rest.",
}


GROUP_STATES = {
    State.EMPTY: "no members; committed offsets may be there.",
    State.PREPARING_REBALANCE: "waits for its members to join, at most for the largest of their rebalance timeouts.",
    State.COMPLETING_REBALANCE: "has a new generation, and waits for its leader's assignment to be replicated.",
    State.STABLE: "every member can have its assignment.",
    State.DEAD: "its end is being written: it is deleted, or a group of the consumer protocol from now on.",
}


# transaction-states.md


def transaction_states() -> str:
    return _page(_transaction_states())


def _transaction_states() -> Iterator[str]:
    yield "# The states of a transactional id\n"
    yield from _prose(
        "From the table that the coordinator itself goes by: a record that would be any other step ends the node. The "
        "numbers are those in `__transaction_state`."
    )
    steps = [(one.label, after.label) for one, all_of in TRANSACTION_TRANSITIONS.items() for after in sorted(all_of)]
    yield from _diagram([("[*]", "Empty"), *steps, ("Dead", "[*]")])
    for transaction_state, meaning in TRANSACTION_STATES.items():
        yield from _item(f"{transaction_state.value} *{transaction_state.label}*: {meaning}")


TRANSACTION_STATES = {
    TransactionState.EMPTY: "it has a producer, which has begun no transaction in its present epoch.",
    TransactionState.ONGOING: "partitions are in the transaction; it may last for the producer's timeout.",
    TransactionState.PREPARE_COMMIT: "the commit is decided and stands, whoever coordinates; the partitions are told.",
    TransactionState.PREPARE_ABORT: "the abort is decided; the partitions are told.",
    TransactionState.COMPLETE_COMMIT: "every partition knows of the commit.",
    TransactionState.COMPLETE_ABORT: "every partition knows of the abort.",
    TransactionState.DEAD: "given up after `transactional.id.expiration.ms`; in the log that is a tombstone.",
    TransactionState.PREPARE_EPOCH_FENCE: (
        "the producer is fenced by another one, or has taken too long; never in the log, because the abort that "
        "follows is the same record."
    ),
}


# producer-states.md


def producer_states() -> str:
    return _page(_producer_states())


def _producer_states() -> Iterator[str]:
    yield "# The states of a transactional producer\n"
    yield from _prose(
        "From the table that the client library goes by, with KafkaProducer's names; any other step is an "
        "IllegalStateError of the program."
    )
    order = list(ProducerState).index
    steps = [
        (one.value, after.value) for one, all_of in PRODUCER_TRANSITIONS.items() for after in sorted(all_of, key=order)
    ]
    first, last = ("[*]", ProducerState.UNINITIALIZED.value), (ProducerState.FATAL_ERROR.value, "[*]")
    yield from _diagram([first, *steps, last])
    for state, meaning in PRODUCER_STATES.items():
        yield from _item(f"*{state.value}*: {meaning}")


PRODUCER_STATES = {
    ProducerState.UNINITIALIZED: "not started.",
    ProducerState.INITIALIZING: (
        "asks for a producer id, or, after a transaction, for its next epoch: sequences were lost, or the next "
        "transaction is the first one by version 2."
    ),
    ProducerState.READY: "can begin a transaction.",
    ProducerState.IN_TRANSACTION: "takes records and offsets.",
    ProducerState.COMMITTING: "sends what is buffered, then EndTxn.",
    ProducerState.ABORTING: (
        "gives up what is buffered, then sends EndTxn; by version 1 only when nothing is on its way any more."
    ),
    ProducerState.ABORTABLE_ERROR: "something of the transaction failed, and all that can be done is to abort it.",
    ProducerState.FATAL_ERROR: "the producer is fenced, or nothing is sure any more; it can only be stopped.",
}


def main() -> None:
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
