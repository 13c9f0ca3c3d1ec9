"""Random interleavings of producers, markers, truncations, crashes and retention, against a model that searches lists:
the last stable offset, and what a reader of committed records is given from anywhere."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.log import ModelledDisk
from tests.log.transactional import Story


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_readers_of_committed_records_agree_with_a_model(seed: int) -> None:
    Story(ModelledDisk(random.Random(seed + 1)), seed).run(60)


@pytest.mark.parametrize("seed", range(4))
def test_long_stories(seed: int) -> None:
    Story(ModelledDisk(random.Random(seed + 1)), seed).run(500)
