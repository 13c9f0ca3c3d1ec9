"""Neither answers nor requests pile up behind what is slow."""

from structlog.testing import capture_logs

from ottla.wire import Limits, Raw, Request
from ottla.wire.framing import BLOCK_SIZE
from tests.wire.harness import ECHO, LATER, QUIET, ManualLoop, World, request


def test_a_blocked_connection_reads_one_block_ahead_and_no_more(world: World) -> None:
    transport = world.connect()
    transport.protocol.pause_writing()
    data = b"".join(request(ECHO, i, bytes(1000)) for i in range(200))
    taken = transport.feed(data)
    assert taken == BLOCK_SIZE
    assert not transport.reading
    transport.protocol.resume_writing()
    assert transport.reading
    transport.feed(data[taken:])
    assert transport.order == list(range(200))


def _large(world: World) -> None:
    world.add(QUIET, "Large", lambda request: Raw([bytes(400_000)]))


def test_answers_to_one_read_do_not_pile_up(world: World) -> None:
    """A small request may have a large answer, and a read may bring hundreds of them."""
    _large(world)
    transport = world.connect()
    transport.high_water = 1024 * 1024
    transport.feed(b"".join(request(QUIET, i) for i in range(500)))
    assert len(transport.answers) == 3
    transport.drained()
    assert len(transport.answers) == 6


def test_answers_behind_one_that_is_not_there_do_not_pile_up(loop: ManualLoop, world: World) -> None:
    _large(world)
    transport = world.connect()
    transport.feed(request(LATER, 0) + b"".join(request(QUIET, i) for i in range(1, 100)))
    assert world.server.stats.requests == {LATER: 1, QUIET: 3}
    world.waiting[0][1].set_result(Raw([b""]))
    loop.turn()
    assert transport.order == list(range(100))


def test_those_who_do_not_take_their_answers_go_first(loop: ManualLoop) -> None:
    world = World(loop, Limits(max_unsent_bytes=3_000_000))
    _large(world)
    with capture_logs() as lines:
        peers = [world.connect() for _ in range(4)]
        for peer in peers:
            peer.high_water = 1024 * 1024
            peer.feed(b"".join(request(QUIET, i) for i in range(10)))
        loop.turn()
    assert [peer.closed for peer in peers] == [True, True, False, False]
    assert [line["event"] for line in lines] == ["connection_dropped"] * 2
    for peer in peers[2:]:
        peer.drained()
        peer.protocol.abort()
    loop.turn()
    assert world.server._unsent == 0
    assert not world.server._stalled


def test_when_requests_hold_too_much_a_connection_has_one_at_a_time(loop: ManualLoop) -> None:
    world = World(loop, Limits(max_buffered_bytes=10_000))
    one, two = world.connect(), world.connect()
    one.feed(b"".join(request(LATER, i, bytes(4_000)) for i in range(10)))
    assert len(world.waiting) == 3
    two.feed(request(LATER, 0) + request(LATER, 1))
    assert len(world.waiting) == 4
    for done in range(12):
        world.waiting[done][1].set_result(Raw([b""]))
        loop.turn()
    assert one.order == list(range(10))
    assert two.order == [0, 1]
    assert world.server.buffered == 0


def test_requests_of_one_read_leave_others_their_turn(loop: ManualLoop, world: World) -> None:
    def slow(request: Request) -> Raw:
        loop.now += 0.03
        return Raw([b""])

    world.add(QUIET, "Slow", slow)
    one, two = world.connect(), world.connect()
    one.feed(b"".join(request(QUIET, i) for i in range(10)))
    assert one.order == [0]
    two.feed(request(ECHO, 0))
    assert two.order == [0]
    one.feed(request(QUIET, 10))
    assert one.order == [0]
    loop.turn(20)
    assert one.order == list(range(11))


def test_a_connection_may_end_while_it_rests(loop: ManualLoop, world: World) -> None:
    world.add(QUIET, "Slow", lambda request: loop.__setattr__("now", loop.now + 1) or Raw([b""]))
    one = world.connect()
    one.feed(b"".join(request(QUIET, i) for i in range(10)))
    one.protocol.abort()
    loop.turn(20)
    assert one.order == [0]
    assert world.server.connections == 0
