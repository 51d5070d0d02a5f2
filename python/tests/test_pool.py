"""`Pool`. A sentence in a docstring is one of docs/guide/threads.md."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import os
import queue
import signal
import sys
import threading
import time
import weakref

import pytest
from test_count import in_child

from raceproof import AtomicInt, Pool, QueueFull, RaceproofError, StripedCounter, WaitTimeout


class Gate:
    """A task that says when it has begun and waits until it may end."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, result=None):
        self.begun.set()
        assert self.go.wait(30)
        return result


@contextlib.contextmanager
def blocked(pool):
    """One worker of the pool is busy as long as the block runs."""
    gate = Gate()
    future = pool.submit(gate)
    assert gate.begun.wait(30)
    try:
        yield future
    finally:
        gate.go.set()


def eventually(question):
    end = time.monotonic() + 30
    while not question():
        assert time.monotonic() < end
        time.sleep(0.005)


def fail(text="lost"):
    raise ValueError(text)


class Lost:
    def __init__(self):
        self.heard = []

    def __call__(self, task, error):
        self.heard.append((task, repr(error)))


def test_each_call_runs_once(together):
    """Each call runs exactly once or is cancelled, and its result reaches every one that asks."""
    counter = StripedCounter()
    with Pool(3, max_queue=10) as pool:

        def submit():
            futures = [pool.submit(lambda n=n: [counter.inc(), n][1]) for n in range(1000)]
            assert [future.result(30) for future in futures] == list(range(1000))
            return futures[7]

        futures = together(submit, submit, submit)
        assert together(*[lambda: futures[0].result()] * 3) == [7, 7, 7]
    assert counter == 3000
    stats = pool.stats()
    assert (stats["submitted"], stats["completed"], stats["queued"], stats["running"]) == (3000, 3000, 0, 0)


def test_tasks_begin_in_order():
    """Tasks begin in the order in which they were submitted."""
    begun = []
    with Pool(1) as pool:
        with blocked(pool):
            for n in range(50):
                pool.submit(begun.append, n)
            assert pool.queued == 50
            assert pool.running == 1
    assert begun == list(range(50))


def test_no_more_threads_than_allowed():
    """There are never more than `max_workers` threads, and none is started while one is idle."""
    with Pool(3, name="few") as pool:
        for _ in range(10):
            pool.submit(int).result()
            eventually(lambda: pool.running == 0)
        assert pool.stats()["workers"] == 1
        gates = [Gate() for _ in range(6)]
        futures = [pool.submit(gate) for gate in gates]
        eventually(lambda: pool.running == 3)
        names = {thread.name for thread in threading.enumerate() if thread.name.startswith("few-")}
        assert names == {"few-0", "few-1", "few-2"}
        assert (pool.stats()["workers"], pool.queued) == (3, 3)
        for gate in gates:
            gate.go.set()
        concurrent.futures.wait(futures)


def test_a_full_queue_makes_submit_wait(together):
    """While `max_queue` tasks wait, `submit` waits for room."""
    with Pool(1, max_queue=2) as pool:
        gate = Gate()
        pool.submit(gate)
        assert gate.begun.wait(30)
        pool.submit(int)
        pool.submit(int)
        submitted = threading.Event()

        def submit():
            future = pool.submit(lambda: "third")
            submitted.set()
            return future.result(30)

        def watch():
            assert not submitted.wait(0.1)
            assert pool.queued == 2
            gate.go.set()

        assert together(submit, watch)[0] == "third"


def test_a_full_queue_with_a_timeout():
    """`submit_timeout` seconds later it raises WaitTimeout, and with `submit_timeout=0` QueueFull at once, as
    `try_submit` does always; what is refused never runs."""
    ran = []
    with Pool(1, max_queue=1, submit_timeout=0.05) as pool, blocked(pool):
        pool.submit(ran.append, 1)
        start = time.monotonic()
        with pytest.raises(WaitTimeout):
            pool.submit(ran.append, 2)
        assert 0.04 < time.monotonic() - start < 10
        with pytest.raises(QueueFull):
            pool.try_submit(ran.append, 3)
        assert pool.stats()["rejected"] == 2
    with Pool(1, max_queue=1, submit_timeout=0) as pool, blocked(pool):
        pool.submit(ran.append, 4)
        with pytest.raises(queue.Full):
            pool.submit(ran.append, 5)
    assert ran == [1, 4]
    assert issubclass(QueueFull, RaceproofError)


def test_asking_in_time():
    """`result(timeout)` and `exception(timeout)` raise WaitTimeout, a TimeoutError, if the task has not ended in time;
    the task goes on."""
    with Pool(1) as pool:
        with blocked(pool) as future:
            for ask in (future.result, future.exception):
                with pytest.raises(WaitTimeout):
                    ask(0.01)
                with pytest.raises(concurrent.futures.TimeoutError):
                    ask(timeout=0)
            assert future.running()
            assert not future.done()
        assert future.result(30) is None
        with pytest.raises(ValueError, match="seconds"):
            pool.submit(time.sleep, 0.1).result(float("nan"))


def test_what_a_task_raises_reaches_who_asks():
    """What a task raises, SystemExit and KeyboardInterrupt too, is raised by `result` and returned by `exception`, and
    its thread goes on."""
    lost = Lost()
    with Pool(1, on_lost=lost) as pool:
        for error in (ValueError, SystemExit, KeyboardInterrupt):

            def raising(error=error):
                raise error("text")

            future = pool.submit(raising)
            with pytest.raises(error, match="text"):
                future.result(30)
            assert type(future.exception()) is error
        assert pool.submit(int).result() == 0
        assert pool.stats()["workers"] == 1
        del future
    gc.collect()
    assert lost.heard == []


def test_no_exception_is_lost():
    """An exception that nobody has asked for when its future is freed goes to `on_lost(task, exception)`."""
    lost = Lost()
    with Pool(2, on_lost=lost) as pool:
        pool.submit(fail)
        pool.submit(fail, "again")
        seen = pool.submit(fail, "seen")
        with pytest.raises(ValueError, match="seen"):
            seen.result()
        repr(pool.submit(int))
    del seen
    gc.collect()
    assert sorted(lost.heard) == [
        ("test_pool.fail", "ValueError('again')"),
        ("test_pool.fail", "ValueError('lost')"),
    ]
    assert pool.stats()["lost"] == 2


def test_a_lost_exception_goes_to_the_unraisable_hook(monkeypatch):
    """Without `on_lost` it goes to `sys.unraisablehook`, and so does what `on_lost` raises."""
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: heard.append((repr(args.exc_value), str(args.object))))
    with Pool(1, name="quiet") as pool:
        pool.submit(fail)
    with Pool(1, on_lost=lambda task, error: 1 / 0) as pool:
        pool.submit(fail)
    gc.collect()
    assert heard[0][0] == "ValueError('lost')"
    assert "test_pool.fail" in heard[0][1]
    assert "quiet" in heard[0][1]
    assert heard[1][0] == "ZeroDivisionError('division by zero')"
    assert len(heard) == 2


def test_a_lost_exception_in_a_cycle():
    """So does one whose future the garbage collector finds in a cycle."""
    lost = Lost()
    with Pool(1, on_lost=lost) as pool:
        future = pool.submit(fail)
        concurrent.futures.wait([future])
        future.add_done_callback(lambda _: None)
        future.me = [future]
    del future
    gc.collect()
    assert len(lost.heard) == 1


def test_lost_exceptions_at_exit():
    """One whose future still lives when the interpreter ends is reported then."""
    printed = in_child("""if True:
        import raceproof
        pool = raceproof.Pool(1, on_lost=lambda task, error: print(task, error, flush=True))
        def fail(text): raise ValueError(text)
        future, asked = pool.submit(fail, "kept"), pool.submit(fail, "asked")
        asked.exception()
        """)
    assert printed == "__main__.fail kept\n"


def test_cancelling():
    """A task that no thread has begun can be cancelled: it leaves the queue at once and makes room. One that runs
    cannot."""
    ran = []
    with Pool(1, max_queue=1) as pool:
        with blocked(pool) as running:
            waiting = pool.submit(ran.append, 1)
            called = []
            waiting.add_done_callback(called.append)
            assert not running.cancel()
            assert pool.queued == 1
            assert waiting.cancel()
            assert waiting.cancel()
            assert (pool.queued, called) == (0, [waiting])
            assert waiting.cancelled()
            assert waiting.done()
            with pytest.raises(concurrent.futures.CancelledError):
                waiting.result()
            with pytest.raises(concurrent.futures.CancelledError):
                waiting.exception()
            pool.try_submit(ran.append, 2)
        assert pool.stats()["cancelled"] == 1
    assert ran == [2]


def test_cancel_and_begin_exclude_each_other(together):
    """Cancelling and beginning exclude each other: a task runs, or `cancel` returns True, never both."""
    ran = StripedCounter()
    with Pool(2) as pool:
        cancelled = 0
        for _ in range(300):
            future = pool.submit(ran.inc)
            cancelled += any(together(future.cancel, future.cancel))
    assert ran.get() + cancelled == 300


def test_callbacks():
    """Callbacks are called once, in the order in which they were added; what one raises goes to `sys.unraisablehook`
    and stops nothing."""
    heard, unraisable = [], []
    hook, sys.unraisablehook = sys.unraisablehook, lambda args: unraisable.append(repr(args.exc_value))
    try:
        with Pool(1) as pool:
            with blocked(pool) as future:
                future.add_done_callback(lambda done: heard.append((1, done is future)))
                future.add_done_callback(lambda done: 1 / 0)
                future.add_done_callback(lambda done: heard.append((2, done.done())))
            future.result()
            eventually(lambda: len(heard) == 2)
            future.add_done_callback(lambda done: heard.append((3, threading.current_thread().name)))
    finally:
        sys.unraisablehook = hook
    assert heard == [(1, True), (2, True), (3, threading.current_thread().name)]
    assert unraisable == ["ZeroDivisionError('division by zero')"]


def test_futures_are_those_of_the_standard_library():
    """A future is a `concurrent.futures.Future`: `wait`, `as_completed` and `asyncio.wrap_future` take it."""
    with Pool(3) as pool:
        futures = [pool.submit(pow, 2, n) for n in range(20)]
        assert all(isinstance(future, concurrent.futures.Future) for future in futures)
        done, missing = concurrent.futures.wait(futures, timeout=30)
        assert (len(done), missing) == (20, set())
        futures = [pool.submit(pow, 2, n) for n in range(20)]
        assert sorted(future.result() for future in concurrent.futures.as_completed(futures)) == [
            2**n for n in range(20)
        ]
        with blocked(pool) as slow:
            done, missing = concurrent.futures.wait([slow, futures[0]], 0.05)
            assert (done, missing) == ({futures[0]}, {slow})
        assert list(pool.map(pow, range(5), range(5))) == [1, 1, 4, 27, 256]

        async def main():
            loop = asyncio.get_running_loop()
            assert await asyncio.wrap_future(pool.submit(pow, 2, 5)) == 32
            assert await loop.run_in_executor(pool, pow, 2, 6) == 64

        asyncio.run(main())
        assert repr(futures[0]).endswith("state=finished returned int>")
        with pytest.raises(TypeError):
            type(futures[0])()


def test_waiters_of_the_standard_library_miss_nothing(together):
    with Pool(2) as pool:
        for _ in range(200):
            futures = [pool.submit(int) for _ in range(3)]
            waits = [lambda futures=futures: concurrent.futures.wait(futures, timeout=20)] * 2
            for done, missing in together(*waits):
                assert (len(done), len(missing)) == (3, 0)


def test_run_from_asyncio():
    """`await pool.run(fn, ...)` returns what the function returned, or raises what it raised, and runs it in a copy of
    the current context; `submit` runs it in the context of the thread, which is empty."""
    variable = contextvars.ContextVar("variable", default="none")

    async def main(pool):
        variable.set("mine")
        assert await pool.run(variable.get) == "mine"
        assert await pool.run(variable.set, "theirs")
        assert variable.get() == "mine"
        assert pool.submit(variable.get).result(30) == "none"
        assert await pool.run(dict, a=1) == {"a": 1}
        with pytest.raises(ValueError, match="raised"):
            await pool.run(fail, "raised")

    with Pool(2) as pool:
        asyncio.run(main(pool))


def test_run_waits_for_room_without_blocking_the_loop():
    """While the queue is full `run` waits for room, and the event loop goes on."""

    async def main(pool):
        gate = Gate()
        first = asyncio.ensure_future(pool.run(gate))
        while not gate.begun.is_set():
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(pool.run(pow, 2, n)) for n in range(20)]
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert pool.queued == 2
        assert not any(other.done() for other in others)
        gate.go.set()
        assert await asyncio.gather(*others) == [2**n for n in range(20)]
        await first

    with Pool(1, max_queue=2) as pool:
        asyncio.run(main(pool))


def test_a_cancelled_run():
    """Cancelling `run` cancels a call that waits for room or for a thread; the room goes to the next in line."""
    ran = []

    async def main(pool):
        gate = Gate()
        running = asyncio.ensure_future(pool.run(gate))
        while not gate.begun.is_set():
            await asyncio.sleep(0.001)
        queued, early, late = (asyncio.ensure_future(pool.run(ran.append, n)) for n in range(3))
        await asyncio.sleep(0.01)
        early.cancel()
        queued.cancel()
        await asyncio.sleep(0.01)
        gate.go.set()
        await asyncio.wait_for(late, 30)
        await running
        assert early.cancelled()
        assert queued.cancelled()

    with Pool(1, max_queue=1) as pool:
        asyncio.run(main(pool))
    assert ran == [2]


def test_run_from_many_loops(together):
    """Any number of event loops and threads may use a pool at once."""

    async def main():
        return sum(await asyncio.gather(*(pool.run(pow, n, 2) for n in range(100))))

    with Pool(2, max_queue=3) as pool:
        sums = together(
            lambda: asyncio.run(main()),
            lambda: asyncio.run(main()),
            lambda: sum(pool.map(pow, range(100), [2] * 100)),
        )
    assert sums == [328350] * 3


def test_a_loop_that_closed_passes_the_room_on():
    with Pool(1, max_queue=1) as pool, blocked(pool):
        pool.submit(int)
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(pool.run(int))
        loop.run_until_complete(asyncio.sleep(0.01))
        waiting._log_destroy_pending = False
        loop.close()
        passed = threading.Event()
        pool._when_room(passed.set)
        pool._forget_room(10**6)
        assert passed.wait(30)
        del waiting


def test_shutdown_waits_for_all():
    """`shutdown()` takes no more calls, waits until all have run, and reports that nothing is left; it may be called
    again."""
    done = []
    pool = Pool(2)
    for n in range(20):
        pool.submit(lambda n=n: [time.sleep(0.002), done.append(n)])
    report = pool.shutdown()
    assert report.is_complete
    assert report == ((), 0, 0)
    assert sorted(done) == list(range(20))
    for submit in (pool.submit, pool.try_submit):
        with pytest.raises(RuntimeError, match="after shutdown"):
            submit(int)
    with pytest.raises(RuntimeError, match="after shutdown"):
        asyncio.run(pool.run(int))
    assert pool.shutdown().is_complete


def test_shutdown_with_a_deadline():
    """`shutdown(deadline=seconds)` returns in time and says what still runs: the name of each task, its thread, for how
    long, and its stack."""
    pool = Pool(1, name="late")
    gate = Gate()

    def stuck():
        gate()

    future = pool.submit(stuck)
    waiting = pool.submit(int)
    assert gate.begun.wait(30)
    start = time.monotonic()
    report = pool.shutdown(deadline=0.1)
    assert 0.09 < time.monotonic() - start < 10
    (task,) = report.running
    assert task.name == "test_pool.test_shutdown_with_a_deadline.<locals>.stuck"
    assert task.thread == "late-0"
    assert task.seconds >= 0.1
    assert "in stuck\n    gate()" in task.stack
    assert (report.queued, report.cancelled, report.is_complete) == (1, 0, False)
    gate.go.set()
    assert pool.shutdown().is_complete
    assert future.done()
    assert waiting.result() == 0


def test_shutdown_that_cancels():
    """`shutdown(cancel_pending=True)` cancels what waits and says how many."""
    pool = Pool(1)
    with blocked(pool) as running:
        futures = [pool.submit(int) for _ in range(5)]
        report = pool.shutdown(wait=False, cancel_pending=True)
        assert (report.cancelled, report.queued, len(report.running)) == (5, 0, 1)
        assert all(future.cancelled() for future in futures)
    assert pool.shutdown(cancel_futures=True).is_complete
    assert running.done()


def test_shutdown_wakes_who_waits_for_room(together):
    """Shutting down wakes whoever waits for room with a RuntimeError."""
    pool = Pool(1, max_queue=1)
    with blocked(pool):
        pool.submit(int)

        def submit():
            with pytest.raises(RuntimeError):
                pool.submit(int)

        def run():
            with pytest.raises(RuntimeError):
                asyncio.run(pool.run(int))

        def close():
            time.sleep(0.05)
            pool.shutdown(wait=False)

        together(submit, run, close)
    pool.shutdown()


def test_a_task_cannot_wait_for_its_own_pool():
    """A task that waits until its own pool is shut down gets a RuntimeError instead of waiting for itself."""
    with Pool(1) as pool:
        with pytest.raises(RuntimeError, match="own pool"):
            pool.submit(pool.shutdown).result(30)
        assert pool.submit(int).result(30) == 0


def test_a_dropped_pool_finishes():
    """A pool that is dropped without `shutdown` runs what it was given, and its threads end."""
    done = []
    pool = Pool(2, name="dropped")
    for n in range(10):
        pool.submit(done.append, n)
    weak = weakref.ref(pool)
    del pool
    gc.collect()
    assert weak() is None
    eventually(lambda: not any(thread.name.startswith("dropped-") for thread in threading.enumerate()))
    assert sorted(done) == list(range(10))


def test_a_pool_in_a_cycle_is_collected():
    """A pool that only its own hook refers to is collected."""

    class Owner:
        def __init__(self):
            self.pool = Pool(1, on_lost=self.lost)
            self.pool.submit(int).result()

        def lost(self, task, error):
            raise AssertionError

    owner = Owner()
    weak = weakref.ref(owner.pool)
    del owner
    gc.collect()
    assert weak() is None


def test_what_ran_is_freed():
    """A pool keeps nothing of what it has run: neither the function, nor arguments, nor results."""

    class Thing:
        pass

    weak = []
    with Pool(1) as pool:

        def use():
            argument, result = Thing(), Thing()
            weak.extend([weakref.ref(argument), weakref.ref(result)])
            future = pool.submit(lambda _: result, argument)
            assert future.result() is result

        use()
        pool.submit(int).result()
        eventually(lambda: [gc.collect(), all(reference() is None for reference in weak)][1])


def test_memory_is_flat():
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else pytest.skip("no /proc") as statm:
        pages = []
        with Pool(2) as pool:
            for _ in range(3):
                for _ in range(20):
                    concurrent.futures.wait([pool.submit(pow, 10**30, 7) for _ in range(500)])
                gc.collect()
                statm.seek(0)
                pages.append(int(statm.read().split()[1]))
    assert pages[2] - pages[1] < 1000


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals here")
def test_a_signal_interrupts_waiting():
    """A signal such as Ctrl-C ends a wait of the main thread: for a result, for room, for the end of the pool."""

    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    old = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.get_ident()
    try:
        with Pool(1, max_queue=1) as pool, blocked(pool) as future:
            pool.submit(int)
            for wait in (future.result, lambda: pool.submit(int), pool.shutdown):
                timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGUSR1))
                timer.start()
                with pytest.raises(Interrupted):
                    wait()
                timer.join()
    finally:
        signal.signal(signal.SIGUSR1, old)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_pool_after_a_fork():
    """In a forked child a pool begins anew: empty, with threads of its own. What the parent had submitted stays the
    parent's: asking for it in the child raises RaceproofError unless it had ended."""
    printed = in_child("""if True:
        import os, threading, warnings
        import raceproof
        warnings.simplefilter("ignore")
        pool = raceproof.Pool(2)
        go = threading.Event()
        futures = [pool.submit(go.wait) for _ in range(5)]
        ended = raceproof.Pool(1).submit(pow, 2, 3)
        ended.result()
        for _ in range(10):
            child = os.fork()
            if not child:
                assert ended.result() == 8
                assert pool.stats()["submitted"] == 0
                assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))
                for future in futures:
                    try:
                        future.result()
                    except raceproof.RaceproofError:
                        future.cancel()
                    else:
                        os._exit(1)
                assert pool.shutdown().is_complete
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        go.set()
        print([future.result() for future in futures])
        """)
    assert printed == "[True, True, True, True, True]\n"


def test_the_end_of_the_interpreter():
    """At the end of the interpreter what was submitted still runs, as with ThreadPoolExecutor; after that `submit`
    raises RuntimeError."""
    printed = in_child("""if True:
        import atexit, time
        import raceproof
        def late():
            try:
                pool.submit(int)
            except RuntimeError as error:
                print(error, flush=True)
        atexit.register(late)
        pool = raceproof.Pool(1)
        pool.submit(time.sleep, 0.1)
        pool.submit(print, "ran", flush=True)
        """)
    assert printed == "ran\ncannot schedule new futures after interpreter shutdown\n"


def test_arguments():
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            Pool(max_workers=wrong)
        with pytest.raises(ValueError, match="max_queue"):
            Pool(1, max_queue=wrong)
    with Pool() as pool:
        assert pool.max_workers == min(32, len(os.sched_getaffinity(0)) + 4)
        with pytest.raises(TypeError):
            pool.submit()
        with pytest.raises(TypeError):
            pool.submit(fn=int)
        assert pool.submit(dict, self=1, fn=2).result() == {"self": 1, "fn": 2}
        assert set(pool.stats()) == {
            "queued", "running", "workers", "max_workers", "max_queue",
            "submitted", "completed", "rejected", "cancelled", "lost",
        }  # fmt: skip


def test_results_of_tasks_that_race(together):
    number = AtomicInt()
    with Pool(2) as pool:

        def submit():
            return [pool.submit(number.inc) for _ in range(500)]

        futures = sum(together(submit, submit), [])
        assert sorted(future.result() for future in futures) == list(range(1, 1001))
