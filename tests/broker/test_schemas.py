"""Schemas are imported before there is anybody to keep waiting."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from ottla.broker import TABLE, load_schemas
from ottla.wire import Registry, request_type, response_type

every = {every}
load_schemas(every_version=every)
Registry()
before = set(sys.modules)
for row in TABLE:
    first, last = row.versions
    for version in range(first, last + 1) if every else row.versions:
        request_type(row.key, version), response_type(row.key, version)
print([name for name in sys.modules.keys() - before if ".schema." in name])
"""


@pytest.mark.parametrize("every", [False, True])
def test_nothing_is_left_to_import(every: bool) -> None:
    program = PROGRAM.format(every=every)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
