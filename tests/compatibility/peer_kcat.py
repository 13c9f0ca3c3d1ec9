"""kcat, a tool from outside of Python (Debian: `apt install kcat`), against the cluster.

`make peers` runs this; its name keeps it out of `make test`, which must not ask for more than Python packages. Where
there is no kcat, or one without transactions (1.7 has them), each of these tests fails with a line that says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.compatibility.cluster import Cluster, eventually
from tests.compatibility.kafka_python import KafkaPython

WITHIN_S = 60
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
KCAT = shutil.which("kcat") or shutil.which("kafkacat") or ""


@pytest.fixture(scope="module", autouse=True)
def there() -> None:
    if not KCAT:
        pytest.fail("kcat is not installed (Debian: apt install kcat)", pytrace=False)
    version = subprocess.run([KCAT, "-V"], capture_output=True, text=True, timeout=WITHIN_S, check=True).stdout
    if "Transactions" not in version or "zstd" not in version:
        pytest.fail(f"{KCAT} was built without transactions or without zstd", pytrace=False)


def kcat(cluster: Cluster, *words: str, stdin: str = "") -> str:
    """What it prints; it is an error if it complains."""
    line = [KCAT, "-b", cluster.bootstrap, *words]
    done = subprocess.run(line, input=stdin, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def made(cluster: Cluster, topic: str) -> str:
    with KafkaPython().admin(cluster.bootstrap) as admin:
        cluster.make(admin, topic, 3, 3)
    return topic


def listed(cluster: Cluster, *words: str) -> Any:
    return json.loads(kcat(cluster, "-L", "-J", *words))


def test_the_cluster_and_a_topic(cluster: Cluster, made: str) -> None:
    found = listed(cluster, "-t", made)
    assert {broker["id"] for broker in found["brokers"]} == {1, 2, 3}
    assert found["controllerid"] in (1, 2, 3)
    (row,) = found["topics"]
    assert [partition["partition"] for partition in row["partitions"]] == [0, 1, 2]
    assert all(len(partition["isrs"]) == 3 for partition in row["partitions"])
    text = kcat(cluster, "-L", "-t", made)
    assert " 3 brokers:" in text
    assert f'  topic "{made}" with 3 partitions:' in text


@pytest.mark.parametrize("codec", CODECS)
def test_what_goes_in_comes_out(cluster: Cluster, made: str, codec: str) -> None:
    lines = [f"key-{number}:value-{number}" for number in range(100)]
    kcat(cluster, "-P", "-t", made, "-p", "1", "-K", ":", "-z", codec, "-X", "acks=all", stdin="\n".join(lines))
    out = kcat(cluster, "-C", "-t", made, "-p", "1", "-o", "beginning", "-e", "-q", "-f", "%o %k:%s\n")
    assert out.splitlines() == [f"{offset} {line}" for offset, line in enumerate(lines)]
    last = kcat(cluster, "-C", "-t", made, "-p", "1", "-o", "-3", "-e", "-q", "-f", "%s\n")
    assert last.splitlines() == [f"value-{number}" for number in (97, 98, 99)]


def test_headers_keys_and_null_values(cluster: Cluster, made: str) -> None:
    kcat(cluster, "-P", "-t", made, "-p", "0", "-K", ":", "-Z", "-H", "a=1", "-H", "b=2", stdin="key:")
    row = json.loads(kcat(cluster, "-C", "-t", made, "-p", "0", "-o", "beginning", "-e", "-q", "-J"))
    assert (row["key"], row["payload"], row["headers"]) == ("key", None, ["a", "1", "b", "2"])


def test_idempotent(cluster: Cluster, made: str) -> None:
    sent = "\n".join(map(str, range(500)))
    kcat(cluster, "-P", "-t", made, "-p", "2", "-X", "enable.idempotence=true", stdin=sent)
    assert kcat(cluster, "-C", "-t", made, "-p", "2", "-o", "beginning", "-e", "-q").strip() == sent


MANY = [f"value-{number}" for number in range(20_000)]
"""It reads its input in large pieces, and sends nothing of one that is not full."""


@contextmanager
def transaction(cluster: Cluster, topic: str) -> Iterator[subprocess.Popen[str]]:
    """kcat in the middle of its transaction, in which it has sent some of MANY; it commits when its input ends."""
    words = ("-P", "-t", topic, "-p", "0", "-X", f"transactional.id=of-{topic}")
    with subprocess.Popen([KCAT, "-b", cluster.bootstrap, *words], stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            process.stdin.write("\n".join(MANY))
            process.stdin.flush()
            yield process
        finally:
            process.kill()


def values(cluster: Cluster, topic: str, isolation: str) -> list[str]:
    words = ("-o", "beginning", "-e", "-q", "-X", f"isolation.level={isolation}")
    return kcat(cluster, "-C", "-t", topic, "-p", "0", *words).split()


def test_transactions(cluster: Cluster, made: str) -> None:
    """What it sent is there, and is read by nobody who asks for what is committed, until it has committed."""
    with transaction(cluster, made) as producer:
        eventually(lambda: values(cluster, made, "read_uncommitted"), "something is written")
        assert values(cluster, made, "read_committed") == []
        assert producer.stdin is not None
        producer.stdin.close()
        assert producer.wait(WITHIN_S) == 0
    assert values(cluster, made, "read_committed") == MANY
    with transaction(cluster, made) as producer:
        eventually(lambda: len(values(cluster, made, "read_uncommitted")) > len(MANY), "something is written")
        producer.kill()
    kcat(cluster, "-P", "-t", made, "-p", "0", "-X", f"transactional.id=of-{made}", stdin="5")
    assert values(cluster, made, "read_committed") == [*MANY, "5"], "that of the killed one is aborted"
    assert len(values(cluster, made, "read_uncommitted")) > len(MANY) + 1


def test_offsets_by_time(cluster: Cluster, made: str) -> None:
    kcat(cluster, "-P", "-t", made, "-p", "0", stdin="a\nb\nc")
    row = json.loads(kcat(cluster, "-C", "-t", made, "-p", "0", "-o", "beginning", "-c", "1", "-q", "-J"))
    found = kcat(cluster, "-Q", "-t", f"{made}:0:{row['ts']}")
    assert found.strip() == f"{made} [0] offset 0"
    for spec, offset in (("-1", 3), ("-2", 0)):
        assert kcat(cluster, "-Q", "-t", f"{made}:0:{spec}").strip() == f"{made} [0] offset {offset}"
    ends = kcat(cluster, "-Q", "-t", f"{made}:0:-1", "-t", f"{made}:1:-1").split("\n")
    assert {f"{made} [0] offset 3", f"{made} [1] offset 0"} <= set(ends)


def test_a_group_goes_on_where_it_was(cluster: Cluster, made: str) -> None:
    """`-G` joins a consumer group; it ends with the partitions, and commits."""
    kcat(cluster, "-P", "-t", made, "-p", "0", stdin="1\n2")
    group = ("-G", f"group-of-{made}", "-X", "auto.offset.reset=earliest", "-e", "-q", made)
    assert sorted(kcat(cluster, *group).split()) == ["1", "2"]
    kcat(cluster, "-P", "-t", made, "-p", "0", stdin="3")
    assert kcat(cluster, *group).split() == ["3"]


def test_a_leader_dies_meanwhile(cluster: Cluster, made: str) -> None:
    partition = listed(cluster, "-t", made)["topics"][0]["partitions"][0]
    kcat(cluster, "-P", "-t", made, "-p", "0", "-X", "acks=all", stdin="before")
    cluster.kill(partition["leader"])
    kcat(cluster, "-P", "-t", made, "-p", "0", "-X", "acks=all", stdin="after")
    out = kcat(cluster, "-C", "-t", made, "-p", "0", "-o", "beginning", "-e", "-q")
    assert out.split() == ["before", "after"]
    cluster.start(partition["leader"])
    eventually(
        lambda: len(listed(cluster, "-t", made)["topics"][0]["partitions"][0]["isrs"]) == 3, "it is in sync again"
    )
