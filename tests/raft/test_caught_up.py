"""When a peer last had all that there was (KIP-836), and when it was last heard of."""

from ottla.controller.raft.progress import Progress


def peer(match: int = 0) -> Progress:
    return Progress(next_index=1, contact=0.0, voter=True, match=match)


def test_it_is_caught_up_as_of_the_request_by_which_it_has_all_that_there_was() -> None:
    progress = peer()
    assert progress.caught_up_stamp == 0
    progress.asked(10, 5)
    progress.asked(11, 7)
    progress.acknowledge(4)
    progress.answered(10)
    assert progress.caught_up_stamp == 0, "it has not got entry 5"
    progress.acknowledge(5)
    progress.answered(11)
    assert progress.caught_up_stamp == 10
    progress.answered(12)
    assert progress.caught_up_stamp == 10, "nothing was asked since"
    progress.asked(13, 9)
    progress.acknowledge(9)
    progress.answered(13)
    assert progress.caught_up_stamp == 13


def test_a_log_that_grows_all_the_time_does_not_keep_it_from_having_been_caught_up() -> None:
    progress = peer()
    for stamp in range(1, 100):
        progress.asked(stamp, 10 * stamp)
        progress.acknowledge(10 * (stamp - 3) if stamp > 3 else 0)
        progress.answered(stamp)
        assert stamp - progress.caught_up_stamp <= 8 or stamp < 8


def test_an_answer_from_before_the_request_says_nothing() -> None:
    progress = peer(match=5)
    progress.asked(20, 5)
    progress.answered(19)
    assert progress.caught_up_stamp == 0
    progress.answered(20)
    assert progress.caught_up_stamp == 20


def test_one_that_lost_its_disk_was_never_caught_up() -> None:
    progress = peer(match=5)
    progress.asked(20, 5)
    progress.answered(20)
    progress.asked(21, 5)
    progress.forget("another")
    assert (progress.caught_up_stamp, progress.mark) == (0, None)
