"""Requests that the active controller decides: ask it, then wait until this node sees the outcome."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from kio.schema.errors import ErrorCode

from ottla.broker.context import BrokerContext
from ottla.controller import PartitionResult, RpcError, RpcRequest, RpcResponse

MIN_TIMEOUT_S = 1.0
MAX_TIMEOUT_S = 300.0
DEFAULT_TIMEOUT_S = 30.0
VISIBLE_TIMEOUT_S = 5.0

R = TypeVar("R", bound=RpcResponse)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the request as a whole was not handled: every item of it is answered with this."""

    error: ErrorCode
    message: str | None


def seconds(timeout: datetime.timedelta) -> float:
    """A client's timeout, kept between a second (it may say 0 and still want an answer) and five minutes."""
    return min(max(timeout.total_seconds(), MIN_TIMEOUT_S), MAX_TIMEOUT_S)


def by_topic(results: Iterable[PartitionResult]) -> dict[str, list[PartitionResult]]:
    """Results of partitions as answers have them."""
    rows: dict[str, list[PartitionResult]] = {}
    for result in results:
        rows.setdefault(result.topic, []).append(result)
    return rows


async def ask_controller(
    context: BrokerContext, request: RpcRequest[R], timeout: float = DEFAULT_TIMEOUT_S
) -> R | Refusal:
    """The active controller's answer, or why there is none.

    An answered change is visible in this node's own image when this returns, if that takes less than five seconds: a
    client that creates a topic and asks the same broker about it is not told that it does not exist.
    """
    try:
        response = await context.controller.call(request, timeout=timeout)
    except RpcError as error:
        # Whether it was done is not known: the code that tells a client so.
        return Refusal(ErrorCode.request_timed_out, f"The active controller did not answer: {error}")
    if response.error != ErrorCode.none:
        return Refusal(ErrorCode(response.error), response.message)
    if response.offset >= 0:
        try:
            await context.view.wait_for(response.offset, min(timeout, VISIBLE_TIMEOUT_S))
        except TimeoutError:
            # Committed all the same; only this node is behind.
            return response
    return response
