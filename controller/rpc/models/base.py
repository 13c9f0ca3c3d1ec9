"""What every request and every answer has."""

from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict


class RpcModel(BaseModel):
    """Immutable, and strict about names: a field that is not known is a mistake or an attack."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RpcResponse(RpcModel):
    """What every answer carries. `error` speaks of the request as a whole; items have their own."""

    error: int = 0
    message: str | None = None
    offset: int = -1
    controller_id: int | None = None


R = TypeVar("R", bound=RpcResponse)


class RpcRequest(RpcModel, Generic[R]):
    """A request whose answer is an `R`. `response_type` is that same type, for the code that decodes it."""

    response_type: ClassVar[type[RpcResponse]]


AnyRequest = RpcRequest[Any]
