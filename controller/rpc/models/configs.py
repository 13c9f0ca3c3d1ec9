"""Configs and client quotas."""

from typing import Literal

from ottla.controller.rpc.models.base import RpcModel, RpcRequest, RpcResponse

ConfigKind = Literal["topic", "broker", "group"]


class ConfigOp(RpcModel):
    """KIP-339. "append" and "subtract" are for lists: `value` is comma-separated."""

    key: str
    op: Literal["set", "delete", "append", "subtract"]
    value: str | None = None


class ConfigResourceOps(RpcModel):
    """`kind` "topic", "group" or "broker"; the broker named "" is the default of all brokers. `replace`: what is
    not set here goes (AlterConfigs)."""

    kind: ConfigKind
    name: str
    ops: tuple[ConfigOp, ...]
    replace: bool = False


class ConfigResult(RpcModel):
    kind: ConfigKind
    name: str
    error: int = 0
    message: str | None = None


class IncrementalAlterConfigsResponse(RpcResponse):
    resources: tuple[ConfigResult, ...] = ()


class IncrementalAlterConfigs(RpcRequest[IncrementalAlterConfigsResponse]):
    """Each resource is changed wholly or not at all."""

    response_type = IncrementalAlterConfigsResponse
    resources: tuple[ConfigResourceOps, ...]
    validate_only: bool = False


QuotaEntity = tuple[tuple[str, str | None], ...]
"""Parts of an entity, (type, name); a name of None stands for the default."""


class ClientQuotaOp(RpcModel):
    """`value` None removes the quota."""

    key: str
    value: float | None


class ClientQuotaEntry(RpcModel):
    entity: QuotaEntity
    ops: tuple[ClientQuotaOp, ...]


class ClientQuotaResult(RpcModel):
    entity: QuotaEntity
    error: int = 0
    message: str | None = None


class AlterClientQuotasResponse(RpcResponse):
    entries: tuple[ClientQuotaResult, ...] = ()


class AlterClientQuotas(RpcRequest[AlterClientQuotasResponse]):
    """Each entry is changed wholly or not at all."""

    response_type = AlterClientQuotasResponse
    entries: tuple[ClientQuotaEntry, ...]
    validate_only: bool = False
