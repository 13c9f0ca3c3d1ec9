"""AlterConfigs and IncrementalAlterConfigs (KIP-339): replace, set, delete, append and subtract, checked against the
tables of configs."""

import operator
from collections import Counter
from collections.abc import Mapping

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.apply import apply
from ottla.controller.metadata.config_def import ConfigDef, ConfigType, InvalidConfig, split_list
from ottla.controller.metadata.decision import Decision, Policy, Refusal
from ottla.controller.metadata.election import elect_leaderless, forget_eligible
from ottla.controller.metadata.group_config import GROUP_CONFIGS, HEARTBEAT_INTERVAL, SESSION_TIMEOUT
from ottla.controller.metadata.image import MetadataImage
from ottla.controller.metadata.min_insync import MIN_INSYNC, check_min_insync
from ottla.controller.metadata.records import ConfigChanged, Record
from ottla.controller.metadata.topic_config import TOPIC_CONFIGS
from ottla.controller.rpc.models.configs import (
    ConfigOp,
    ConfigResourceOps,
    ConfigResult,
    IncrementalAlterConfigs,
    IncrementalAlterConfigsResponse,
)

UNCLEAN = "unclean.leader.election.enable"


def check_topic_configs(configs: Mapping[str, str | None]) -> dict[str, str]:
    """The configs of a new topic, each known and valid. Raises Refusal(INVALID_CONFIG)."""
    checked = {}
    for key, value in configs.items():
        row = TOPIC_CONFIGS.get(key)
        if row is None:
            raise Refusal(ErrorCode.invalid_config, f"Unknown topic config name: {key}")
        if value is None:
            raise Refusal(ErrorCode.invalid_config, f"Null value not supported for topic configs: {key}")
        _check_value(row, value)
        checked[key] = value
    _check_together(checked)
    return checked


def _check_value(row: ConfigDef, value: str) -> None:
    try:
        row.parse(value)
    except InvalidConfig as error:
        raise Refusal(ErrorCode.invalid_config, str(error)) from None


def _check_together(values: Mapping[str, str]) -> None:
    """What is valid alone but not with the others."""

    def number(key: str) -> int:
        value = TOPIC_CONFIGS[key].parse(values.get(key) or TOPIC_CONFIGS[key].default or "")
        assert isinstance(value, int)
        return value

    if number("min.compaction.lag.ms") > number("max.compaction.lag.ms"):
        raise Refusal(
            ErrorCode.invalid_config,
            f"conflict topic config setting min.compaction.lag.ms ({number('min.compaction.lag.ms')}) > "
            f"max.compaction.lag.ms ({number('max.compaction.lag.ms')})",
        )


def _check_group(values: Mapping[str, str], policy: Policy) -> None:
    def number(key: str) -> int:
        row = GROUP_CONFIGS[key]
        return int(values.get(key) or policy.broker_defaults.get(row.synonyms[0].name) or row.default or 0)

    for key in (SESSION_TIMEOUT, HEARTBEAT_INTERVAL):
        for bound, wrong, word in (("min", operator.lt, "greater"), ("max", operator.gt, "less")):
            limit = _limit(policy, f"group.{key.replace('.', f'.{bound}.', 1)}")
            if key in values and limit is not None and wrong(number(key), limit[1]):
                raise Refusal(
                    ErrorCode.invalid_config, f"{key} must be {word} than or equal to {limit[0]} ({limit[1]})"
                )
    if number(SESSION_TIMEOUT) <= number(HEARTBEAT_INTERVAL):
        raise Refusal(ErrorCode.invalid_config, f"{SESSION_TIMEOUT} must be greater than {HEARTBEAT_INTERVAL}")


def _limit(policy: Policy, name: str) -> tuple[str, int] | None:
    """A setting of the controller's own node."""
    row = policy.broker_configs.get(name)
    text = policy.broker_defaults.get(name) or (row.default if row is not None else None)
    return None if text is None else (name, int(text))


def alter_configs(
    image: MetadataImage, policy: Policy, request: IncrementalAlterConfigs
) -> Decision[IncrementalAlterConfigsResponse]:
    """Each resource is changed wholly or not at all.

    Where unclean elections become allowed, partitions that wait for a leader get one in the same entry; where fewer
    in-sync replicas are asked for, an ISR that suffices now has no eligible leaders beside it any more.
    Answers per resource UNKNOWN_TOPIC_OR_PARTITION, BROKER_ID_NOT_REGISTERED, INVALID_CONFIG, INVALID_REQUEST.
    """
    asked = Counter((resource.kind, resource.name) for resource in request.resources)
    records: list[Record] = []
    results = []
    for resource in request.resources:
        try:
            if asked[resource.kind, resource.name] > 1:
                raise Refusal(ErrorCode.invalid_request, "Duplicate resource.")
            changes = _alter_one(image, policy, resource)
        except Refusal as refusal:
            code, message = refusal.code.value, refusal.message
            results.append(ConfigResult(kind=resource.kind, name=resource.name, error=code, message=message))
            continue
        records += changes
        results.append(ConfigResult(kind=resource.kind, name=resource.name))
    if request.validate_only:
        records = []
    changed = {record.key for record in records if isinstance(record, ConfigChanged)}
    if MIN_INSYNC in changed:
        after, _ = apply(image, records, image.offset)
        records += forget_eligible(after, policy)
    if UNCLEAN in changed:
        after, _ = apply(image, records, image.offset)
        records += elect_leaderless(after, policy)
    return Decision(tuple(records), IncrementalAlterConfigsResponse(resources=tuple(results)))


def _alter_one(image: MetadataImage, policy: Policy, resource: ConfigResourceOps) -> list[Record]:
    table = _table(image, policy, resource)
    repeated = [key for key, times in Counter(op.key for op in resource.ops).items() if times > 1]
    if repeated:
        raise Refusal(ErrorCode.invalid_request, f"Error due to duplicate config keys: {', '.join(repeated)}")
    before = image.configs.get((resource.kind, resource.name), {})
    after = {} if resource.replace else dict(before)
    for op in resource.ops:
        row = table.get(op.key)
        if row is None:
            raise Refusal(ErrorCode.invalid_config, f"Unknown {resource.kind} config name: {op.key}")
        if not row.dynamic:
            raise Refusal(ErrorCode.invalid_request, f"Cannot update these configs dynamically: {op.key}")
        value = _new_value(row, op, before.get(op.key))
        if value is None:
            after.pop(op.key, None)
        else:
            _check_value(row, value)
            after[op.key] = value
    match resource.kind:
        case "topic":
            _check_together(after)
        case "group":
            _check_group(after, policy)
        case "broker":
            check_min_insync(resource.name, before, after)
    return [
        ConfigChanged(kind=resource.kind, name=resource.name, key=key, value=after.get(key))
        for key in dict.fromkeys((*(op.key for op in resource.ops), *before))
        if before.get(key) != after.get(key)
    ]


def _table(image: MetadataImage, policy: Policy, resource: ConfigResourceOps) -> Mapping[str, ConfigDef]:
    if resource.kind == "topic":
        if resource.name not in image.topics:
            raise Refusal(ErrorCode.unknown_topic_or_partition, f"The topic '{resource.name}' does not exist.")
        return TOPIC_CONFIGS
    if resource.kind == "group":
        if not resource.name:
            raise Refusal(ErrorCode.invalid_request, "Default group resources are not allowed.")
        return GROUP_CONFIGS
    if resource.name and resource.name not in map(str, image.brokers):
        raise Refusal(ErrorCode.broker_id_not_registered, f"No broker with id {resource.name} found.")
    return policy.broker_configs


def _new_value(row: ConfigDef, op: ConfigOp, present: str | None) -> str | None:
    """The value after `op`; None removes it. A list that is not set is changed from its default."""
    if op.op == "delete":
        return None
    if op.value is None:
        raise Refusal(ErrorCode.invalid_request, f"Null value not supported for : {op.key}")
    if op.op == "set":
        return op.value
    if row.type is not ConfigType.LIST:
        raise Refusal(ErrorCode.invalid_config, f"Can't {op.op.upper()} to key {op.key} because its type is not LIST.")
    members = split_list(present if present is not None else row.default or "")
    named = split_list(op.value)
    if op.op == "append":
        return ",".join(dict.fromkeys((*members, *named)))
    return ",".join(member for member in members if member not in named)
