"""The command as a person runs it: in a process of its own, against librdkafka's mock cluster."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
from collections.abc import Iterator

import confluent_kafka
import pytest

from ottla.cli import main
from ottla.cli.main import COMMANDS, build_parser


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    owner = confluent_kafka.Producer({"test.mock.num.brokers": 3, "log_level": 3})
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    del owner


async def ottla(*words: str, stdin: bytes = b"", bootstrap: str | None = None) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    where = () if bootstrap is None else ("--bootstrap", bootstrap)
    code = "import sys; from ottla.cli import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        *words,
        *where,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin)
    return process.returncode or 0, out.decode(), err.decode()


async def test_lines_go_in_and_come_out(bootstrap: str) -> None:
    status, out, err = await ottla("produce", "lines", "-k", ":", stdin=b"a:1\nb:2\nplain\n", bootstrap=bootstrap)
    assert (status, err) == (0, "")
    assert out.count("Produced to partition ") == 3

    status, out, err = await ottla("consume", "lines", "--from-beginning", "--exit-at-end", bootstrap=bootstrap)
    assert (status, err) == (0, "")
    assert sorted(out.splitlines()) == ["1", "2", "plain"]

    words = ("consume", "lines", "--from-beginning", "-n", "3", "--format", "json")
    status, out, err = await ottla(*words, bootstrap=bootstrap)
    records = [json.loads(line) for line in out.splitlines()]
    assert {(r["key"], r["value"]) for r in records} == {("a", "1"), ("b", "2"), (None, "plain")}
    assert records[0].keys() == {"topic", "key", "value", "headers", "timestamp", "partition", "offset"}


async def test_the_cluster_at_a_glance(bootstrap: str) -> None:
    await ottla("produce", "seen", "-p", "0", stdin=b"x\n", bootstrap=bootstrap)
    status, out, err = await ottla("status", "--format", "json", bootstrap=bootstrap)
    assert (status, err) == (0, "")
    seen = next(topic for topic in json.loads(out)["topics"] if topic["name"] == "seen")
    assert seen["partitions"][0]["high_watermark"] == 1
    assert seen["partitions"][0]["isr"] == [1, 2, 3]
    status, out, err = await ottla("status", bootstrap=bootstrap)
    assert status == 0 and "HIGH-WATERMARK" in out and "seen" in out

    status, out, err = await ottla("topic", "list", bootstrap=bootstrap)
    assert status == 0 and out.splitlines()[0].split() == ["NAME", "PARTITIONS", "REPLICAS"]
    status, out, err = await ottla("topic", "describe", "seen", bootstrap=bootstrap)
    assert out.startswith("Topic: seen\tTopicId: ")
    assert "\tTopic: seen\tPartition: 0\tLeader: " in out


async def test_failures_are_one_line_and_status_1(bootstrap: str) -> None:
    for words in (("consume", "nowhere"), ("topic", "describe", "nowhere"), ("consume", "lines2", "-p", "77")):
        status, _out, err = await ottla(*words, bootstrap=bootstrap)
        assert status == 1 and err.startswith("ottla: ") and err.count("\n") == 1, (words, err)


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        (),
        ("topic",),
        ("topic", "create", "x", "-p", "none"),
        ("topic", "create", "x", "-c", "noequals"),
        ("consume", "t", "-n", "0"),
        ("consume", "t", "-o", "-5"),
        ("produce", "t", "-k", ""),
        ("status", "--bootstrap", "host:port"),
    ],
)
def test_wrong_usage_is_status_2(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err


def test_every_subcommand_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert COMMANDS[name].help[1:] in " ".join(capsys.readouterr().out.split())
        build_parser(name)


async def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from ottla.cli import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    for heavy in ("asyncio", "aiohttp", "kio", "rich", "structlog", "pydantic", "ottla.client"):
        assert f"'{heavy}'" not in err.decode()


async def test_the_version_is_the_package_s(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ottla {importlib.metadata.version('ottla')}\n"
