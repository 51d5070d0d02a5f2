"""`AsyncLock`. A docstring quotes the sentence of docs/guide/locks.md that the test checks."""

import asyncio
import copy
import gc
import pickle
import random
import sys
import threading
import time
import weakref

import pytest
from conftest import Holder, in_child, needs_fork, run_python, until

from raceproof import AsyncLock, DeadlockError, WaitTimeout


def run(coroutine):
    """Runs a coroutine in an event loop of its own."""
    return asyncio.run(coroutine)


async def until_async(condition, timeout=10.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.001)


# What is excluded


def test_it_excludes_across_threads_and_event_loops(together):
    """Checks "One task or thread at a time holds an `AsyncLock`, whatever event loop or thread it runs in"."""
    lock, box, n_tasks, n_rounds = AsyncLock(), [0], 4, 60

    def threads():
        for _ in range(n_rounds):
            with lock:
                seen = box[0]
                time.sleep(0)
                box[0] = seen + 1

    async def task(suspends):
        for _ in range(n_rounds):
            async with lock:
                seen = box[0]
                if suspends:
                    await asyncio.sleep(0)
                box[0] = seen + 1

    async def tasks():
        await asyncio.gather(*(task(number % 2) for number in range(n_tasks)))

    together(*[lambda: run(tasks())] * 4, threads, threads)
    assert box[0] == 4 * n_tasks * n_rounds + 2 * n_rounds
    assert not lock.locked() and lock.waiters == 0


def test_a_storm_of_cancellations_loses_neither_the_lock_nor_a_wake_up(together):
    """Checks "A task that is cancelled while it waits loses neither the lock nor a wake-up"."""
    lock, box, n_taken = AsyncLock(), [0], [0] * 4

    async def task(idx):
        async with lock:
            seen = box[0]
            await asyncio.sleep(0)
            box[0] = seen + 1
            n_taken[idx] += 1

    async def storm(idx):
        chance = random.Random(idx)
        for _ in range(60):
            tasks = [asyncio.create_task(task(idx)) for _ in range(6)]
            for each in chance.sample(tasks, 3):
                await asyncio.sleep(chance.choice([0, 0, 0.0005]))
                each.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)

    together(*[lambda idx=idx: run(storm(idx)) for idx in range(4)])
    assert box[0] == sum(n_taken) > 0
    assert not lock.locked() and lock.waiters == 0
    assert lock.try_acquire()


def test_timeouts_lose_neither_the_lock_nor_a_wake_up(together):
    lock, box, n_taken = AsyncLock(), [0], [0] * 4

    async def task(idx, chance):
        try:
            async with lock.within(chance.choice([0, 0.0005, 0.002])):
                seen = box[0]
                await asyncio.sleep(chance.choice([0, 0.0005]))
                box[0] = seen + 1
                n_taken[idx] += 1
        except WaitTimeout:
            pass

    async def storm(idx):
        chance = random.Random(idx)
        for _ in range(30):
            await asyncio.gather(*(task(idx, chance) for _ in range(5)))

    def threads():
        for _ in range(100):
            try:
                with lock.within(0.0003):
                    time.sleep(0)
            except WaitTimeout:
                pass

    together(*[lambda idx=idx: run(storm(idx)) for idx in range(4)], threads)
    assert box[0] == sum(n_taken) > 0
    assert not lock.locked() and lock.waiters == 0


# Who comes next


def test_nobody_is_passed_over_twice():
    """Checks "A waiter that was woken and found the lock taken again gets it handed over at the next release"."""
    lock, order = AsyncLock(), []

    async def greedy():
        for _ in range(50):
            async with lock:
                order.append("greedy")
                await asyncio.sleep(0)

    async def patient():
        async with lock:
            order.append("patient")

    async def main():
        first = asyncio.create_task(greedy())
        await asyncio.sleep(0)
        await asyncio.gather(first, patient())

    run(main())
    assert order.index("patient") <= 3


def test_waiters_come_in_their_order():
    """Checks "Those that wait for an `AsyncLock` are woken in the order in which they came"."""
    lock, order = AsyncLock(), []

    async def task(number):
        async with lock:
            order.append(number)

    async def main():
        async with lock:
            tasks = [asyncio.create_task(task(number)) for number in range(5)]
            await until_async(lambda: lock.waiters == 5)
        await asyncio.gather(*tasks)

    run(main())
    assert order == [0, 1, 2, 3, 4]


# What waits, and what never blocks


def test_a_free_lock_costs_no_turn_of_the_loop():
    """Checks "Taking a free `AsyncLock` does not suspend the task"."""
    lock, order = AsyncLock(), []

    async def other():
        order.append("other")

    async def main():
        waits = asyncio.create_task(other())
        async with lock:
            order.append("inside")
        assert await lock.acquire() is True
        lock.release()
        await waits

    run(main())
    assert order == ["inside", "other"]


def test_a_wait_never_blocks_the_loop():
    """Checks "While a task waits, its event loop goes on"."""
    lock = AsyncLock()

    async def acquire():
        return await lock.acquire()

    with Holder(lock) as holder:

        async def main():
            waits = asyncio.create_task(acquire())
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not waits.done() and lock.waiters == 1
            holder.over.set()
            assert await asyncio.wait_for(waits, 10)
            lock.release()

        run(main())


def test_a_thread_with_a_running_loop_does_not_wait():
    """Checks "A plain `with` on an `AsyncLock` that would have to wait in a thread whose event loop runs is a
    `RuntimeError`"."""
    lock = AsyncLock()

    async def main():
        with lock:
            assert lock.locked()
        with Holder(lock):
            with pytest.raises(RuntimeError, match="async with"), lock:
                pytest.fail("it is held")
            with pytest.raises(RuntimeError, match="async with"), lock.within(5):
                pytest.fail("it is held")
        assert lock.try_acquire()
        lock.release()

    run(main())


def test_a_thread_that_would_wait_for_itself_is_told():
    """Checks "so does a thread that would wait without a limit for an `AsyncLock` that it holds"."""
    lock = AsyncLock()
    with lock:
        with pytest.raises(DeadlockError), lock:
            pytest.fail("it is held")
        with pytest.raises(WaitTimeout), lock.within(0.01):
            pytest.fail("it is held")
    assert not lock.locked()


def test_a_thread_waits_asleep():
    lock = AsyncLock()
    with Holder(lock) as holder:
        got = []
        waiter = threading.Thread(target=lambda: got.append(lock.__enter__()))
        waiter.start()
        until(lambda: lock.waiters == 1)
        gc.collect()
        holder.over.set()
        waiter.join(10)
    assert got == [True] and lock.locked()
    lock.release()


# Timeouts, exceptions, misuse


def test_within_in_a_task():
    """Checks "`within` raises `WaitTimeout` (a `TimeoutError`), with the name of the lock, its holder, and
    how long was waited"."""
    lock = AsyncLock("feed")

    async def main(holder):
        begin = time.monotonic()
        with pytest.raises(WaitTimeout, match="'feed'.*the holder") as caught:
            async with lock.within(0.05):
                pytest.fail("it is held")
        assert time.monotonic() - begin >= 0.05
        assert (caught.value.name, caught.value.holder) == ("feed", (holder.thread.ident, "the holder"))
        assert caught.value.waited >= 0.05
        assert lock.waiters == 0
        holder.over.set()
        async with lock.within(10):
            assert lock.locked()

    with Holder(lock) as holder:
        run(main(holder))
    assert not lock.locked()


def test_within_in_a_thread():
    lock = AsyncLock("feed")
    with Holder(lock):
        with pytest.raises(WaitTimeout, match="'feed'.*the holder") as caught, lock.within(0.05):
            pytest.fail("it is held")
        assert caught.value.waited >= 0.05 and lock.waiters == 0
    with lock.within(5):
        assert lock.locked()
    for error, timeout in [(ValueError, -1), (ValueError, float("nan")), (OverflowError, 1e100), (TypeError, "x")]:
        with pytest.raises(error):
            lock.within(timeout)


def test_wait_for_and_timeout_of_asyncio_work():
    lock = AsyncLock()

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lock.acquire(), 0.02)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await lock.acquire()
        assert lock.waiters == 0

    with Holder(lock):
        run(main())
    assert lock.try_acquire()


def test_an_exception_releases():
    """Checks "An exception in the block releases the lock and goes on"."""
    lock = AsyncLock()

    async def main():
        with pytest.raises(KeyError):
            async with lock:
                raise KeyError
        with pytest.raises(KeyError):
            async with lock.within(1):
                raise KeyError

    run(main())
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert not lock.locked()


def test_release_of_a_lock_that_is_not_held():
    """Checks "any task or thread an `AsyncLock`; releasing one that is not held is a `RuntimeError`"."""
    lock = AsyncLock()
    with pytest.raises(RuntimeError, match="unlocked"):
        lock.release()
    assert lock.try_acquire()
    assert not lock.try_acquire()
    threading.Thread(target=lock.release).start()
    until(lambda: not lock.locked())


# Loops that end


def test_a_closed_loop_is_skipped():
    """Checks "A waiter whose event loop is closed is skipped"."""
    lock = AsyncLock()
    lock.try_acquire()
    loop = asyncio.new_event_loop()

    async def acquire():
        await lock.acquire()

    abandoned = loop.create_task(acquire())
    loop.run_until_complete(asyncio.sleep(0.01))
    assert lock.waiters == 1
    loop.close()
    got = []
    waiter = threading.Thread(target=lambda: got.append(lock.__enter__()))
    waiter.start()
    until(lambda: lock.waiters == 2)
    lock.release()
    waiter.join(10)
    assert got == [True]
    lock.release()
    assert not lock.locked()
    abandoned._log_destroy_pending = False


def test_a_loop_that_is_shut_down_leaves_the_queue():
    """Checks "A loop that ends cancels its waiting tasks, which leave the queue"."""
    lock = AsyncLock()

    async def acquire():
        await lock.acquire()

    async def main():
        asyncio.create_task(acquire())
        await until_async(lambda: lock.waiters == 1)

    with Holder(lock):
        run(main())
        assert lock.waiters == 0
    assert lock.try_acquire()


def test_a_stopped_loop_keeps_its_turn_until_it_runs_again():
    """Checks "A loop that is stopped and not closed keeps what it was given until it runs again"."""
    lock, got = AsyncLock(), []
    lock.try_acquire()
    loop = asyncio.new_event_loop()

    async def work():
        async with lock:
            got.append("task")

    task = loop.create_task(work())
    loop.run_until_complete(asyncio.sleep(0))

    def wait():
        with lock:
            got.append("thread")

    waiter = threading.Thread(target=wait)
    waiter.start()
    until(lambda: lock.waiters == 2)
    lock.release()
    waiter.join(0.05)
    assert got == []
    loop.run_until_complete(task)
    waiter.join(10)
    loop.close()
    assert got == ["task", "thread"]


def test_a_task_that_is_thrown_away_leaves_the_queue():
    """Checks "A coroutine that is closed or forgotten while it waits leaves the queue"."""
    lock = AsyncLock()

    async def main():
        coroutine = lock.acquire()
        coroutine.send(None)
        assert lock.waiters == 1
        coroutine.close()
        assert lock.waiters == 0
        coroutine = lock.acquire()
        coroutine.send(None)
        del coroutine
        gc.collect()
        assert lock.waiters == 0

    with Holder(lock):
        run(main())


def test_circles_through_waiting_tasks_are_collected():
    """Checks "Locks, tasks and loops that refer to each other are collected"."""

    class Service:
        def __init__(self):
            self.lock = AsyncLock()
            self.loop = asyncio.new_event_loop()

        async def work(self):
            async with self.lock:
                pass

    def make():
        service = Service()
        service.lock.try_acquire()
        service.task = service.loop.create_task(service.work())
        service.loop.run_until_complete(asyncio.sleep(0))
        assert service.lock.waiters == 1
        service.task._log_destroy_pending = False
        service.loop.close()
        return weakref.ref(service), weakref.ref(service.lock)

    references = make()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_memory_stays_flat():
    lock = AsyncLock()

    def blocks():
        gc.collect()
        return sys.getallocatedblocks()

    async def work():
        async def contended():
            async with lock:
                await asyncio.sleep(0)

        for _ in range(100):
            await asyncio.gather(*(contended() for _ in range(5)))
            AsyncLock("a name that is not interned")

    run(work())
    before = blocks()
    run(work())
    assert blocks() - before < 500


# What it is


def test_it_looks_as_people_expect():
    lock = AsyncLock("feed")
    assert (lock.name, lock.holder, lock.waiters, lock.locked()) == ("feed", None, 0, False)
    assert repr(lock).startswith("<unlocked raceproof.AsyncLock object 'feed' waiters=0 at 0x")
    with lock:
        assert lock.holder == (threading.get_ident(), threading.current_thread().name)
        assert repr(lock).startswith("<locked ")
    assert AsyncLock().name is None
    with pytest.raises(TypeError):
        AsyncLock(1)
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="pickle"):
            duplicate(lock)
    assert lock == lock and lock != AsyncLock() and len({lock, lock}) == 1
    reference = weakref.ref(lock)
    del lock
    gc.collect()
    assert reference() is None


@needs_fork
def test_a_child_has_what_the_forking_thread_had():
    """Checks "In a forked child a lock that another thread held is free, and nobody waits for it; one that
    the forking thread held is still held"."""
    theirs, mine = AsyncLock(), AsyncLock()
    mine.try_acquire()
    with Holder(theirs):
        waiter = threading.Thread(target=lambda: theirs.__enter__())
        waiter.start()
        until(lambda: theirs.waiters == 1)

        def check():
            free = theirs.waiters == 0 and run(theirs_in_task()) and not theirs.locked()
            return free and mine.locked() and mine.release() is None and not mine.locked()

        async def theirs_in_task():
            async with theirs.within(10):
                return True

        assert in_child(check)
    waiter.join(10)
    assert theirs.locked()


def test_the_interpreter_ends_while_threads_and_tasks_wait():
    """Checks "The interpreter can end while daemon threads and tasks wait"."""
    text = """
        import asyncio, threading, time, raceproof
        lock = raceproof.AsyncLock()
        lock.try_acquire()

        async def wait():
            async with lock:
                pass

        for target in (lock.__enter__, lambda: asyncio.run(wait())):
            threading.Thread(target=target, daemon=True).start()
        while lock.waiters < 2:
            time.sleep(0.001)
        print("done")
        """
    assert run_python(text) == "done"
