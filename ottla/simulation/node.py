"""One node of a simulated cluster: a machine with a disk, and the real Node in a process on it, life after life."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextvars import Context

from ottla.controller.raft import messages as raft
from ottla.log import GroupCommit, ModelledDisk
from ottla.node import Given, Node, NodeConfig, Seams
from ottla.simulation.errors import SimulationError
from ottla.simulation.process import OWNER, Machine, Process, Standing
from ottla.simulation.world import World

KAFKA_PORT, CONTROLLER_PORT = 9092, 9192
_ORIGIN = "the simulation"


class SimulatedNode:
    """`node` is the running Node, None while there is none. `failures` are why lives ended by themselves.

    Those that a fault of the disk excuses are `casualties` instead: set `excused` before such a fault. Every sync takes
    `sync_stall` seconds more. `fragile`: its disk may have rotted, or was wiped.
    `clock_offset_ms` is added to this machine's wall clock.
    """

    def __init__(self, world: World, node_id: int, settings: Mapping[str, str]) -> None:
        self.id = node_id
        self.machine = Machine(f"node-{node_id}", f"10.0.0.{node_id}")
        self.disk = ModelledDisk(world.rng(f"disk of node {node_id}"))
        self.clock_offset_ms = 0
        self.node: Node | None = None
        self.failures: list[Exception] = []
        self.casualties: list[Exception] = []
        self.excused = False
        self.fragile = False
        self.sync_stall = 0.0
        self._keeps_cache = False
        self._failing = False
        self.lives = 0
        self._world = world
        self.settings = settings
        self._process: Process | None = None
        self._told_to_stop: asyncio.Event
        self._ready: asyncio.Future[None]
        self._ended: asyncio.Future[None]
        world.network.add(self.machine)

    def __repr__(self) -> str:
        return f"<SimulatedNode {self.id}>"

    @property
    def alive(self) -> bool:
        """Whether its process exists, paused or not."""
        return self._process is not None and not self._process.dead

    @property
    def process(self) -> Process | None:
        """The process of its present or last life."""
        return self._process

    @property
    def paused(self) -> bool:
        return self._process is not None and self._process.standing is Standing.PAUSED

    @property
    def running(self) -> bool:
        return self.alive and not self.paused

    @property
    def is_ready(self) -> bool:
        """Whether it is alive, and was registered and unfenced in this life."""
        return self.alive and self._ready.done()

    # -- life

    def start(self) -> None:
        """Switch the machine on, and start a process on what is on its disk. Returns at once; see `ready`."""
        if self.alive:
            raise SimulationError(f"node {self.id} is alive already")
        world, loop = self._world, self._world.loop
        self.lives += 1
        self._failing = False
        world.network.power(self.machine, on=True)
        process, context = loop.spawn(f"node-{self.id}", self.machine)
        self._process = process
        self._ready, self._ended = loop.create_future(), loop.create_future()
        self._told_to_stop = asyncio.Event()
        rng = world.rng(f"node {self.id}, life {self.lives}")
        self.disk.on_operation = self._on_operation
        world.trace.note("simulation", "start", node=self.id)
        loop.create_task(self._live(process, rng), name=f"node-{self.id}", context=context)

    async def ready(self) -> None:
        """Until it is registered and unfenced. Raises the failure, if it ended instead."""
        await asyncio.wait((self._ready, self._ended), return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            raise SimulationError(f"node {self.id} ended before it was ready: {(self.failures + self.casualties)[-1:]}")

    async def ended(self) -> None:
        """Until its process has ended, however that came about."""
        await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask it to stop cleanly, as SIGTERM does."""
        if self.alive:
            self._world.trace.note("simulation", "stop", node=self.id)
            self._told_to_stop.set()

    async def stop(self) -> None:
        """Ask it to stop, and wait until the process has ended."""
        if self.alive:
            self.terminate()
            await self.ended()

    async def stopping(self) -> bool:
        """Whether it is down, or was asked to stop, or has failed: then wait until it is."""
        if self.alive and (self._failing or self._told_to_stop.is_set()):
            await self.ended()
        return not self.alive

    def kill(self) -> None:
        """As kill -9: the kernel closes its connections, the page cache stays."""
        if self.alive:
            self._die("kill")

    def power_off(self) -> None:
        """The machine goes dark: nobody is told, and what was not synced may be lost."""
        if self.alive:
            self._go_dark("power off")

    def power_off_within(self, operations: int) -> None:
        """Lose power in place of the disk operation that comes after so many others."""
        self._keeps_cache = False
        self.disk.crash_at = self.disk.operations + 1 + operations

    def kill_within(self, operations: int) -> None:
        """As `kill`, in place of the disk operation that comes after so many others."""
        self._keeps_cache = True
        self.disk.crash_at = self.disk.operations + 1 + operations

    def lives_on(self) -> None:
        """Take back a `power_off_within` or `kill_within` that has not happened yet."""
        self.disk.crash_at = None

    def pause(self) -> None:
        """As SIGSTOP."""
        if self.running and self._process is not None:
            self._world.trace.note("simulation", "pause", node=self.id)
            self._world.loop.pause(self._process)

    def resume(self) -> None:
        if self.paused and self._process is not None:
            self._world.trace.note("simulation", "resume", node=self.id)
            self._world.loop.resume(self._process)

    def hears(self, sender: int, message: raft.Message) -> None:
        """Its Raft core is told this once more, in its process, in its turn."""
        quorum = None if self.node is None else self.node.quorum
        if self._process is not None and quorum is not None and quorum.started:
            context = Context()
            context.run(OWNER.set, self._process)
            self._world.loop.call_soon(quorum.driver.receive, sender, message, context=context)

    def note(self, event: str, **fields: object) -> None:
        """Write into the timeline what is done to this node."""
        self._world.trace.note("simulation", event, node=self.id, **fields)

    # -- inside

    async def _live(self, process: Process, rng: random.Random) -> None:
        seams = Seams(
            disk=self.disk,
            clock=lambda: self._world.wall_clock_ms() + self.clock_offset_ms,
            # While code runs, virtual time stands still: nothing takes any time.
            timer=self._world.loop.time,
            rng=rng,
            nonce=lambda: rng.randbytes(32),
        )
        self.node = node = Node(self._config(), seams, GroupCommit())
        told = asyncio.ensure_future(self._told_to_stop.wait())
        try:
            starting = asyncio.ensure_future(node.start())
            await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait((starting,))
            else:
                await starting
                self._ready.set_result(None)
                assert node.failed is not None
                await asyncio.wait((told, node.failed), return_when=asyncio.FIRST_COMPLETED)
                if node.failed.done():
                    await node.failed
        except Exception as error:  # noqa: BLE001  a process that ends with an error is an outcome here
            self._failed(error)
        try:
            await node.stop()
        except Exception as error:  # noqa: BLE001  the same
            self._failed(error)
        # The process exits between two callbacks, as whatever it still has does not matter any more.
        self._world.network.at(self._world.loop.time(), self._exit, process)

    def _failed(self, error: Exception) -> None:
        self._failing = True
        (self.casualties if self.excused else self.failures).append(error)
        self._world.trace.note("simulation", "node failed", node=self.id, error=repr(error))

    def _exit(self, process: Process) -> None:
        if not process.dead:
            self._world.trace.note("simulation", "ended", node=self.id)
            self._end(silently=False)
            self.disk.kill()

    def _end(self, *, silently: bool) -> None:
        assert self._process is not None
        self._world.loop.kill(self._process)
        self._world.network.leave(self._process, silently=silently)
        self.node = None
        if not self._ended.done():
            self._ended.set_result(None)

    def _on_operation(self, operation: str, _path: str) -> None:
        disk = self.disk
        if self.sync_stall and operation == "sync" and asyncio.current_task() is not None and self.running:
            # Not in the executor, which is slow enough by `disk_delay`: the whole process waits.
            self._stall()
        if disk.crash_at is not None and disk.operations + 1 >= disk.crash_at and self.alive:
            # The disk raises Crashed right after this: from here on the process is dead, even in mid-callback.
            assert self._process is not None
            self._world.loop.kill(self._process)
            self._world.network.at(self._world.loop.time(), self._crashed)

    def _stall(self) -> None:
        world, process = self._world, self._process
        assert process is not None
        world.trace.note("simulation", "waits for its disk", node=self.id)
        world.loop.pause(process)
        world.network.at(world.loop.time() + self.sync_stall, world.loop.resume, process)

    def _crashed(self) -> None:
        if self._keeps_cache:
            self._die("kill in mid-write")
        else:
            self._go_dark("power off in mid-write")

    def _die(self, how: str) -> None:
        self._world.trace.note("simulation", how, node=self.id)
        self._end(silently=False)
        self.disk.kill()

    def _go_dark(self, how: str) -> None:
        self._world.trace.note("simulation", how, node=self.id)
        self._end(silently=True)
        self._world.network.power(self.machine, on=False)
        self.disk.crash()

    def _config(self) -> NodeConfig:
        return NodeConfig.parse({name: Given(text, _ORIGIN) for name, text in self.settings.items()})
