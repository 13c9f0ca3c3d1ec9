"""The load of the benchmarks: librdkafka through confluent-kafka, in a process of its own.

``python benchmarks/load.py BOOTSTRAP TOPIC RECORDS ACKS [MODE]`` prints one JSON object: records, seconds, failed.
``--latency``, one record in flight per millisecond, adds milliseconds from produce to acknowledgement;
``--transactions MS`` adds how many of that length there were, and ``--idempotent`` is the same without; ``--read`` and
``--read-singly`` (a record to an answer) take the seconds of reading as many from the beginning.
"""

from __future__ import annotations

import argparse
import json
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition

PARTITIONS = 4
SIZE = 1024
CHUNK = 1000
MAX_QUEUED = 200_000
MAX_QUEUED_SHORTLY = 10_000
"""So that what is queued at the end of a transaction is no large part of it."""


def throughput(producer: Producer, topic: str, records: int) -> dict[str, float]:
    """As many records as the producer takes, ``CHUNK`` per partition in turn."""
    messages = [{"value": bytes(SIZE)} for _ in range(CHUNK)]
    began = time.perf_counter()
    for turn in range(records // CHUNK):
        while len(producer) > MAX_QUEUED:
            producer.poll(0.01)
        producer.produce_batch(topic, messages, partition=turn % PARTITIONS)
    left = producer.flush(120)
    return {"records": records // CHUNK * CHUNK, "seconds": time.perf_counter() - began, "failed": left}


def transactions(producer: Producer, topic: str, records: int, length: float) -> dict[str, float]:
    """The same in transactions of ``length`` seconds; ``length`` 0 is without, and with the same bound on the queue."""
    messages = [{"value": bytes(SIZE)} for _ in range(CHUNK)]
    if length:
        producer.init_transactions(30)
        producer.begin_transaction()
    # What connecting takes is no part of it.
    for partition in range(PARTITIONS):
        producer.produce(topic, bytes(SIZE), partition=partition)
    producer.flush(30)
    if length:
        producer.commit_transaction(30)
    began = time.perf_counter()
    sent = count = left = 0
    while sent < records:
        count += 1
        until = time.perf_counter() + (length or 1e9)
        if length:
            producer.begin_transaction()
        while sent < records and time.perf_counter() < until:
            while len(producer) > MAX_QUEUED_SHORTLY:
                producer.poll(0.001)
            producer.produce_batch(topic, messages, partition=sent // CHUNK % PARTITIONS)
            sent += CHUNK
        if length:
            producer.commit_transaction(30)
        else:
            left = producer.flush(120)
    return {"records": sent, "seconds": time.perf_counter() - began, "failed": left, "transactions": count}


def latency(producer: Producer, topic: str, records: int, rate: float = 1000.0) -> dict[str, float]:
    """``rate`` records a second, each timed from ``produce`` to its acknowledgement."""
    took: list[float] = []
    failed = 0

    def delivered(sent: float, error: KafkaError | None) -> None:
        nonlocal failed
        if error is None:
            took.append(time.perf_counter() - sent)
        else:
            failed += 1

    began = time.perf_counter()
    for number in range(records):
        due = began + number / rate
        while (left := due - time.perf_counter()) > 0:
            producer.poll(left)
        sent = time.perf_counter()

        def on_delivery(error: KafkaError | None, _message: Message, sent: float = sent) -> None:
            delivered(sent, error)

        producer.produce(topic, bytes(SIZE), partition=number % PARTITIONS, on_delivery=on_delivery)
        producer.poll(0)
    producer.flush(60)
    took.sort()
    return {
        "records": records,
        "seconds": time.perf_counter() - began,
        "failed": failed,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[int(len(took) * 0.99)] * 1000,
    }


def read(bootstrap: str, topic: str, records: int, *, singly: bool = False) -> dict[str, float]:
    """As many records from the beginning of all partitions, from the first one that comes to the last; `singly`: with
    hardly more than one in each answer."""
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": "load",
        "enable.auto.commit": False,
        # Else it stops to fetch for a second at a time when it is ahead of who consumes.
        "queued.min.messages": 10_000_000,
        "queued.max.messages.kbytes": 2_000_000,
    }
    if singly:
        config |= {"fetch.message.max.bytes": SIZE}
    consumer = Consumer(config)
    consumer.assign([TopicPartition(topic, index, OFFSET_BEGINNING) for index in range(PARTITIONS)])
    count = len(consumer.consume(1, 60))
    began = time.perf_counter()
    while count < records:
        got = len(consumer.consume(CHUNK, 10))
        if not got:
            break
        count += got
    consumer.close()
    return {"records": count, "seconds": time.perf_counter() - began, "failed": max(0, records - count)}


def main() -> None:
    """Produce, and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("records", type=int)
    parser.add_argument("acks")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--transactions", type=float, metavar="MS")
    parser.add_argument("--idempotent", action="store_true")
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--read-singly", action="store_true")
    args = parser.parse_args()
    if args.read or args.read_singly:
        print(json.dumps(read(args.bootstrap, args.topic, args.records, singly=args.read_singly)))
        return
    config = {
        "bootstrap.servers": args.bootstrap,
        "acks": args.acks,
        "linger.ms": 0 if args.latency else 5,
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 1_000_000,
    }
    if args.transactions or args.idempotent:
        config["enable.idempotence"] = True
    if args.transactions:
        config["transactional.id"] = "load"
    producer = Producer(config)
    if args.transactions or args.idempotent:
        result = transactions(producer, args.topic, args.records, (args.transactions or 0) / 1000)
    else:
        result = (latency if args.latency else throughput)(producer, args.topic, args.records)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
