"""aiohttp does without its compiled parser where it has none (other interpreters and machines)."""

import os
import subprocess
import sys

CLUSTER = """
from aiohttp import http_parser
from ottla.simulation import SimulatedCluster, run

assert http_parser.HttpRequestParser is http_parser.HttpRequestParserPy

async def scenario():
    async with SimulatedCluster(nodes=3) as cluster:
        await cluster.create_topic("orders", 2)
        async with cluster.producer() as producer:
            return (await producer.send_and_wait("orders", b"v")).offset

print(run(scenario, seed=1))
"""


def test_a_cluster_serves() -> None:
    environment = {**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
