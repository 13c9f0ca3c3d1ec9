"""The core is a value machine: no clock, no chance of its own, no I/O (STYLE: pure cores)."""

import ast
from pathlib import Path

import pytest

import ottla.controller.raft as raft

FOLDER = Path(raft.__file__).parent
PURE = ["config", "messages", "entry_log", "progress", "state", "follower", "leader", "election", "core"]
FORBIDDEN = {"asyncio", "time", "os", "socket", "uuid", "aiohttp", "datetime", "threading", "secrets", "structlog"}


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_nothing_impure_and_use_only_injected_randomness(name: str) -> None:
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & FORBIDDEN
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in FORBIDDEN
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr == "Random", f"random.{node.attr} is not from the injected generator"
