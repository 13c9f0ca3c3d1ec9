"""The faults are not too kind, and the checks not blind: mistakes in our own code are found within a few seeds."""

from pathlib import Path

import pytest

from tests.simulation.mutants.catching import catch
from tests.simulation.mutants.mistakes import MUTANTS, TOLD


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_within_so_many_seeds(name: str):
    mutant = MUTANTS[name]
    catch(mutant.patch, mutant.plan, mutant.seeds)


@pytest.mark.parametrize("name", TOLD)
def test_the_others_have_their_story(name: str):
    file, _, test = TOLD[name].partition("::")
    path = Path(__file__).parents[1] / "scenarios" / file
    assert f"def {test}(" in path.read_text(encoding="utf-8")
