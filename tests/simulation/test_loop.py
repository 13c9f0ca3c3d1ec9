"""Virtual time, the order of callbacks, and processes that are paused and killed."""

import asyncio
import itertools
import time
import weakref

import pytest

from ottla.simulation import Deadlock, Machine, Process, SimulatedCluster, current_world, run, world


def spawn(name: str, work) -> Process:
    """A process on a machine of its own that runs one coroutine."""
    world = current_world()
    machine = Machine(name, name)
    world.network.add(machine)
    process, context = world.loop.spawn(name, machine)
    world.loop.create_task(work, context=context)
    return process


def test_time_jumps_to_the_next_timer():
    async def scenario():
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(86_400)
        return loop.time() - began

    before = time.perf_counter()
    assert run(scenario, 1) == pytest.approx(86_400, abs=0.001)
    assert time.perf_counter() - before < 5


def test_clocks_of_third_parties_follow_the_simulation():
    async def scenario():
        before = time.time(), time.monotonic()
        await asyncio.sleep(3600)
        return time.time() - before[0], time.monotonic() - before[1]

    real = time.time()
    assert run(scenario, 1) == (pytest.approx(3600, abs=0.001), pytest.approx(3600, abs=0.001))
    assert abs(time.time() - real) < 60


def test_callbacks_of_one_process_keep_their_order_and_processes_interleave_by_the_seed():
    def order(seed: int) -> list[tuple[str, int]]:
        async def scenario():
            seen = []

            async def count(name: str):
                for number in range(20):
                    seen.append((name, number))
                    await asyncio.sleep(0)

            for name in "ab":
                spawn(name, count(name))
            await asyncio.sleep(1)
            return seen

        return run(scenario, seed)

    first = order(1)
    assert [number for name, number in first if name == "a"] == list(range(20))
    assert order(1) == first
    assert any(order(seed) != first for seed in range(2, 6))


def test_a_loop_without_a_pause_does_not_hold_time_still():
    async def scenario():
        async with asyncio.timeout(0.01):
            for _ in itertools.count():
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        run(scenario, 1)


def test_a_paused_process_does_nothing_and_then_catches_up():
    async def scenario():
        loop = current_world().loop
        ticks = []

        async def tick():
            while True:
                await asyncio.sleep(1)
                ticks.append(loop.time())

        process = spawn("a", tick())
        await asyncio.sleep(2.5)
        loop.pause(process)
        await asyncio.sleep(10)
        assert len(ticks) == 2
        loop.resume(process)
        await asyncio.sleep(0.1)
        assert len(ticks) == 3
        await asyncio.sleep(1)
        assert len(ticks) == 4

    run(scenario, 1)


def test_a_process_that_is_paused_while_its_turn_is_due_does_nothing():
    async def scenario():
        loop, ran = asyncio.get_running_loop(), []

        async def work():
            while True:
                await asyncio.sleep(0)
                ran.append(loop.time())

        process = spawn("a", work())
        for _ in range(50):
            await asyncio.sleep(0.00001)
            loop.pause(process)
            count = len(ran)
            await asyncio.sleep(1)
            assert len(ran) == count
            loop.resume(process)
        return len(ran)

    assert run(scenario, 1) > 50


def test_what_a_real_loop_leaves_open_is_drawn_and_what_it_promises_is_not():
    def order(seed: int) -> tuple[str, ...]:
        async def scenario():
            loop, seen = asyncio.get_running_loop(), []
            gate = asyncio.Event()

            async def work():
                for number in range(4):
                    loop.call_soon(seen.append, f"soon {number}")
                when = loop.time() + 5
                for number in range(4):
                    loop.call_at(when, seen.append, f"equal {number}")
                    loop.call_at(when + 1 + number / 1000, seen.append, f"later {number}")
                await asyncio.gather(*(loop.run_in_executor(None, seen.append, f"work {each}") for each in range(4)))
                gate.set()

            process = spawn("a", work())
            await asyncio.sleep(0.00005)
            loop.pause(process)  # so that all of it is found in one iteration
            await asyncio.sleep(10)
            loop.resume(process)
            await gate.wait()
            return tuple(seen)

        return run(scenario, seed)

    orders = {order(seed) for seed in range(8)}
    assert len(orders) > 6
    for seen in orders:
        for kind, ordered in (("soon", True), ("work", False), ("equal", False), ("later", True)):
            numbers = [each for each in seen if each.startswith(kind)]
            assert sorted(numbers) == [f"{kind} {number}" for number in range(4)]
            assert not ordered or numbers == sorted(numbers)
        assert [each.split()[0] for each in seen] == ["soon"] * 4 + ["work"] * 4 + ["equal"] * 4 + ["later"] * 4


def test_a_killed_process_never_runs_again_not_even_its_finally_clauses():
    seen = []

    async def scenario():
        async def work():
            try:
                await asyncio.sleep(5)
                seen.append("woke")
            finally:
                seen.append("finally")

        process = spawn("a", work())
        await asyncio.sleep(1)
        current_world().loop.kill(process)
        await asyncio.sleep(100)
        return list(seen)

    assert run(scenario, 1) == []


def test_the_executor_is_a_later_callback_and_dies_with_its_process():
    async def scenario():
        loop = asyncio.get_running_loop()
        done = []

        async def work():
            await loop.run_in_executor(None, done.append, "never")

        began = loop.time()
        assert await loop.run_in_executor(None, divmod, 7, 2) == (3, 1)
        assert loop.time() > began
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 7, 0)
        process = spawn("a", work())
        await asyncio.sleep(0)
        await asyncio.sleep(0.00001)
        current_world().loop.kill(process)
        await asyncio.sleep(1)
        return done

    assert run(scenario, 1) == []


def test_waiting_for_what_can_never_happen_is_an_error():
    async def scenario():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(scenario, 1)


def test_what_a_scenario_raises_comes_out():
    async def scenario():
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(scenario, 1)


def test_a_world_that_is_over_is_let_go_of(monkeypatch):
    """What is set aside while a world runs is looked through again once there is too much of it."""

    async def scenario():
        async with SimulatedCluster():
            return weakref.ref(current_world())

    over = run(scenario, 1)
    monkeypatch.setattr(world, "_in_use", 0)
    run(scenario, 2)
    assert over() is None
