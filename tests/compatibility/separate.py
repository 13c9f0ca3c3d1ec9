"""A member in a process of its own, so that it can be killed: it tells in lines of JSON what it is handed out and owns,
each before it does anything else with it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.compatibility.members import MEMBERS, Member, Place

ROOT = Path(__file__).parents[2]


class SeparateMember(Member):
    """As the process tells it. It never leaves the group: it is killed."""

    def __init__(self, library: str, bootstrap: str, group: str, topic: str) -> None:
        self.library = library
        words = [sys.executable, "-m", __name__, library, bootstrap, group, topic]
        self._process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
        super().__init__(bootstrap, group, topic)

    def run(self, bootstrap: str, group: str, topic: str, settings: dict[str, Any]) -> None:
        output = self._process.stdout
        assert output is not None
        with output:
            for line in output:
                if not line.endswith(b"\n"):
                    break  # it died in the middle of it
                told = json.loads(line)
                if "owns" in told:
                    generation, places = told["owns"]
                    self.owns(generation, ((name, partition) for name, partition in places))
                    self.assigned = frozenset(partition for _, partition in places)
                else:
                    rows = told["took"]
                    self.took([(partition, offset, base64.b64decode(text)) for partition, offset, text in rows])
        code = self._process.wait()
        assert self._stopping.is_set(), f"the process of {self.library} ended by itself: {code}"

    def leave(self) -> None:
        """SIGKILL."""
        self._stopping.set()
        self._process.kill()


class _Telling(Member):
    """Mixed into the member that the process runs."""

    def took(self, records: list[tuple[int, int, bytes]]) -> None:
        super().took(records)
        rows = [(partition, offset, base64.b64encode(value).decode()) for partition, offset, value in records]
        print(json.dumps({"took": rows}), flush=True)  # noqa: T201

    def owns(self, generation: int, places: Iterable[Place]) -> None:
        before = self.last_told
        super().owns(generation, places)
        if self.last_told != before:
            print(json.dumps({"owns": (generation, sorted(self.last_told[1]))}), flush=True)  # noqa: T201


def main(library: str, *words: str) -> None:
    kind = type("TellingMember", (_Telling, MEMBERS[library]), {})
    member: Member = kind(*words)
    member.ended()


if __name__ == "__main__":
    main(*sys.argv[1:])
