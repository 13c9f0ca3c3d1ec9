"""Run one node as a process: configuration, event loop, signals, and word to whoever waits for it to be ready."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from ottla.log import DiskError, GroupCommit, LogError, OsDisk
from ottla.node.config import NodeConfig, load_config
from ottla.node.errors import NodeError
from ottla.node.gateway_part import GatewayPart
from ottla.node.logging import configure_logging
from ottla.node.node import Node, Seams
from ottla.node.sources import ConfigError
from ottla.tasks import BROKEN

log = structlog.get_logger(__name__)

NONCE_BYTES = 32
# Syncs of different logs go on side by side; more threads than this only wait for the same disk.
BLOCKING_THREADS = 4
MAX_DESCRIPTORS = 1 << 20


def node_main(config_file: Path | None, *, log_level: str, ready_descriptor: int | None) -> int:
    """Run a node as a program: exit status 2 for a wrong configuration, 1 if the node cannot start or go on."""
    try:
        run_node(config_file, log_level=log_level, ready_descriptor=ready_descriptor)
    except ConfigError as error:
        sys.stderr.write(f"ottla node: {error}\n")
        return 2
    except NodeError as error:
        sys.stderr.write(f"ottla node: {error}\n")
        return 1
    return 0


def run_node(config_file: Path | None, *, log_level: str, ready_descriptor: int | None) -> None:
    """Run a node until SIGTERM or SIGINT. Raises ConfigError, NodeError; leaves other exceptions to the caller."""
    disk = OsDisk()
    config = load_config(str(config_file) if config_file else None, os.environ, disk.read)
    configure_logging(level=log_level, node_id=config.node_id)
    if config.ignored:
        log.warning("settings_without_effect", settings=list(config.ignored))
    config = bounded_by_descriptors(config, open_files_limit())
    work = serve(config, disk, ready_descriptor)
    if sys.platform == "win32":
        asyncio.run(work)
        return
    import uvloop

    uvloop.run(work)


def open_files_limit() -> int | None:
    """How many files and connections this process may have open, once it has asked for all that the system allows it.

    None where there is no such limit.
    """
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return None if soft == resource.RLIM_INFINITY else soft


def bounded_by_descriptors(config: NodeConfig, limit: int | None) -> NodeConfig:
    """Clients get half of the descriptors at most: a flood of connections must not keep logs from being opened."""
    if limit is None or config.max_connections <= limit // 2:
        return config
    return config.model_copy(update={"max_connections": max(1, limit // 2)})


async def serve(config: NodeConfig, disk: OsDisk, ready_descriptor: int | None) -> None:
    """Start the node, say so, and serve until it is told to stop or fails."""
    loop = asyncio.get_running_loop()
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    seams = Seams(
        disk=disk,
        clock=lambda: time.time_ns() // 1_000_000,
        timer=time.perf_counter,
        rng=random.Random(secrets.randbits(128)),
        nonce=lambda: secrets.token_bytes(NONCE_BYTES),
    )
    with ThreadPoolExecutor(BLOCKING_THREADS, thread_name_prefix="disk") as executor:
        node = Node(config, seams, GroupCommit(executor))
        loop.set_exception_handler(partial(_report, node))
        gateway = GatewayPart(node)
        try:
            await _open(gateway)
            await _start(node, told_to_stop)
            if not told_to_stop.is_set():
                _settle_memory()
                _tell_ready(ready_descriptor)
                await _until_stopped(node, told_to_stop)
        finally:
            await node.stop()
            await gateway.stop()


def _report(node: Node, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Nothing that goes wrong is passed over, and when a part of the node has ended, so has the node."""
    error = context.get("exception")
    log.error("unexpected_error", what=context["message"], error=repr(error), exc_info=error)
    if context.get(BROKEN):
        node.fail(NodeError(f"{context['message']}: {error!r}"))


async def _open(gateway: GatewayPart) -> None:
    try:
        await gateway.start()
    except OSError as error:
        raise NodeError(f"cannot start: {error}") from error


async def _start(node: Node, told_to_stop: asyncio.Event) -> None:
    """Start, unless told to stop on the way: a node that waits for its quorum must still end at once."""
    starting = asyncio.ensure_future(node.start())
    stopping = asyncio.ensure_future(told_to_stop.wait())
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
    except (OSError, DiskError, LogError) as error:
        raise NodeError(f"cannot start: {error}") from error
    finally:
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))


async def _until_stopped(node: Node, told_to_stop: asyncio.Event) -> None:
    assert node.failed is not None
    stopping = asyncio.ensure_future(told_to_stop.wait())
    try:
        await asyncio.wait((stopping, node.failed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if node.failed.done():
        try:
            await node.failed
        except Exception as error:
            raise NodeError(f"the node cannot go on: {error}") from error


def _settle_memory() -> None:
    """What is there after the start stays: the collector need not look at it again with every request's garbage."""
    gc.collect()
    gc.freeze()


def _tell_ready(descriptor: int | None) -> None:
    if descriptor is not None:
        os.write(descriptor, b"ready\n")
        os.close(descriptor)
