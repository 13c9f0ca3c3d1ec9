"""The rows that metrics are made of, from the broker's replicas."""

from collections.abc import Iterable, Iterator

from ottla.broker.replication import LeaderState, Partition
from ottla.gateway.views import ReplicaRow


def replica_rows(partitions: Iterable[Partition], late_before_ms: int = 0) -> Iterator[ReplicaRow]:
    """One row for every replica whose log could be opened and whose state is known. A transaction that was written to
    for the last time before `late_before_ms` is late."""
    for partition in partitions:
        log, image, role = partition.log, partition.image, partition.role
        if log is None or image is None:
            continue
        followers: dict[int, int] = {}
        in_sync = len(image.isr)
        if isinstance(role, LeaderState):
            followers = {id: follower.end_offset for id, follower in role.followers.items()}
            in_sync = len(role.isr.committed)
        yield ReplicaRow(
            topic=partition.topic,
            partition=partition.index,
            is_leader=partition.is_leader,
            leader_epoch=partition.leader_epoch,
            high_watermark=partition.high_watermark,
            log_start_offset=partition.log_start_offset,
            log_end_offset=partition.log_end_offset,
            size=log.size,
            min_insync=partition.min_insync,
            replicas=len(image.original),
            in_sync=in_sync,
            followers=followers,
            reassigning=image.reassigning,
            last_stable_offset=partition.last_stable_offset,
            producers=len(log.producers),
            late=0 <= log.producers.oldest_transaction_ms < late_before_ms,
        )
