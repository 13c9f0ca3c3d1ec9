"""What ``import ottla`` costs: nothing but the name; and that a client does not pay for the server."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, sys
before = set(sys.modules)
{code}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def imported_by(code: str) -> list[str]:
    """The modules that the code brings into a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(code=code)], capture_output=True, text=True, timeout=60, check=True
    )
    found: list[str] = json.loads(done.stdout)
    return found


def test_the_package_alone_imports_nothing() -> None:
    found = imported_by("import ottla")
    assert [name for name in found if name.startswith("ottla")] == ["ottla"]
    assert {name.partition(".")[0] for name in found} - {"ottla"} <= set(sys.stdlib_module_names)
    assert "asyncio" not in found


def test_a_client_does_not_pay_for_the_server() -> None:
    found = imported_by("from ottla import Admin, Consumer, Producer, TopicPartition")
    server = ("ottla.node", "ottla.broker", "ottla.controller", "ottla.log", "ottla.gateway", "ottla.cluster")
    paid = [name for name in found if name.startswith(server) or name.partition(".")[0] in ("aiohttp", "pydantic")]
    assert paid == []


def test_every_public_name_is_there() -> None:
    import ottla

    for name in ottla.__all__:
        assert getattr(ottla, name).__module__.startswith("ottla.client")
        assert name in dir(ottla)
