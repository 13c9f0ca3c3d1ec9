"""The ceiling that the real produce path is held against: uvloop, kio and an append to a file; nothing else.

No checks, no idempotence, no high watermark, no replication, no limits: only what cannot be left out for librdkafka to
produce with acks=1. Run by ``benchmarks/single_node.py``; by hand: ``python benchmarks/spike.py PORT DIRECTORY``.
"""

from __future__ import annotations

import asyncio
import io
import os
import struct
import sys
import uuid
from datetime import timedelta
from pathlib import Path
from typing import cast

import uvloop
from kio.schema.api_versions.v3 import response as api_versions
from kio.schema.errors import ErrorCode
from kio.schema.metadata.v12 import response as metadata
from kio.schema.produce.v9 import response as produce
from kio.schema.produce.v9.request import ProduceRequest
from kio.schema.request_header.v2.header import RequestHeader
from kio.serial import entity_reader, entity_writer

PARTITIONS = 4
TOPIC = "load"
VERSIONS = {0: (3, 9), 3: (0, 12), 18: (0, 3)}
NOTHING = timedelta(0)

read_header = entity_reader(RequestHeader)
read_produce = entity_reader(ProduceRequest)
write_produce = entity_writer(produce.ProduceResponse)
write_metadata = entity_writer(metadata.MetadataResponse)
write_versions = entity_writer(api_versions.ApiVersionsResponse)


class Log:
    """A file and the offset of its end."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.end = 0

    def append(self, batch: bytes) -> int:
        base = self.end
        (count,) = struct.unpack_from(">i", batch, 57)
        os.writev(self.file, [struct.pack(">q", base), memoryview(batch)[8:]])
        self.end = base + count
        return base


class Spike(asyncio.BufferedProtocol):
    """One connection: frames in, answers out."""

    def __init__(self, port: int, logs: list[Log]) -> None:
        self.port, self.logs = port, logs
        self.buffer = bytearray(4 << 20)
        self.filled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio's, so only the type checker is told.
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)[self.filled :]

    def buffer_updated(self, count: int) -> None:
        self.filled += count
        start, answers = 0, []
        while self.filled - start >= 4:
            (size,) = struct.unpack_from(">i", self.buffer, start)
            if self.filled - start - 4 < size:
                break
            answers.append(self.answer(bytes(memoryview(self.buffer)[start + 4 : start + 4 + size])))
            start += 4 + size
        self.buffer[: self.filled - start] = self.buffer[start : self.filled]
        self.filled -= start
        if answers:
            self.transport.write(b"".join(answers))

    def answer(self, frame: bytes) -> bytes:
        key, _version, correlation = struct.unpack_from(">hhi", frame)
        out = io.BytesIO()
        if key == 0:
            _, at = read_header(frame, 0)
            write_produce(out, self.produce(read_produce(frame, at)[0]))
            body = b"\0" + out.getvalue()
        elif key == 3:
            write_metadata(out, self.metadata())
            body = b"\0" + out.getvalue()
        else:
            write_versions(out, self.versions())
            body = out.getvalue()
        return struct.pack(">ii", len(body) + 4, correlation) + body

    def produce(self, request: ProduceRequest) -> produce.ProduceResponse:
        return produce.ProduceResponse(
            responses=tuple(
                produce.TopicProduceResponse(
                    name=topic.name,
                    partition_responses=tuple(
                        produce.PartitionProduceResponse(
                            index=part.index,
                            error_code=ErrorCode.none,
                            base_offset=self.logs[part.index].append(part.records),
                            log_append_time=None,
                            log_start_offset=0,
                            record_errors=(),
                        )
                        for part in topic.partition_data
                    ),
                )
                for topic in request.topic_data
            ),
            throttle_time=NOTHING,
        )

    def metadata(self) -> metadata.MetadataResponse:
        return metadata.MetadataResponse(
            throttle_time=NOTHING,
            brokers=(metadata.MetadataResponseBroker(node_id=1, host="127.0.0.1", port=self.port),),
            cluster_id="spike",
            controller_id=1,
            topics=(
                metadata.MetadataResponseTopic(
                    error_code=ErrorCode.none,
                    name=TOPIC,
                    topic_id=uuid.UUID(int=7),
                    is_internal=False,
                    partitions=tuple(
                        metadata.MetadataResponsePartition(
                            error_code=ErrorCode.none,
                            partition_index=index,
                            leader_id=1,
                            leader_epoch=0,
                            replica_nodes=(1,),
                            isr_nodes=(1,),
                            offline_replicas=(),
                        )
                        for index in range(PARTITIONS)
                    ),
                ),
            ),
        )

    def versions(self) -> api_versions.ApiVersionsResponse:
        return api_versions.ApiVersionsResponse(
            error_code=ErrorCode.none,
            api_keys=tuple(
                api_versions.ApiVersion(api_key=key, min_version=low, max_version=high)
                for key, (low, high) in VERSIONS.items()
            ),
            throttle_time=NOTHING,
        )


async def main(port: int, directory: Path) -> None:
    """Serve until killed."""
    os.makedirs(directory, exist_ok=True)
    logs = [Log(directory / f"{TOPIC}-{index}.log") for index in range(PARTITIONS)]
    server = await asyncio.get_running_loop().create_server(lambda: Spike(port, logs), "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2])))
