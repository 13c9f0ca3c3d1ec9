"""Writers and readers in threads, going on while something happens to the cluster."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

from tests.compatibility.cluster import Cluster
from tests.compatibility.model import How, Library, Message, Result, Seen

PATIENCE_S = 60.0


class Writing:
    """One library writes "0", "1", "2", ... to one partition until it is told to stop."""

    def __init__(self, cluster: Cluster, library: Library, topic: str, partition: int, how: How) -> None:
        self.results: list[Result] = []
        self._changed = threading.Condition()
        self._acknowledged = 0
        self._failed: list[Result] = []
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        words = (cluster.bootstrap, topic, self._messages())
        self._thread = threading.Thread(
            target=self._run, args=(library, words, partition, how), name=f"{library.name} writes {topic}-{partition}"
        )
        self._thread.start()

    def _messages(self) -> Iterator[Message]:
        for number in itertools.count():
            if self._stopped.wait(0.001):  # a pause, so that a partition without faults does not get a million
                return
            yield Message(str(number).encode())

    def _run(self, library: Library, words: tuple[str, str, Iterator[Message]], partition: int, how: How) -> None:
        try:
            self.results = library.write(*words, partition=partition, how=how, answered=self._answered)
        except BaseException as error:  # noqa: BLE001  it is raised where it can fail the test
            self._error = error

    def _answered(self, index: int, result: Result) -> None:
        with self._changed:
            if result.error:
                self._failed.append(result)
            else:
                self._acknowledged += 1
            self._changed.notify_all()

    def more_acknowledged(self, count: int) -> None:
        """Wait until ``count`` more records are acknowledged than now."""
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            goal = self._acknowledged + count
            while self._acknowledged < goal:
                left = deadline - time.monotonic()
                assert left > 0, f"{self._acknowledged} of {goal} records acknowledged; failed: {self._failed[:3]}"
                assert self._thread.is_alive(), f"the writer ended: {self._error!r}"
                self._changed.wait(min(left, 1.0))

    def finish(self) -> list[Result]:
        """No more records; the answers to all."""
        self._stopped.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the writer does not end"
        if self._error is not None:
            raise self._error
        return self.results

    def stop(self) -> None:
        """In any case, and without a word."""
        self._stopped.set()
        self._thread.join(PATIENCE_S)


class Reading:
    """One library reads one partition along, until it has seen the offset that it is told in the end."""

    def __init__(self, cluster: Cluster, library: Library, topic: str, partition: int) -> None:
        self._seen: list[Seen] = []
        self._last: int | None = None
        self._error: BaseException | None = None
        self._deadline = 0.0
        self._thread = threading.Thread(
            target=self._run,
            args=(library, cluster.bootstrap, topic, partition),
            name=f"{library.name} reads {topic}-{partition}",
        )
        self._thread.start()

    def _run(self, library: Library, bootstrap: str, topic: str, partition: int) -> None:
        try:
            with library.reader(bootstrap, topic, partition) as reading:
                while not self._done():
                    self._seen += reading.poll(500, 0.2)
        except BaseException as error:  # noqa: BLE001  it is raised where it can fail the test
            self._error = error

    def _done(self) -> bool:
        if self._last is None:
            return False
        return time.monotonic() > self._deadline or (bool(self._seen) and self._seen[-1].offset >= self._last)

    def up_to(self, last: int) -> list[Seen]:
        """Everything from the beginning up to offset ``last``."""
        self.stop(last, within=PATIENCE_S)
        if self._error is not None:
            raise self._error
        return [record for record in self._seen if record.offset <= last]

    def stop(self, last: int = -1, within: float = 0.0) -> None:
        """In any case, and without a word."""
        self._deadline = time.monotonic() + within
        self._last = last
        self._thread.join(2 * PATIENCE_S)
