"""Fetch requests that wait for data ("purgatory"): watching partitions, and one long poll's wait on top of that.

Nothing is polled: partitions call their watchers on every append, high-watermark move and change of role, and a
partition that nobody watches pays one truth test.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

WAKE = 1 << 62
"""As many bytes as any request can ask for: answer now, whatever is there."""

NEWS = -1
"""The high watermark moved, which a follower is to hear of with its next data, or before long."""

NEWS_WITHIN_S = 0.1
"""How long a follower may be left behind about the high watermark, in seconds.

Under steady traffic the next data brings it, so that a record costs each follower one fetch and not two. Nobody waits
for it where consumers read from leaders only (else it is 0): a new leader takes its high watermark from what the others
fetch from it, and all that was acknowledged is in its log. Kafka leaves a waiting follower behind until its fetch times
out (replica.fetch.wait.max.ms, 500 ms).
"""

MAX_MARKS = 4096

Watcher = Callable[[int], None]
"""Told how many bytes became readable, or WAKE, or NEWS."""

Unwatch = Callable[[], None]


class Watchers:
    """Who wants to hear of one partition: consumers of committed bytes, or of stable ones if they read only what is
    committed by its transaction, followers of appended bytes."""

    __slots__ = (
        "_committed",
        "_consumers",
        "_followers",
        "_marks",
        "_stable",
        "_stable_consumers",
        "_stable_offset",
        "_unstable",
        "_written",
    )

    def __init__(self) -> None:
        self._consumers: dict[object, Watcher] = {}
        self._stable_consumers: dict[object, Watcher] = {}
        self._followers: dict[object, Watcher] = {}
        # Where the log ended after an append, and how many bytes had been written by then: tells how many bytes a
        # move of the high watermark commits. Marks may be lost from the front, as the byte counts are running totals.
        self._marks: deque[tuple[int, int]] = deque(maxlen=MAX_MARKS)
        self._written = 0
        self._committed = 0
        # The same between the last stable offset and the high watermark, as long as a transaction keeps them apart.
        self._unstable: deque[tuple[int, int]] = deque(maxlen=MAX_MARKS)
        self._stable = 0
        self._stable_offset = -1

    def add(self, watcher: Watcher, *, follower: bool, committed_only: bool = False) -> Unwatch:
        """`committed_only`: a consumer that reads below the last stable offset."""
        table = self._followers if follower else self._stable_consumers if committed_only else self._consumers
        key = object()
        table[key] = watcher

        def unwatch() -> None:
            table.pop(key, None)

        return unwatch

    def appended(self, end_offset: int, size: int) -> None:
        self._written += size
        self._marks.append((end_offset, self._written))
        if self._followers:
            for watcher in tuple(self._followers.values()):
                watcher(size)

    def committed(self, high_watermark: int, stable: int) -> None:
        """The high watermark moved, and with it perhaps the last stable offset: bytes for consumers, news for
        followers."""
        before = self._committed
        apart = stable < high_watermark or self._unstable
        while self._marks and self._marks[0][0] <= high_watermark:
            mark = self._marks.popleft()
            self._committed = mark[1]
            if apart:
                self._unstable.append(mark)
        if self._stable_consumers or apart:
            self._became_stable(stable)
        else:
            self._stable, self._stable_offset = self._committed, stable
        if self._consumers:
            gained = max(self._committed - before, 1)
            for watcher in tuple(self._consumers.values()):
                watcher(gained)
        if self._followers:
            self._tell(self._followers, NEWS)

    def _became_stable(self, stable: int) -> None:
        before, moved = self._stable, stable > self._stable_offset
        if not self._unstable:
            self._stable = self._committed
        while self._unstable and self._unstable[0][0] <= stable:
            self._stable = self._unstable.popleft()[1]
        self._stable_offset = stable
        if moved:
            self._tell(self._stable_consumers, max(self._stable - before, 1))

    def log_start_moved(self) -> None:
        """Followers are to hear of it at once: somebody waits for them."""
        self._tell(self._followers, WAKE)

    def changed(self) -> None:
        """Leader, epoch or existence changed: every wait on the partition must be looked at."""
        self._marks.clear()
        self._unstable.clear()
        self._committed = self._stable = self._written
        self._stable_offset = -1
        self._tell(self._followers, WAKE)
        self._tell(self._consumers, WAKE)
        self._tell(self._stable_consumers, WAKE)

    @staticmethod
    def _tell(table: dict[object, Watcher], what: int) -> None:
        for watcher in tuple(table.values()):
            watcher(what)


class FetchWait:
    """One long poll: until `min_bytes` more have come, WAKE, NEWS that is `news_within` seconds old, or the deadline.
    Then it is `over`.

    Watch partitions with `partition.watch(wait.gained, ...)` through `watch`; all watching ends with the wait.
    """

    __slots__ = ("_deadline", "_loop", "_news", "_news_within", "_then", "_timer", "_unwatch", "_wanted", "over")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, min_bytes: int, deadline: float, news_within: float = NEWS_WITHIN_S
    ) -> None:
        self._loop = loop
        self._news = False
        self._news_within = news_within
        self.over = False
        self._then: Callable[[], None] | None = None
        self._wanted = min_bytes
        self._unwatch: list[Unwatch] = []
        self._deadline = deadline
        self._timer: asyncio.Handle = loop.call_at(deadline, self.finish)

    def hold(self, unwatch: Unwatch) -> None:
        """Call `unwatch` when the wait is over."""
        if self.over:
            unwatch()
        else:
            self._unwatch.append(unwatch)

    def then(self, callback: Callable[[], None]) -> None:
        """Call it when the wait is over, from a callback of its own: not in the middle of what has ended the wait."""
        self._then = callback
        if self.over:
            self._loop.call_soon(self._ended)

    def gained(self, size: int) -> None:
        if size == NEWS:
            self.news()
            return
        self._wanted -= size
        if self._wanted <= 0:
            self.finish()

    def news(self) -> None:
        """There is something to tell, though not at once."""
        if self._news or self.over:
            return
        self._news = True
        at = self._loop.time() + self._news_within
        if at < self._deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(at, self.finish)

    def finish(self) -> None:
        """End the wait now."""
        if self.over:
            return
        self.over = True
        self._timer.cancel()
        unwatch, self._unwatch = self._unwatch, []
        for stop in unwatch:
            stop()
        if self._then is not None:
            self._loop.call_soon(self._ended)

    def give_up(self) -> None:
        """The client has gone: nothing is called any more."""
        self._then = None
        self.finish()

    def _ended(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()
