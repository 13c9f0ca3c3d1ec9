"""What must hold of consumer groups, whatever happens to the cluster. Pure functions of what members were told.

* two-owners: a partition has one owner in a generation; and one at any moment: who is told by the group's coordinator
  that it still has it is the last that it was given to;
* lost-commit: whoever asks after a commit was answered is told that offset, or a later one;
* regressed-commit: what the coordinator says of a partition never goes back from one answer to a later question;
* unprocessed: every record has been processed by some member of the group in the end.

The second and the third hold for a group as a whole, and not only within a generation, as the members here begin where
the group has committed, and commit only what they have read from there on. Excused is an offset that a member had sent
and never heard of: what is under way when a member gives up its connection may arrive after what it sends by the next
one. Nothing in the protocol tells the coordinator that it is old, as long as the member has the same id and is in the
same generation. So what it undoes are that member's own commits of that generation, and answers that were asked for
before anybody was told of a later one. Once that was seen, the group goes on from there.

Excused is also the word of a coordinator that had been replaced and did not know (as in Kafka): a heartbeat writes
nothing, so no replica can object. And that of one that still loads, which tells every classic member that all is well
(as in Kafka). Neither takes a commit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final, NamedTuple

from ottla.simulation.checker import Finding
from ottla.simulation.groups.told import Assigned, At, Commit, Fetched, Told

LOST: Final = "lost-commit"
REGRESSED: Final = "regressed-commit"


def check_groups(told: Told, ends: Mapping[str, Mapping[At, int]]) -> list[Finding]:
    """`ends`: for each group that had the time to, where the partitions end that it was to process."""
    return [*two_owners(told), *shared(told), *gone_back(told), *unprocessed(told, ends)]


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
    for held in (each for each in told.held if not each.uninformed):
        for at, since in held.since.items():
            for row in given[held.group, at]:
                if row.member != held.member and since < row.began and row.at < held.began:
                    both = f"{held.member} and {row.member}"
                    yield Finding("two-owners", name(at), (), f"{both} of {held.group} at {held.began:.3f}")
                    break


class _Word(NamedTuple):
    """The coordinator said that the group had committed `offset`: to who committed it, or to who asked."""

    began: float
    ended: float
    offset: int
    commit: Commit | None


class _Late(NamedTuple):
    """A commit that nobody has heard of, and until when it may have arrived at the latest."""

    commit: Commit
    until: float


def gone_back(told: Told) -> Iterator[Finding]:
    """Only commits that were answered count: what became of the others nobody knows."""
    words: defaultdict[tuple[str, At], list[_Word]] = defaultdict(list)
    asked: defaultdict[tuple[str, At], list[Fetched]] = defaultdict(list)
    unanswered: defaultdict[tuple[str, At], list[Commit]] = defaultdict(list)
    for commit in told.commits:
        for at, offset in commit.offsets.items():
            if commit.outcome == "ok":
                words[commit.group, at].append(_Word(commit.began, commit.ended, offset, commit))
            elif commit.outcome == "info":
                unanswered[commit.group, at].append(commit)
    for fetched in told.fetched:
        for at, offset in fetched.offsets.items():
            words[fetched.group, at].append(_Word(fetched.began, fetched.ended, offset, None))
            asked[fetched.group, at].append(fetched)
    for (group, at), questions in asked.items():
        late = [_Late(commit, _until(told, commit, at)) for commit in unanswered[group, at]]
        yield from _gone_back(group, at, words[group, at], questions, late)


def _until(told: Told, commit: Commit, at: At) -> float:
    """When somebody was told what shows that the generation in which the commit was sent is over."""

    def over(row: Assigned) -> bool:
        later = row.generation > commit.generations[-1]
        if row.group != commit.group or row.at <= commit.began:
            return False
        if row.member == commit.member:
            return later
        # Told late, it may be of an earlier generation.
        return at in row.partitions and (row.began > commit.began or (later and row.group in told.alike))

    return min((row.at for row in told.assigned if over(row)), default=float("inf"))


def _gone_back(
    group: str, at: At, words: list[_Word], questions: list[Fetched], late: list[_Late]
) -> Iterator[Finding]:
    words.sort(key=lambda word: word.ended)
    greatest = [-1, *accumulate((word.offset for word in words), max)]
    undone: dict[int, float] = {}
    for fetched in sorted(questions, key=lambda each: each.ended):
        offset = fetched.offsets[at]
        count = bisect_left(words, fetched.began, key=lambda word: word.ended)
        if offset >= greatest[count]:
            continue
        against = {
            place: word
            for place, word in enumerate(words[:count])
            if word.offset > offset and not undone.get(place, float("inf")) < fetched.began
        }
        if any(_undoes(each, fetched, offset, at, list(against.values())) for each in late):
            undone |= {place: min(fetched.ended, undone.get(place, float("inf"))) for place in against}
            continue
        for kind, verb in ((LOST, "committed"), (REGRESSED, "was told")):
            told = [word.offset for word in against.values() if (word.commit is None) == (kind == REGRESSED)]
            if told:
                text = f"{group} {verb} {max(told)}, and is told {offset} after that, at {fetched.ended:.3f}"
                yield Finding(kind, name(at), (), text)


def _undoes(late: _Late, fetched: Fetched, offset: int, at: At, against: list[_Word]) -> bool:
    """Whether the commit may have arrived after all that was said against what the question was answered with."""
    sent = late.commit
    return (
        sent.offsets[at] == offset
        and sent.began < fetched.ended
        and all(word.began < late.until and (word.commit is None or _alike(word.commit, sent)) for word in against)
    )


def _alike(one: Commit, other: Commit) -> bool:
    """Whether both may have been sent as the same member in the same generation."""
    same = (one.member, one.member_id) == (other.member, other.member_id)
    return same and any(generation in other.generations for generation in one.generations)


def unprocessed(told: Told, ends: Mapping[str, Mapping[At, int]]) -> Iterator[Finding]:
    for group, partitions in ends.items():
        for at, end in partitions.items():
            missing = set(range(end)) - told.processed[group, at]
            if missing:
                shown = sorted(missing)[:5]
                yield Finding("unprocessed", name(at), (), f"{len(missing)} records of {end} by {group}: {shown}")


def name(at: At) -> str:
    return f"{at[0]}-{at[1]}"
