"""``quorum-state``: the file of what a Raft node must not forget besides its entries, with how far those are durable.

JSON with Kafka's field names where Kafka has the field, and a checksum: another digit in a number is still JSON.
"""

import json
import zlib
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ottla.controller.raft.config import HardState

QUORUM_STATE_FILE: Final = "quorum-state"

Natural = Annotated[int, Field(ge=0)]


class QuorumState(BaseModel):
    """``recoveryPoint``: entries at lower offsets of the log were durable when this was written.

    What is unknown is an error, as it may not be forgotten. Files from before there was a checksum have none.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    data_version: int = 1
    clusterId: str
    nodeId: int
    leaderEpoch: Natural
    votedId: int
    recovering: bool
    identity: str
    damaged: bool = False
    recoveryPoint: Natural = 0
    checksum: Natural | None = None

    @classmethod
    def of(cls, state: HardState, recovery_point: int, *, cluster_id: str, node_id: int) -> Self:
        return cls(
            clusterId=cluster_id,
            nodeId=node_id,
            leaderEpoch=state.term,
            votedId=-1 if state.vote is None else state.vote,
            recovering=state.recovering,
            identity=state.identity,
            damaged=state.damaged,
            recoveryPoint=recovery_point,
        )

    @property
    def hard_state(self) -> HardState:
        vote = None if self.votedId < 0 else self.votedId
        return HardState(self.leaderEpoch, vote, self.recovering, self.identity, self.damaged)

    def encode(self) -> bytes:
        return json.dumps({**self.model_dump(exclude={"checksum"}), "checksum": self._sum()}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ValueError when it is damaged."""
        try:
            found = cls.model_validate_json(data)
        except ValidationError as error:
            raise ValueError("it does not parse") from error
        if found.checksum is not None and found.checksum != found._sum():
            raise ValueError("its checksum is wrong")
        return found

    def _sum(self) -> int:
        values = self.model_dump(exclude={"checksum"})
        return zlib.crc32(json.dumps(values, sort_keys=True).encode())
