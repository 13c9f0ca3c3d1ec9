"""The OTTLA-CLUSTER exchange, both sides, and everything that must not pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.broker.replication import AuthenticationFailed, ClientExchange, ClusterCredentials, ServerExchange

SECRET = b"s" * 32


def server(secret: bytes = SECRET, cluster: str = "c", node: int = 2, nonce: bytes = b"n" * 32) -> ServerExchange:
    return ServerExchange(ClusterCredentials(cluster, node, secret), nonce)


def client(secret: bytes = SECRET, node: int = 1, peer: int = 2, nonce: bytes = b"m" * 32) -> ClientExchange:
    return ClientExchange(ClusterCredentials("c", node, secret), peer, nonce)


def test_both_know_each_other_in_the_end() -> None:
    ours, theirs = client(), server()
    ours.finish(theirs.step(ours.second(theirs.step(ours.first()))))
    assert theirs.principal == "node:1"
    with pytest.raises(AuthenticationFailed):
        theirs.step(ours.first())


@pytest.mark.parametrize("other", [server(cluster="d"), server(node=3)])
def test_another_cluster_or_node_is_refused_at_once(other: ServerExchange) -> None:
    with pytest.raises(AuthenticationFailed):
        other.step(client().first())
    with pytest.raises(AuthenticationFailed, match="over"):
        other.step(client().first())


def test_a_wrong_secret_is_refused_by_either_side() -> None:
    ours, theirs = client(b"x" * 32), server()
    challenge = theirs.step(ours.first())
    with pytest.raises(AuthenticationFailed, match="secret"):
        theirs.step(ours.second(challenge))
    assert theirs.principal is None
    # An impostor can show a challenge, but not sign what both have said.
    honest = client()
    honest.second(server(b"x" * 32).step(client().first()))
    with pytest.raises(AuthenticationFailed, match="secret"):
        honest.finish(client(b"x" * 32).second(challenge))


def test_a_recorded_exchange_cannot_be_replayed() -> None:
    ours, theirs = client(), server()
    first = ours.first()
    second = ours.second(theirs.step(first))
    theirs.step(second)
    later = server(nonce=b"o" * 32)
    later.step(first)
    with pytest.raises(AuthenticationFailed):
        later.step(second)


@given(st.binary(max_size=200), st.booleans())
def test_garbage_fails_and_nothing_else(message: bytes, after_first: bool) -> None:
    theirs = server()
    if after_first:
        theirs.step(client().first())
    with pytest.raises(AuthenticationFailed):
        theirs.step(message)
    assert theirs.principal is None


def test_the_secret_is_not_shown() -> None:
    assert "ssss" not in repr(ClusterCredentials("c", 1, SECRET))
