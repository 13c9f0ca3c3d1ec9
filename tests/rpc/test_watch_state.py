"""What counts as evidence of death, as sequences of signs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.controller.rpc.watch_state import MAX_DELAY_S, MAX_PROBES, TRANSITIONS, Sign, Standing, WatchState

E, B, R, U, S, G = (
    Sign.ESTABLISHED,
    Sign.BROKEN,
    Sign.REFUSED,
    Sign.UNRESOLVABLE,
    Sign.SILENT,
    Sign.GOODBYE,
)


def after(*signs: Sign) -> Standing:
    state = WatchState()
    for sign in signs:
        state = state.after(sign)
    return state.standing


@pytest.mark.parametrize(
    ("signs", "standing"),
    [
        ((E, B, R), Standing.DEAD),  # kill -9
        ((E, B, B, R), Standing.DEAD),  # the listener outlived the connection for a moment
        ((E, B, U), Standing.DEAD),  # docker kill: the name goes with the container
        ((E, B, S, S, U), Standing.DEAD),  # the same, when the address fell silent before the name went
        ((R,), Standing.DEAD),  # down since before this node started
        ((E, S, R), Standing.DEAD),  # paused, then killed
        ((E, S, B, R), Standing.DEAD),  # paused, then killed with an attempt in its backlog
        ((U,), Standing.UNKNOWN),  # not deployed yet
        ((E, S, U), Standing.SILENT),  # this node is cut off, from its resolver too
        ((E, S, S, S), Standing.SILENT),  # paused
        ((E, G, R, R), Standing.LEFT),  # stopped cleanly
        ((E, G, R, E, B, R), Standing.DEAD),  # came back after a clean stop, then was killed
        ((E, B, E), Standing.WATCHING),  # only the connection broke
        ((E, B, R, U, S, B, R), Standing.DEAD),  # stays dead until it is seen alive
        ((E, B, R, E), Standing.WATCHING),
        ((E, B, *[S] * MAX_PROBES), Standing.SILENT),
        ((E, B, *[S] * MAX_PROBES, U), Standing.SILENT),
    ],
)
def test_the_standing_after(signs: tuple[Sign, ...], standing: Standing) -> None:
    assert after(*signs) is standing


def test_the_table_covers_all_that_can_happen() -> None:
    missing = {(standing, sign) for standing in Standing for sign in Sign} - TRANSITIONS.keys()
    assert missing == {(Standing.WATCHING, R), (Standing.WATCHING, U)}  # no attempt is made while watching


@given(st.lists(st.sampled_from([s for s in Sign if s not in (R, U)]), max_size=60))
def test_without_a_refusal_or_a_missing_name_nobody_is_dead(signs: list[Sign]) -> None:
    assert after(*signs) is not Standing.DEAD


@given(st.lists(st.sampled_from(Sign), max_size=60))
def test_delays_are_bounded_and_only_a_fresh_break_is_retried_at_once(signs: list[Sign]) -> None:
    state = WatchState()
    for sign in signs:
        if (state.standing, sign) not in TRANSITIONS:
            continue
        before, state = state, state.after(sign)
        assert 0.0 <= state.delay <= MAX_DELAY_S
        if state.delay == 0.0:
            assert state.standing is Standing.BROKEN
            assert before.standing is not Standing.BROKEN
