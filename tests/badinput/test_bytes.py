"""Bytes that are no requests, or no whole ones: a closed connection and one line for each."""

from __future__ import annotations

import asyncio
import struct

import pytest
from kio.schema.errors import ErrorCode

from ottla.wire import Limits, decode, encode, request_type, response_type
from tests.badinput.node import Running, batch, eventually, framed

API_VERSIONS_V0 = struct.pack(">hhih", 18, 0, 7, -1)


def header(key: int, version: int, correlation_id: int = 1, *, flexible: bool = False) -> bytes:
    return struct.pack(">hhih", key, version, correlation_id, -1) + (b"\0" if flexible else b"")


UNREADABLE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "http post": b"POST /topics/target HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n",
    "negative length": struct.pack(">i", -1) + b"xxxx",
    "lowest length": struct.pack(">i", -(2**31)),
    "largest length": struct.pack(">i", 2**31 - 1) + b"x" * 100,
    "over the limit by one": struct.pack(">i", 100 * 1024 * 1024 + 1),
    "empty frame": framed(b""),
    "half a header": framed(b"\0\x12\0"),
    "unknown key": framed(header(9999, 0)),
    "negative key": framed(header(-1, 0)),
    "key that Kafka has and we do not": framed(header(27, 1)),
    "version too low": framed(header(0, 2)),
    "version too high": framed(header(3, 99, flexible=True)),
    "negative version": framed(header(3, -1)),
    "client id past the end": framed(struct.pack(">hhih", 3, 0, 1, 500) + b"abc"),
    "client id that is no text": framed(struct.pack(">hhih", 3, 0, 1, 2) + b"\xff\xfe"),
    "header tags past the end": framed(struct.pack(">hhih", 3, 12, 1, -1) + b"\x01\x00\xff\xff\xff\xff\x07"),
    "array longer than the frame": framed(header(3, 1) + struct.pack(">i", 2**31 - 1)),
    "negative array": framed(header(3, 1) + struct.pack(">i", -2)),
    "null array where there must be one": framed(header(2, 1) + struct.pack(">ii", -1, -1)),
    "string longer than the frame": framed(header(3, 1) + struct.pack(">ih", 1, 500) + b"abc"),
    "negative string": framed(header(3, 1) + struct.pack(">ih", 1, -5)),
    "topic that is no text": framed(header(3, 1) + struct.pack(">ih", 1, 4) + b"\xff\xfe\xfd\xfc"),
    "endless varint": framed(header(3, 12, flexible=True) + b"\xff" * 20),
    "tagged field past the end": framed(header(18, 3, flexible=True) + b"\x02a\x02b" + b"\x01\x63\xff\xff\xff\xff\x07"),
    "small request that is large": framed(header(17, 1) + b"\0\2xx" + bytes(100_000)),
    "version request that is large": framed(header(18, 3, flexible=True) + b"\x02a\x02b\0" + bytes(100_000)),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_cannot_be_read_closes_the_connection_with_one_line(node: Running, name: str) -> None:
    async with node.unharmed(lines=1):
        peer = await node.raw()
        await peer.send(UNREADABLE[name])
        assert await peer.closed()


async def test_a_request_cut_off_by_its_sender_leaves_nothing_behind(node: Running) -> None:
    values = {
        "acks": -1,
        "timeout": 1,
        "topic_data": [{"name": "target", "partition_data": [{"index": 0, "records": batch(50)}]}],
    }
    whole = framed(header(0, 8) + encode(request_type(0, 8), {**values, "transactional_id": None}))
    async with node.unharmed():
        for size in range(1, len(whole), 37):
            peer = await node.raw()
            await peer.send(whole[:size])
            peer.close()
            await peer.writer.wait_closed()


async def test_what_came_before_garbage_is_answered(node: Running) -> None:
    async with node.unharmed(lines=1):
        peer = await node.raw()
        await peer.send(framed(API_VERSIONS_V0) + UNREADABLE["http"])
        assert (await peer.answer() or (None,))[0] == 7
        assert await peer.closed()


async def test_an_api_versions_request_of_the_future_gets_the_v0_answer(node: Running) -> None:
    async with node.unharmed():
        peer = await node.raw()
        for version in (5, 77, 32767, -1):
            await peer.send(framed(struct.pack(">hhih", 18, version, version, -1) + b"\0whatever"))
            answer = await peer.answer()
            assert answer is not None and answer[0] == version
            body = decode(response_type(18, 0), answer[1])
            assert body.error_code is ErrorCode.unsupported_version
            assert [(row.api_key, row.min_version, row.max_version) for row in body.api_keys] == [(18, 0, 4)]


@pytest.mark.parametrize("name", ["", "bad name", "x\n", "-", "é"])
async def test_bad_software_names_are_refused(node: Running, name: str) -> None:
    async with node.unharmed():
        client = await node.client()
        values = {"client_software_name": name, "client_software_version": "1"}
        assert (await client.call(18, 3, values)).error_code is ErrorCode.invalid_request


async def test_dripped_bytes_have_a_deadline_for_the_whole_frame(node: Running) -> None:
    port, server = await node.listen(Limits(frame_deadline_s=0.2))
    async with node.unharmed(lines=2):
        declared, small = await node.raw(port), await node.raw(port)
        await declared.send(struct.pack(">i", 100 * 1024 * 1024))
        await small.send(framed(API_VERSIONS_V0)[:-1])
        ends = [asyncio.ensure_future(peer.closed()) for peer in (declared, small)]
        drips = 0
        while not all(end.done() for end in ends):
            drips += 1
            declared.writer.write(b"x")  # bytes go on coming, and buy no time
            await asyncio.sleep(0.01)
        assert drips > 5
        assert server.buffered == 0
        assert server.connections == 0


async def test_a_declared_length_reserves_nothing(node: Running) -> None:
    async with node.unharmed():
        peers = [await node.raw() for _ in range(50)]
        for peer in peers:
            await peer.send(struct.pack(">i", 100 * 1024 * 1024) + b"x")
        await eventually(lambda: sum(each._reader.partial for each in node.server._sessions) == len(peers))
        assert node.server.buffered <= len(peers) * 256 * 1024
        for peer in peers:
            peer.close()
        await eventually(lambda: node.server.connections == 1)
    assert node.server.buffered == 0


async def test_answers_come_in_the_order_of_requests(node: Running) -> None:
    async with node.unharmed(log=False):
        peer = await node.raw()
        produce = {
            "acks": -1,
            "timeout": 1000,
            "topic_data": [{"name": "target", "partition_data": [{"index": 0, "records": batch()}]}],
        }
        frames = []
        for i in range(300):
            key, version, values = [(0, 8, produce), (3, 8, {"topics": None}), (18, 2, {})][i % 3]
            frames.append(
                framed(header(key, version, i) + encode(request_type(key, version), _built(key, version, values)))
            )
        await peer.send(b"".join(frames))
        answers = [await peer.answer() for _ in frames]
        assert [answer and answer[0] for answer in answers] == list(range(300))


def _built(key: int, version: int, values: dict[str, object]) -> object:
    from ottla.wire import build

    return build(request_type(key, version), values)
