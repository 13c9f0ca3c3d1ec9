"""What must hold of consumer groups, whatever happens to the cluster. Pure functions of what members were told.

* two-owners: a partition has one owner in a generation; and one at any moment: who is told by the group's coordinator
  that it still has it is the last that it was given to;
* lost-commit: whoever asks after a commit was answered is told that offset, or a later one;
* regressed-commit: what the coordinator says of a partition never goes back from one answer to a later question;
* unprocessed: every record has been processed by some member of the group in the end.

The second and the third hold for a group as a whole, and not only within a generation, as the members here begin where
the group has committed, and commit only what they have read from there on. Excused is an offset that a member had sent
and never heard of: what is under way when a member gives up its connection may arrive after what it sends by the next
one, in the same generation. Nothing in the protocol tells the coordinator that it is old.

Excused is also the word of a coordinator that had been replaced and did not know (as in Kafka): a heartbeat writes
nothing, so no replica can object. Its member can commit nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping

from ottla.simulation.checker import Finding
from ottla.simulation.groups.told import Assigned, At, Fetched, Told


def check_groups(told: Told, ends: Mapping[str, Mapping[At, int]]) -> list[Finding]:
    """`ends`: for each group that had the time to, where the partitions end that it was to process."""
    return [*two_owners(told), *shared(told), *lost_commits(told), *regressed_commits(told), *unprocessed(told, ends)]


def two_owners(told: Told) -> Iterator[Finding]:
    owners: dict[tuple[str, int, At], str] = {}
    for row in told.assigned:
        for at in row.partitions if row.group in told.alike else ():
            owner = owners.setdefault((row.group, row.generation, at), row.member)
            if owner != row.member:
                yield Finding(
                    "two-owners",
                    name(at),
                    (),
                    f"{owner} and {row.member} in generation {row.generation} of {row.group}",
                )


def shared(told: Told) -> Iterator[Finding]:
    """A member that was given a partition, then another, then the first one is told that it still has it."""
    given: defaultdict[tuple[str, At], list[Assigned]] = defaultdict(list)
    for row in told.assigned:
        for at in row.partitions:
            given[row.group, at].append(row)
    for held in (each for each in told.held if not each.replaced):
        for at, since in held.since.items():
            for row in given[held.group, at]:
                if row.member != held.member and since < row.began and row.at < held.began:
                    both = f"{held.member} and {row.member}"
                    yield Finding("two-owners", name(at), (), f"{both} of {held.group} at {held.began:.3f}")
                    break


def lost_commits(told: Told) -> Iterator[Finding]:
    """Only commits that were answered count: what became of the others nobody knows."""
    best: defaultdict[tuple[str, At], list[tuple[float, int]]] = defaultdict(list)
    for commit in sorted((each for each in told.commits if each.outcome == "ok"), key=lambda each: each.ended):
        for at, offset in commit.offsets.items():
            rows = best[commit.group, at]
            rows.append((commit.ended, max(offset, rows[-1][1] if rows else -1)))
    for fetched in told.fetched:
        for at, offset in fetched.offsets.items():
            least = _before(best[fetched.group, at], fetched.began)
            if offset < least and not _came_late(told, fetched, at):
                yield Finding(
                    "lost-commit", name(at), (), f"{fetched.group} committed {least}, and is told {offset} after that"
                )


def regressed_commits(told: Told) -> Iterator[Finding]:
    best: defaultdict[tuple[str, At], list[tuple[float, int]]] = defaultdict(list)
    for fetched in sorted(told.fetched, key=lambda each: each.ended):
        for at, offset in fetched.offsets.items():
            rows = best[fetched.group, at]
            rows.append((fetched.ended, max(offset, rows[-1][1] if rows else -1)))
    for fetched in told.fetched:
        for at, offset in fetched.offsets.items():
            least = _before(best[fetched.group, at], fetched.began)
            if offset < least and not _came_late(told, fetched, at):
                yield Finding(
                    "regressed-commit", name(at), (), f"{fetched.group} was told {least}, and {offset} after that"
                )


def _came_late(told: Told, fetched: Fetched, at: At) -> bool:
    return any(
        commit.outcome == "info"
        and commit.group == fetched.group
        and commit.offsets.get(at) == fetched.offsets[at]
        and commit.began < fetched.ended
        for commit in told.commits
    )


def _before(rows: list[tuple[float, int]], moment: float) -> int:
    """The greatest offset that was known before the moment."""
    place = bisect_right(rows, moment, key=lambda row: row[0])
    while place and rows[place - 1][0] >= moment:
        place -= 1
    return rows[place - 1][1] if place else -1


def unprocessed(told: Told, ends: Mapping[str, Mapping[At, int]]) -> Iterator[Finding]:
    for group, partitions in ends.items():
        for at, end in partitions.items():
            missing = set(range(end)) - told.processed[group, at]
            if missing:
                shown = sorted(missing)[:5]
                yield Finding("unprocessed", name(at), (), f"{len(missing)} records of {end} by {group}: {shown}")


def name(at: At) -> str:
    return f"{at[0]}-{at[1]}"
