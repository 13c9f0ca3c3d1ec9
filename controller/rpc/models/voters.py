"""The voters of the metadata log."""

from ottla.controller.rpc.models.base import RpcRequest, RpcResponse


class ChangeVotersResponse(RpcResponse):
    """`error` and `message` say it all."""


class AddRaftVoter(RpcRequest[ChangeVotersResponse]):
    """A node that replicates the metadata log becomes a voter (KIP-853). An empty `directory_id` is any."""

    response_type = ChangeVotersResponse
    voter_id: int
    directory_id: str = ""
    host: str
    port: int


class RemoveRaftVoter(RpcRequest[ChangeVotersResponse]):
    """A voter becomes a node that only replicates."""

    response_type = ChangeVotersResponse
    voter_id: int
    directory_id: str = ""


class FindVotersResponse(RpcResponse):
    """Who votes, as far as the node that answers knows: (node id, host, port) of each."""

    voters: tuple[tuple[int, str, int], ...] = ()


class FindVoters(RpcRequest[FindVotersResponse]):
    """Who votes? The one request for whoever listens at an address, and every node answers it (KIP-853)."""

    response_type = FindVotersResponse
