"""The demo itself: start three nodes, write and read, kill a leader, kill the controller, and give an account."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from ottla.cli.demo.events import Event, EventStream, tell
from ottla.cli.demo.timeline import Timeline, table
from ottla.client import Admin, KafkaError, NewTopic
from ottla.cluster import ClusterLayout, LayoutError, NodeFailed, Supervisor, Verdict, free_base_port, prepare
from ottla.cluster.traffic import Traffic

TOPIC = "demo"
NODES = 3
PARTITIONS = 3
STEADY_RECORDS = 100
PATIENCE_S = 20.0


@dataclass(slots=True)
class Outage:
    """What one kill cost: the node, what it was, its partitions, and the longest pause of writes on them in seconds."""

    node: int
    what: str
    partitions: list[int]
    began: float
    gap: float = 0.0


@dataclass(slots=True)
class Story:
    """What the nodes have told so far, as far as the script has to wait for it."""

    leaders: dict[int, tuple[int, int]] = field(default_factory=dict)
    controller: int | None = None
    term: int = -1
    full: dict[int, bool] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, event: Event) -> None:
        """Remember the newest leader and ISR of each partition, and the newest controller."""
        fields = event.fields
        if event.name == "active_controller" and int(str(fields["term"])) > self.term:
            self.controller, self.term = event.node, int(str(fields["term"]))
        elif fields.get("topic") == TOPIC:
            partition = int(str(fields["partition"]))
            if event.name == "became_leader":
                epoch = int(str(fields["leader_epoch"]))
                if epoch > self.leaders.get(partition, (-1, -1))[1]:
                    self.leaders[partition] = (event.node, epoch)
            elif event.name == "isr_changed":
                isr = fields["isr"]
                self.full[partition] = isinstance(isr, list) and len(isr) == NODES
        self.changed.set()


class Demo:
    """One run on a started cluster."""

    def __init__(self, supervisor: Supervisor, console: Console) -> None:
        self._supervisor = supervisor
        self._layout: ClusterLayout = supervisor.layout
        self._console = console
        self._began = time.time()
        self._traffic = Traffic(self._layout.bootstrap, TOPIC, PARTITIONS)
        self._timeline = Timeline(console, self._counters)
        self._story = Story()
        self._events = EventStream({node.id: node.log_file for node in self._layout.nodes}, self._heard)

    def _counters(self) -> str:
        verdict = self._traffic.ledger.verdict()
        return (
            f"acknowledged {verdict.acknowledged:,}   read {verdict.read:,}   lost so far {0 if verdict.clean else '?'}"
        )

    def _heard(self, event: Event) -> None:
        self._story.take(event)
        words = tell(event, TOPIC)
        # What the nodes said while they started is not part of the show.
        if words is not None and event.at >= self._began:
            self._timeline.add(event.at - self._began, words)

    def _say(self, words: str) -> None:
        self._events.read_on()
        self._timeline.add(time.time() - self._began, words)

    async def run(self) -> tuple[Verdict, list[Outage]]:
        """Play the whole script. Raises TimeoutError when something did not come back."""
        with self._timeline:
            following = asyncio.create_task(self._events.follow(), name="events")
            try:
                return await self._play()
            finally:
                following.cancel()
                await asyncio.wait((following,))

    async def _play(self) -> tuple[Verdict, list[Outage]]:
        async with Admin(bootstrap_servers=self._layout.bootstrap) as admin:
            await admin.create_topics([NewTopic(TOPIC, PARTITIONS, NODES)])
        self._say(f"created: topic {TOPIC}, {PARTITIONS} partitions, replication factor {NODES}")
        async with self._traffic:
            await self._traffic.start_reading()
            await self._steady()
            await self._until(lambda: len(self._story.leaders) == PARTITIONS and self._story.controller is not None)
            outages = [await self._outage(self._some_leader(), "leader")]
            outages.append(await self._outage(self._story.controller or 1, "active controller"))
            await self._traffic.stop_writing(within=PATIENCE_S)
            await self._traffic.read_everything(within=PATIENCE_S)
            for outage in outages:
                outage.gap = self._traffic.ledger.longest_gap(
                    outage.began - 0.05, outage.began + PATIENCE_S, outage.partitions or None
                )
            return self._traffic.ledger.verdict(), outages

    def _some_leader(self) -> int:
        """A node that leads a partition, and is not the active controller if there is such a node."""
        leaders = sorted({node for node, _ in self._story.leaders.values()})
        return next((node for node in leaders if node != self._story.controller), leaders[0])

    async def _outage(self, victim: int, what: str) -> Outage:
        story = self._story
        hit = {index: epoch for index, (node, epoch) in story.leaders.items() if node == victim}
        term = story.term
        partitions = sorted(hit)
        outage = Outage(victim, what, partitions, asyncio.get_running_loop().time())
        story.full = dict.fromkeys(range(PARTITIONS), False)
        self._say(
            f"killed: node {victim} (kill -9), {what}" + (f", leader of {_names(partitions)}" if partitions else "")
        )
        self._supervisor.node(victim).kill()
        await self._until(lambda: all(story.leaders[index][1] > epoch for index, epoch in hit.items()))
        if what == "active controller":
            await self._until(lambda: story.term > term)
        elected = asyncio.get_running_loop().time()
        for index in partitions or range(PARTITIONS):
            await self._traffic.acknowledged_again(index, elected, within=PATIENCE_S)
        self._say(f"writes acknowledged again on {_names(partitions or range(PARTITIONS))}")
        await self._supervisor.node(victim).gone()
        await self._supervisor.node(victim).start()
        self._say(f"started: node {victim}")
        await self._until(lambda: all(story.full.values()))
        self._say("restored: every ISR is full again")
        await self._steady()
        return outage

    async def _steady(self) -> None:
        """A while of undisturbed traffic, so that a person can tell one thing from the next."""
        written = min(len(ledger.acknowledged) for ledger in self._traffic.ledger.partitions)
        await self._traffic.acknowledged_count(written + STEADY_RECORDS, within=PATIENCE_S)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._story.changed.clear()
                await self._story.changed.wait()


def _names(partitions: Iterable[int]) -> str:
    return ", ".join(f"{TOPIC}-{index}" for index in partitions)


async def run_demo(*, base_port: int, keep: bool) -> int:
    """Make a cluster in a temporary directory, run the demo on it, print the account, return the exit status."""
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="ottla-demo-"))
    try:
        layout = prepare(directory, nodes=NODES, base_port=base_port or free_base_port(NODES))
        supervisor = Supervisor(layout)
        seconds = await supervisor.start()
        console.print(f"{NODES} nodes ready at {layout.bootstrap} after {seconds:.2f} s")
        try:
            verdict, outages = await Demo(supervisor, console).run()
        finally:
            await supervisor.stop(within=10.0)
    except (LayoutError, NodeFailed, KafkaError) as error:
        console.print(f"ottla demo: {error}", style="red")
        return 1
    except TimeoutError:
        console.print(f"ottla demo: something did not come back within {PATIENCE_S:g} s; see {directory}", style="red")
        keep = True
        return 1
    finally:
        if not keep:
            shutil.rmtree(directory)
    _account(console, verdict, outages)
    return 0 if verdict.clean else 1


def _account(console: Console, verdict: Verdict, outages: list[Outage]) -> None:
    console.print(
        table(
            "Records",
            ["acknowledged", "read", "lost", "duplicated", "out of order"],
            [
                [
                    f"{verdict.acknowledged:,}",
                    f"{verdict.read:,}",
                    str(verdict.lost),
                    str(verdict.duplicated),
                    str(verdict.out_of_order + verdict.misplaced),
                ]
            ],
        )
    )
    console.print(
        table(
            "Kills",
            ["node", "what it was", "partitions led", "ms without writes"],
            [
                [
                    str(outage.node),
                    outage.what,
                    ",".join(map(str, outage.partitions)) or "-",
                    f"{outage.gap * 1000:.0f}",
                ]
                for outage in outages
            ],
        )
    )
