"""`ottla topic create|list|describe|delete`: rpk's grammar and flags, Kafka's column names and lines."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ottla.cli.common import TIMEOUT_MS, add_bootstrap, add_format, columns, ids, positive, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import Admin, ConfigEntry, ConfigResource, TopicMetadata

    Described = dict[ConfigResource, dict[str, ConfigEntry]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    create = verbs.add_parser("create", help="create topics")
    create.add_argument("topics", nargs="+", metavar="TOPIC")
    create.add_argument("-p", "--partitions", type=positive, help="number of partitions (default: the broker's)")
    create.add_argument("-r", "--replicas", "--replication-factor", dest="replicas", type=positive)
    create.add_argument("-c", "--config", action="append", default=[], metavar="KEY=VALUE", help="may be repeated")
    create.add_argument("--if-not-exists", action="store_true", help="leave a topic that exists as it is")

    listing = verbs.add_parser("list", help="list topics")

    describe = verbs.add_parser("describe", help="show leaders, replicas and in-sync replicas")
    describe.add_argument("topics", nargs="*", metavar="TOPIC", help="default: all")

    delete = verbs.add_parser("delete", help="delete topics")
    delete.add_argument("topics", nargs="+", metavar="TOPIC")
    delete.add_argument("--if-exists", action="store_true", help="a topic that is not there is no error")

    for verb in (create, listing, describe, delete):
        add_bootstrap(verb)
        add_format(verb)


def run(args: argparse.Namespace) -> int:
    verbs = {"create": _create, "list": _list, "describe": _describe, "delete": _delete}

    async def work() -> int:
        from ottla.client import Admin

        timeout = 30000 if args.verb in ("create", "delete") else TIMEOUT_MS
        async with Admin(bootstrap_servers=args.bootstrap, request_timeout_ms=timeout) as admin:
            return await verbs[args.verb](admin, args)

    # Wrong arguments are told before anything is asked of the cluster.
    if args.verb == "create":
        _configs(args.config)
    return run_client(work)


def _configs(pairs: list[str]) -> dict[str, str]:
    configs = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise CommandError(f"--config {pair!r} is not KEY=VALUE", status=2)
        configs[key] = value
    return configs


async def _create(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import NewTopic, TopicAlreadyExistsError

    for name in args.topics:
        topic = NewTopic(name, args.partitions or -1, args.replicas or -1, topic_configs=_configs(args.config))
        status = "Created"
        try:
            await admin.create_topics([topic])
        except TopicAlreadyExistsError:
            if not args.if_not_exists:
                raise
            status = "Exists"
        if args.format == "json":
            print_json({"topic": name, "status": status.lower()})
        else:
            print(f"{status} topic {name}.")
    return 0


async def _list(admin: Admin, args: argparse.Namespace) -> int:
    topics = await admin.describe_topics()
    rows = [(t.name, len(t.partitions), _replication(t)) for t in topics.values()]
    if args.format == "json":
        print_json([dict(zip(("name", "partitions", "replicas"), row, strict=True)) for row in rows])
    else:
        print(columns(("NAME", "PARTITIONS", "REPLICAS"), rows))
    return 0


async def _describe(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import ConfigResource

    topics = await admin.describe_topics(args.topics or None)
    resources = [ConfigResource("topic", name) for name in topics]
    described = await _described(admin, resources)
    if args.format == "json":
        print_json([_as_json(t, _changed(described, t.name)) for t in topics.values()])
        return 0
    for topic in topics.values():
        configs = ",".join(f"{name}={value}" for name, value in _changed(described, topic.name).items())
        count = len(topic.partitions)
        print(
            f"Topic: {topic.name}\tTopicId: {_id(topic)}\tPartitionCount: {count}\t"
            f"ReplicationFactor: {_replication(topic)}\tConfigs: {configs}"
        )
        for p in topic.partitions.values():
            leader = p.leader if p.leader >= 0 else "none"
            print(
                f"\tTopic: {topic.name}\tPartition: {p.partition}\tLeader: {leader}\tEpoch: {p.leader_epoch}\t"
                f"Replicas: {ids(p.replicas)}\tIsr: {ids(p.isr)}"
            )
    return 0


async def _delete(admin: Admin, args: argparse.Namespace) -> int:
    from ottla.client import UnknownTopicOrPartitionError

    for name in args.topics:
        status = "Deleted"
        try:
            await admin.delete_topics([name])
        except UnknownTopicOrPartitionError:
            if not args.if_exists:
                raise
            status = "Absent"
        if args.format == "json":
            print_json({"topic": name, "status": status.lower()})
        else:
            print(f"{status} topic {name}.")
    return 0


async def _described(admin: Admin, resources: list[ConfigResource]) -> Described:
    from ottla.client import UnsupportedVersionError

    try:
        return await admin.describe_configs(resources) if resources else {}
    except UnsupportedVersionError:
        # The partitions can be shown all the same.
        return {}


def _changed(described: Described, topic: str) -> dict[str, str | None]:
    """The configs that were set for this topic itself."""
    return {
        name: entry.value
        for resource, entries in described.items()
        for name, entry in entries.items()
        if resource.name == topic and entry.source == "DYNAMIC_TOPIC_CONFIG"
    }


def _replication(topic: TopicMetadata) -> int:
    return max((len(p.replicas) for p in topic.partitions.values()), default=0)


def _id(topic: TopicMetadata) -> str:
    """Kafka's form of a topic id: base64 without padding."""
    import base64

    return base64.urlsafe_b64encode(topic.topic_id.bytes).rstrip(b"=").decode() if topic.topic_id else "none"


def _as_json(topic: TopicMetadata, configs: dict[str, str | None]) -> dict[str, Any]:
    return {
        "name": topic.name,
        "topic_id": _id(topic),
        "internal": topic.is_internal,
        "configs": configs,
        "partitions": [
            {
                "partition": p.partition,
                "leader": p.leader,
                "leader_epoch": p.leader_epoch,
                "replicas": p.replicas,
                "isr": p.isr,
                "offline_replicas": p.offline_replicas,
            }
            for p in topic.partitions.values()
        ],
    }
