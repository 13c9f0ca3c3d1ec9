"""AlterClientQuotas (KIP-546): limits of what users and client ids may use.

A quota is kept as a config of kind "client-quota"; the name of the resource is its entity, as `entity_name` writes it.
"""

import json
import math
from collections.abc import Iterator

from kio.schema.errors import ErrorCode

from ottla.controller.metadata.decision import Decision, Refusal
from ottla.controller.metadata.image import CLIENT_QUOTA, MetadataImage
from ottla.controller.metadata.records import ConfigChanged, Record
from ottla.controller.rpc.models.configs import (
    AlterClientQuotas,
    AlterClientQuotasResponse,
    ClientQuotaEntry,
    ClientQuotaOp,
    ClientQuotaResult,
    QuotaEntity,
)

USER, CLIENT_ID = "user", "client-id"
PRODUCER_BYTE_RATE, CONSUMER_BYTE_RATE = "producer_byte_rate", "consumer_byte_rate"
REQUEST_PERCENTAGE = "request_percentage"

_WHOLE = {PRODUCER_BYTE_RATE: True, CONSUMER_BYTE_RATE: True, REQUEST_PERCENTAGE: False}
"""Every quota there is, and whether its value is a whole number (bytes a second) or any (percent of a core)."""
_ELSEWHERE = ("ip", "connection_creation_rate", "controller_mutation_rate")
_MAX_NAME = 4096


def entity_name(entity: QuotaEntity) -> str:
    """The entity as one text: the same for the same parts in whatever order. A name of None is the default one."""
    return json.dumps(dict(sorted(entity)), separators=(",", ":"))


def parse_entity(name: str) -> dict[str, str | None]:
    """The parts of `entity_name`."""
    parts: dict[str, str | None] = json.loads(name)
    return parts


def alter_client_quotas(image: MetadataImage, request: AlterClientQuotas) -> Decision[AlterClientQuotasResponse]:
    """Each entry is changed wholly or not at all; removing what is not set is no error, as in Kafka."""
    records: list[Record] = []
    results = []
    seen: set[str] = set()
    for entry in request.entries:
        code, message = ErrorCode.none, None
        try:
            _check_entity(entry.entity)
            name = entity_name(entry.entity)
            if name in seen:
                raise Refusal(ErrorCode.invalid_request, "The entity is given more than once.")
            seen.add(name)
            changes = _changes(image, name, entry)
        except Refusal as refusal:
            code, message = refusal.code, refusal.message
        else:
            records += changes
        results.append(ClientQuotaResult(entity=entry.entity, error=code.value, message=message))
    return Decision(() if request.validate_only else tuple(records), AlterClientQuotasResponse(entries=tuple(results)))


def _check_entity(entity: QuotaEntity) -> None:
    if not entity:
        raise Refusal(ErrorCode.invalid_request, "Invalid empty client quota entity.")
    if len(dict(entity)) != len(entity):
        raise Refusal(ErrorCode.invalid_request, "An entity type is given more than once.")
    for kind, name in entity:
        if kind not in (USER, CLIENT_ID):
            known = "is not supported here" if kind in _ELSEWHERE else "is unknown"
            raise Refusal(ErrorCode.invalid_request, f"The entity type {kind!r} {known}.")
        if name is not None and not 0 < len(name) <= _MAX_NAME:
            raise Refusal(ErrorCode.invalid_request, f"The name of a {kind} has 1 to {_MAX_NAME} characters.")


def _changes(image: MetadataImage, name: str, entry: ClientQuotaEntry) -> list[Record]:
    present = image.configs.get((CLIENT_QUOTA, name), {})
    if len({op.key for op in entry.ops}) != len(entry.ops):
        raise Refusal(ErrorCode.invalid_request, "A quota is given more than once.")
    records: list[Record] = []
    for op in entry.ops:
        value = _value(op)
        if value != present.get(op.key):
            records.append(ConfigChanged(kind=CLIENT_QUOTA, name=name, key=op.key, value=value))
    return records


def _value(op: ClientQuotaOp) -> str | None:
    """As it is kept; None to remove it."""
    whole = _WHOLE.get(op.key)
    if whole is None:
        known = "is not enforced here" if op.key in _ELSEWHERE else "does not exist"
        raise Refusal(ErrorCode.invalid_request, f"The quota {op.key!r} {known}.")
    if op.value is None:
        return None
    if not math.isfinite(op.value) or op.value <= 0:
        raise Refusal(ErrorCode.invalid_request, f"Quota {op.key} must be greater than 0.")
    if whole and op.value != int(op.value):
        raise Refusal(ErrorCode.invalid_request, f"Quota {op.key} must be a whole number.")
    return repr(float(op.value))


def client_quotas(image: MetadataImage) -> Iterator[tuple[dict[str, str | None], dict[str, float]]]:
    """Every entity that has quotas, with them."""
    for (kind, name), values in image.configs.items():
        if kind == CLIENT_QUOTA:
            yield parse_entity(name), {key: float(value) for key, value in values.items()}
