"""What a node's Raft core knows of the quorum, for DescribeQuorum and metrics."""

from __future__ import annotations

from ottla.broker import QuorumMember, QuorumStatus
from ottla.controller import RaftCore


def quorum_status(core: RaftCore, now: float) -> QuorumStatus:
    """`now` is the time of the loop in seconds."""
    members: tuple[QuorumMember, ...] = ()
    if core.leading is not None:
        directory = _directory_of(core.identity)
        members = (
            QuorumMember(core.node_id, core.log.last_index, core.is_voter, 0, 0, directory),
            *(
                QuorumMember(
                    node,
                    peer.match,
                    peer.voter,
                    _age_ms(now, peer.acked_stamp),
                    _age_ms(now, peer.caught_up_stamp),
                    _directory_of(peer.identity),
                )
                for node, peer in core.leading.peers.items()
            ),
        )
    leader = core.leader_id
    return QuorumStatus(
        node_id=core.node_id,
        leader_id=-1 if leader is None else leader,
        term=core.term,
        high_watermark=core.commit,
        voters=tuple(sorted(core.voters)),
        members=members,
    )


def _age_ms(now: float, stamp: int) -> int:
    """How long ago the leader made this stamp; -1 for 0, which is none."""
    return round(max(0.0, now - stamp / 1_000_000) * 1000) if stamp else -1


def _directory_of(identity: str | None) -> str:
    """The directory id in the name of a memory (see HardState)."""
    return identity.rpartition(".")[0] if identity else ""
