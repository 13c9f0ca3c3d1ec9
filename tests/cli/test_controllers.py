"""`ottla features` and `ottla quorum` against nodes of our own: the verbs, lines and columns of kafka-features.sh and
kafka-metadata-quorum.sh."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.cli.running import asked, ottla, refused, serving, told

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    async with serving(tmp_path_factory.mktemp("cli"), nodes=2) as servers:
        yield servers


class TestFeatures:
    async def levels(self, bootstrap: str) -> dict[str, int]:
        rows = await asked("features", "describe", bootstrap=bootstrap)
        return {row["Feature"]: row["FinalizedVersionLevel"] for row in rows}

    async def test_describe(self, bootstrap: str) -> None:
        lines = [line.split() for line in (await told("features", "describe", bootstrap=bootstrap)).splitlines()]
        assert lines[0] == ["Feature", "SupportedMinVersion", "SupportedMaxVersion", "FinalizedVersionLevel", "Epoch"]
        assert [line[:4] for line in lines[1:]] == [
            ["group.version", "0", "1", "1"],
            ["kraft.version", "1", "1", "1"],
            ["transaction.version", "0", "2", "2"],
        ]

    async def test_down_and_up(self, bootstrap: str) -> None:
        words = ("--feature", "transaction.version=1", "--feature", "group.version=0")
        out = await told("features", "downgrade", *words, "--dry-run", bootstrap=bootstrap)
        assert out == "group.version can be downgraded to 0.\ntransaction.version can be downgraded to 1.\n"
        before = await asked("features", "describe", bootstrap=bootstrap)
        out = await told("features", "downgrade", *words, bootstrap=bootstrap)
        assert out == "group.version was downgraded to 0.\ntransaction.version was downgraded to 1.\n"
        after = await asked("features", "describe", bootstrap=bootstrap)
        assert [row["FinalizedVersionLevel"] for row in after] == [0, 1, 1]
        assert after[0]["Epoch"] > before[0]["Epoch"]
        out = await told("features", "disable", "--feature", "transaction.version", "--unsafe", bootstrap=bootstrap)
        assert out == "transaction.version was disabled.\n"
        assert (await self.levels(bootstrap))["transaction.version"] == 0
        out = await told("features", "upgrade", "--feature", "transaction.version=2", bootstrap=bootstrap)
        assert out == "transaction.version was upgraded to 2.\n"
        await told("features", "upgrade", "--feature", "group.version=1", bootstrap=bootstrap)
        assert await self.levels(bootstrap) == {"group.version": 1, "kraft.version": 1, "transaction.version": 2}

    async def test_all_or_nothing(self, bootstrap: str) -> None:
        words = ("--feature", "group.version=0", "--feature", "kraft.version=0")
        status, out, err = await ottla("features", "downgrade", *words, bootstrap=bootstrap)
        assert (status, err) == (1, "ottla: 2 out of 2 operation(s) failed.\n")
        first, second = out.splitlines()
        assert first.startswith("Could not downgrade group.version to 0. The update failed for all features since ")
        assert first.endswith(
            "Invalid update version 0 for feature kraft.version. The controller only supports versions 1-1"
        )
        assert second.startswith("Could not downgrade kraft.version to 0. ")
        assert (await self.levels(bootstrap))["group.version"] == 1

    async def test_wrong_usage(self, bootstrap: str) -> None:
        for text in ("transaction.version", "=1", "transaction.version=two", "transaction.version=70000"):
            await refused("features", "upgrade", "--feature", text, bootstrap=bootstrap, status=2)
        twice = ("--feature", "group.version=1", "--feature", "group.version=0")
        assert "more than once" in await refused("features", "upgrade", *twice, bootstrap=bootstrap, status=2)


class TestQuorum:
    async def test_status(self, bootstrap: str) -> None:
        lines = (await told("quorum", "describe", "--status", bootstrap=bootstrap)).splitlines()
        found = {line[:24].rstrip(" :"): line[24:] for line in lines}
        assert list(found)[4:] == ["MaxFollowerLag", "MaxFollowerLagTimeMs", "CurrentVoters", "CurrentObservers"]
        assert 0 <= int(found["MaxFollowerLagTimeMs"]) < 10_000
        voters = json.loads(found["CurrentVoters"])
        assert [each["id"] for each in voters] == [1, 2]
        assert all(len(each["directoryId"]) == 22 for each in voters)
        assert found["CurrentObservers"] == "[]"

    async def test_replication(self, bootstrap: str) -> None:
        lines = (await told("quorum", "describe", "--replication", bootstrap=bootstrap)).splitlines()
        header, leader, follower = (line.split() for line in lines)
        assert header[4:] == ["LastFetchTimestamp", "LastCaughtUpTimestamp", "Status"]
        assert [row[-1] for row in (leader, follower)] == ["Leader", "Follower"]
        assert int(leader[4]) >= int(follower[4]) >= int(follower[5]) > 1_700_000_000_000
        out = await told("quorum", "describe", "--replication", "--human-readable", bootstrap=bootstrap)
        for line in out.splitlines()[1:]:
            assert re.search(r"  \d+ ms ago +\d+ ms ago +(Leader|Follower)$", line)
        why = await refused("quorum", "describe", "--human-readable", bootstrap=bootstrap, status=2)
        assert "--replication" in why
