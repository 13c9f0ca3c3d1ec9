"""A node in a process of its own, for being killed: prints its port and serves until it is stopped.

SIGTERM is a clean stop.
"""

import asyncio
import signal
import sys

from ottla.controller.rpc import PeerAddresses
from tests.rpc.nodes import Node, identity


async def main(node_id: int, port: int, incarnation: str) -> None:
    node = Node(identity(node_id, incarnation=incarnation), PeerAddresses({}), port=port)
    await node.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"port {node.port}", flush=True)  # noqa: T201
    await stop.wait()
    await node.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
