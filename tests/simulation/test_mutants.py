"""The faults are not too kind, and the checks not blind: mistakes in our own code are found within a few seeds."""

from pathlib import Path

import pytest

from ottla.simulation.storm import attempt
from tests.simulation.mutants import MUTANTS, TOLD


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name: str):
    mutant = MUTANTS[name]
    for seed in range(mutant.seeds):
        with pytest.MonkeyPatch.context() as patch:
            mutant.patch(patch)
            found = attempt(mutant.plan(seed)).anomaly
        if found is not None:
            assert attempt(mutant.plan(seed)).anomaly is None, "without the mutation it is clean"
            return
    pytest.fail(f"{name} survived {mutant.seeds} seeds")


@pytest.mark.parametrize("name", TOLD)
def test_the_others_have_their_story(name: str):
    file, _, test = TOLD[name].partition("::")
    path = Path(__file__).parent / "scenarios" / file
    assert f"def {test}(" in path.read_text(encoding="utf-8")
