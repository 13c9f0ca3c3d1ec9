from __future__ import annotations

import random

import pytest

from ottla.log import ModelledDisk


@pytest.fixture
def disk() -> ModelledDisk:
    return ModelledDisk(random.Random(1))
