"""MetadataView: what is applied, who is told and in which order, who is woken."""

import asyncio

import pytest

from ottla.controller import MetadataView
from ottla.controller.metadata import BrokenInvariant, Delta, MetadataImage, encode_records
from ottla.controller.metadata.records import BrokerChanged
from tests.metadata.cluster import CLUSTER_ID, Cluster, FakeEntry


def _cluster() -> Cluster:
    cluster = Cluster().up(1, 2)
    cluster.create("t", (1, 2))
    return cluster


def _entries(cluster: Cluster) -> list[FakeEntry]:
    return [FakeEntry(index, data) for index, data in enumerate(cluster.entries, 1)]


async def test_entries_become_the_image_and_subscribers_hear_of_each() -> None:
    cluster, view = _cluster(), MetadataView(CLUSTER_ID)
    heard: list[tuple[int, Delta]] = []
    end = view.subscribe(lambda image, delta: heard.append((image.offset, delta)))
    entries = _entries(cluster)
    view.on_apply(entries[:2])
    view.on_apply([*entries[2:-1], FakeEntry(99, b"")])
    assert [offset for offset, _ in heard] == [1, 2, 3, 4]
    assert view.image.offset == 99
    end()
    view.on_apply([FakeEntry(100, cluster.entries[-1])])
    assert len(heard) == 4
    assert view.image.topics == cluster.image.topics


async def test_the_entry_that_begins_a_term_is_no_news_but_wakes_who_waits() -> None:
    view = MetadataView(CLUSTER_ID)
    view.subscribe(lambda image, delta: pytest.fail("nothing has changed"))
    waiting = asyncio.ensure_future(view.wait_for(1, timeout=5))
    await asyncio.sleep(0)
    view.on_apply([FakeEntry(1, b"")])
    assert (await waiting).offset == 1


async def test_waiting_for_an_offset() -> None:
    cluster, view = _cluster(), MetadataView(CLUSTER_ID)
    told: list[int] = []
    view.subscribe(lambda image, delta: told.append(image.offset))
    late = asyncio.ensure_future(view.wait_for(4, timeout=5))
    early = asyncio.ensure_future(view.wait_for(1, timeout=5))
    given_up = asyncio.ensure_future(view.wait_for(2, timeout=5))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    entries = _entries(cluster)
    view.on_apply(entries[:1])
    assert (await early).offset == 1
    assert not late.done()
    view.on_apply(entries[1:])
    assert (await late).offset >= 4
    assert told == [1, 2, 3, 4, 5], "subscribers know before those who wait"
    assert (await view.wait_for(0, timeout=0)).offset == 5


async def test_waiting_ends_with_its_time() -> None:
    view = MetadataView(CLUSTER_ID)
    with pytest.raises(TimeoutError):
        await view.wait_for(1, timeout=0)
    view.on_apply([FakeEntry(1, b"")])


async def test_a_snapshot_takes_the_place_of_entries() -> None:
    cluster, behind = _cluster(), MetadataView(CLUSTER_ID)
    whole = MetadataView(CLUSTER_ID)
    whole.on_apply(_entries(cluster))
    encode = whole.snapshot_source()
    whole.on_apply([FakeEntry(6, b"")])
    heard: list[tuple[MetadataImage, Delta]] = []
    behind.on_apply(_entries(cluster)[:1])
    behind.subscribe(lambda image, delta: heard.append((image, delta)))
    behind.on_snapshot(encode(), 5, 1)
    assert behind.image == cluster.image
    ((image, delta),) = heard
    assert image is behind.image
    assert delta.created == (cluster.image.topics["t"],)
    assert delta.brokers == {1, 2}


async def test_an_entry_that_does_not_fit_is_not_swallowed() -> None:
    view = MetadataView(CLUSTER_ID)
    with pytest.raises(BrokenInvariant):
        view.on_apply([FakeEntry(1, encode_records([BrokerChanged(id=1, epoch=1, fenced=True)]))])
    assert view.image.offset == 0
