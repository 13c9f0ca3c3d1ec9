"""A peer that does not hold any more what it had acknowledged."""

from ottla.controller.raft.progress import Progress


def peer(match: int, accepted: int) -> Progress:
    progress = Progress(next_index=match + 1, contact=0.0, voter=True)
    progress.acknowledge(match)
    progress.answered(accepted)
    return progress


def test_what_it_says_to_a_newer_request_counts() -> None:
    progress = peer(match=9, accepted=20)
    assert not progress.is_overtaken(9, 21)
    progress.lost_entries()
    progress.probe(6)
    assert (progress.match, progress.next_index) == (0, 6)
    progress.acknowledge(7)
    assert progress.match == 7


def test_an_old_answer_that_was_overtaken_does_not() -> None:
    progress = peer(match=9, accepted=20)
    assert progress.is_overtaken(8, 19) and progress.is_overtaken(9, 20)


def test_what_it_never_had_it_may_lack() -> None:
    progress = peer(match=9, accepted=20)
    assert not progress.is_overtaken(10, 19)
