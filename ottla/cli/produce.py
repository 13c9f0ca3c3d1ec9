"""`ottla produce TOPIC`: one record per line of standard input."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import TYPE_CHECKING

from ottla.cli.common import TIMEOUT_MS, add_bootstrap, add_format, print_json, run_client
from ottla.cli.main import CommandError

if TYPE_CHECKING:
    from ottla.client import Producer, RecordMetadata

MAX_LINE = 16 * 1024 * 1024
MAX_PENDING = 10_000
"""Records that may wait for their acknowledgement before the next line is read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("topic", metavar="TOPIC")
    parser.add_argument("-k", "--key-separator", metavar="SEP", help="what stands between key and value on a line")
    parser.add_argument("-p", "--partition", type=int, help="send everything there (default: by key)")
    parser.add_argument("-z", "--compression", choices=("none", "gzip", "snappy", "lz4", "zstd"), default="none")
    parser.add_argument("--acks", choices=("all", "1", "0"), default="all")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not print where the records are")
    add_bootstrap(parser)
    add_format(parser)


def run(args: argparse.Namespace) -> int:
    if args.key_separator == "":
        raise CommandError("--key-separator is empty", status=2)
    return run_client(lambda: _produce(args))


async def _produce(args: argparse.Namespace) -> int:
    from ottla.client import Producer

    producer = Producer(
        bootstrap_servers=args.bootstrap,
        acks=args.acks if args.acks == "all" else int(args.acks),
        compression_type=args.compression,
        request_timeout_ms=TIMEOUT_MS,
        max_block_ms=TIMEOUT_MS * 2,
        delivery_timeout_ms=TIMEOUT_MS * 6,
    )
    async with producer:
        reader = await _stdin()
        pending: asyncio.Queue[asyncio.Future[RecordMetadata] | None] = asyncio.Queue(MAX_PENDING)
        report = asyncio.create_task(_report(pending, args))
        feed = asyncio.create_task(_feed(producer, reader, pending, args))
        try:
            # A record that failed ends the command at once, not with the next line of input.
            await asyncio.wait((report, feed), return_when=asyncio.FIRST_EXCEPTION)
            if not report.done():
                feed.result()
            return report.result()
        finally:
            report.cancel()
            feed.cancel()
            await asyncio.gather(report, feed, return_exceptions=True)


async def _feed(
    producer: Producer,
    reader: asyncio.StreamReader,
    pending: asyncio.Queue[asyncio.Future[RecordMetadata] | None],
    args: argparse.Namespace,
) -> None:
    separator = args.key_separator.encode() if args.key_separator else None
    while line := await _line(reader):
        value = line.removesuffix(b"\n").removesuffix(b"\r")
        key: bytes | None = None
        if separator is not None and separator in value:
            key, _, value = value.partition(separator)
        await pending.put(await producer.send(args.topic, value, key=key, partition=args.partition))
    await pending.put(None)


async def _report(pending: asyncio.Queue[asyncio.Future[RecordMetadata] | None], args: argparse.Namespace) -> int:
    while (future := await pending.get()) is not None:
        place = await future
        if args.quiet:
            continue
        if args.format == "json":
            print_json({"topic": place.topic, "partition": place.partition, "offset": place.offset})
        else:
            where = f"partition {place.partition} at offset {place.offset}"
            print(f"Produced to {where} with timestamp {place.timestamp}.", flush=True)
    return 0


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:
        raise CommandError(f"a line is longer than {MAX_LINE} bytes") from error


async def _stdin() -> asyncio.StreamReader:
    """Standard input as a stream: pipes and terminals through the loop, files (never slow) read in one go."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_LINE)
    try:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    except ValueError:
        while chunk := os.read(sys.stdin.fileno(), 1 << 20):
            reader.feed_data(chunk)
        reader.feed_eof()
    return reader
