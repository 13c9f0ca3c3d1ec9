"""The controller listener is open before Raft has started: what it says until then."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from kio.schema.errors import ErrorCode

from ottla.controller import ClusterIdentity, ControllerSettings, Heartbeat, LogStorage, Policy, RaftConfig
from ottla.log import GroupCommit, ModelledDisk
from ottla.node.quorum import Quorum

HEARTBEAT = Heartbeat(node_id=2, epoch=1, applied_offset=1)


async def test_a_request_that_comes_before_raft_has_started_is_sent_elsewhere() -> None:
    """An error instead made the node that asked give up, just as the node that it needed came back."""
    rng = random.Random(1)
    with ThreadPoolExecutor(1) as executor:
        quorum = Quorum(
            RaftConfig(node_id=1, voters=frozenset({1, 2, 3})),
            LogStorage(ModelledDisk(rng), "data", lambda: 0, cluster_id="c", node_id=1),
            ClusterIdentity("c", 1, "life", b"a secret of sixteen bytes"),
            voters={1: ("127.0.0.1", 1), 2: ("127.0.0.1", 2), 3: ("127.0.0.1", 3)},
            listen=("127.0.0.1", 0),
            advertised=("127.0.0.1", 0),
            settings=ControllerSettings(Policy()),
            group=GroupCommit(executor),
            rng=rng,
            snapshot_bytes=1 << 20,
        )
        answer = await quorum._handle(HEARTBEAT, 2)
    assert (answer.error, answer.controller_id) == (ErrorCode.not_controller.value, None)
