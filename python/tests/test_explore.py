"""Exploration of programs with threads: what fails is found and can be replayed, what is right is proved."""

import concurrent.futures
import queue
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from raceproof.instrument import INSTRUMENT
from raceproof.testing import explore, replay

pytestmark = pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="nothing says what runs before 3.12")

EARLY_LOCK = threading.Lock()
EARLY_CONDITION = threading.Condition()
EARLY_EVENT = threading.Event()


def state(**values):
    return lambda: SimpleNamespace(**values)


def add(s):
    held = s.n
    s.n = held + 1


def proved(setup, threads, invariant=None, **names):
    outcome = explore(setup, threads, invariant, **names)
    assert outcome.verdict == "proved", (outcome.reason, outcome.certificate)
    assert outcome.schedule is None
    assert outcome.certificate["bound"] is None
    assert outcome.certificate["untracked"] == []
    return outcome


def failed(setup, threads, invariant=None, **names):
    outcome = explore(setup, threads, invariant, **names)
    assert outcome.verdict == "failed", (outcome.verdict, outcome.reason, outcome.certificate)
    again = replay(setup, threads, invariant, schedule=outcome.schedule)
    assert (again.verdict, again.kind) == ("failed", outcome.kind)
    return outcome


def test_a_lost_update_is_found_explained_and_replayed_each_time():
    def both(s):
        return s.n == 2

    outcome = failed(state(n=0), [add, add], both)
    assert (outcome.kind, outcome.pattern) == ("invariant", "lost update")
    deciding = [(thread, text) for thread, _, _, text, decides in outcome.steps if decides]
    # Where frames are not read, what is written is not always known. Of which thread the read is, the strategy decides.
    written = "writes `s.n`" if INSTRUMENT.is_portable else "writes `s.n` = 1"
    assert sorted(text for _, text in deciding) == ["reads `s.n` = 0", written]
    assert {thread for thread, _ in deciding} == {0, 1}
    assert "would pass: if" in outcome.explanation
    for _ in range(1000):
        assert replay(state(n=0), [add, add], both, schedule=outcome.schedule).verdict == "failed"


def test_the_same_seed_gives_the_same_schedule():
    outcomes = [explore(state(n=0), [add, add], lambda s: s.n == 2, seed=7) for _ in range(2)]
    assert outcomes[0].schedule == outcomes[1].schedule
    assert outcomes[0].runs == outcomes[1].runs


def test_a_lock_makes_it_proved():
    def add_locked(s):
        with s.lock:
            s.n += 1

    proved(lambda: SimpleNamespace(n=0, lock=threading.Lock()), [add_locked] * 3, lambda s: s.n == 3)


def test_a_lock_made_before_the_exploration_counts():
    def add_locked(s):
        with EARLY_LOCK:
            s.n += 1

    def add_by_hand(s):
        EARLY_LOCK.acquire()
        try:
            s.n += 1
        finally:
            EARLY_LOCK.release()

    proved(state(n=0), [add_locked, add_by_hand], lambda s: s.n == 2)
    assert not EARLY_LOCK.locked()


def test_a_condition_made_before_the_exploration_counts():
    def consume(s):
        with EARLY_CONDITION:
            while not s.items:
                EARLY_CONDITION.wait()
            s.items.pop()

    def produce(s):
        with EARLY_CONDITION:
            s.items.append(1)
            EARLY_CONDITION.notify()

    proved(lambda: SimpleNamespace(items=[]), [consume, produce], lambda s: s.items == [])


def test_an_event_made_before_the_exploration_counts():
    def wait(s):
        EARLY_EVENT.wait()
        s.seen = s.value

    def send(s):
        s.value = 1
        EARLY_EVENT.set()

    def setup():
        EARLY_EVENT._flag = False
        return SimpleNamespace(value=0, seen=None)

    proved(setup, [wait, send], lambda s: s.seen == 1)


def test_locks_in_both_orders_are_a_deadlock():
    def take(first, second):
        def run(s):
            with getattr(s, first), getattr(s, second):
                s.n += 1

        return run

    def setup():
        return SimpleNamespace(n=0, a=threading.Lock(), b=threading.Lock())

    outcome = failed(setup, [take("a", "b"), take("b", "a")])
    assert (outcome.kind, outcome.pattern) == ("deadlock", "two locks in both orders")


def test_a_lock_taken_twice_is_a_deadlock_and_a_reentrant_one_is_not():
    def twice(s):
        with s.lock, s.lock:
            s.n += 1

    assert failed(lambda: SimpleNamespace(n=0, lock=threading.Lock()), [twice, add]).pattern == "a lock taken twice"
    proved(lambda: SimpleNamespace(n=0, lock=threading.RLock()), [twice, twice], lambda s: s.n == 2)


def test_a_notification_that_comes_too_early_is_missed():
    def wait(s):
        with s.ready:
            s.ready.wait()

    def send(s):
        with s.ready:
            s.ready.notify_all()

    outcome = failed(lambda: SimpleNamespace(ready=threading.Condition()), [wait, send])
    assert outcome.kind == "missed wake-up"


def test_an_exception_in_a_thread_is_a_failure():
    def check(s):
        if s.items:
            s.items.pop()

    outcome = failed(lambda: SimpleNamespace(items=[1]), [check, check])
    assert outcome.kind == "raised"
    assert "IndexError: pop from empty list" in outcome.reason


def test_an_invariant_may_raise():
    def invariant(s):
        assert s.n == 2, f"n is {s.n}"

    assert "AssertionError: n is 1" in failed(state(n=0), [add, add], invariant).reason


def test_a_bounded_queue_is_right():
    def produce(s):
        for item in range(2):
            s.queue.put(item)

    def consume(s):
        s.got = [s.queue.get(), s.queue.get()]

    def setup():
        return SimpleNamespace(queue=queue.Queue(maxsize=1), got=None)

    proved(setup, [produce, consume], lambda s: s.got == [0, 1])


def test_barriers_and_semaphores_are_right():
    def meet(s):
        with s.gate:
            s.inside.append(1)
            assert len(s.inside) == 1
            s.inside.pop()
        s.barrier.wait()

    def setup():
        return SimpleNamespace(gate=threading.Semaphore(1), barrier=threading.Barrier(2), inside=[])

    proved(setup, [meet, meet])


def test_threads_that_the_code_starts_are_under_control():
    def run(s):
        threads = [threading.Thread(target=add, args=(s,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
            assert not thread.is_alive()
        s.ended = True

    outcome = failed(state(n=0, ended=False), [run], lambda s: s.n == 2)
    assert outcome.pattern == "lost update"


def test_an_executor_is_under_control():
    def run(s):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(add, s), pool.submit(add, s)]:
                future.result()

    assert failed(state(n=0), [run], lambda s: s.n == 2).pattern == "lost update"


def test_a_pool_that_is_left_open_is_no_missed_wake_up():
    def setup():
        return SimpleNamespace(pool=concurrent.futures.ThreadPoolExecutor(1), lock=threading.Lock(), n=0)

    def add_locked(s):
        with s.lock:
            s.n += 1

    def use(s):
        s.pool.submit(add_locked, s).result()

    outcome = explore(setup, [use, use], lambda s: s.n == 2, max_runs=2_000)
    assert outcome.verdict in ("proved", "nothing_found"), (outcome.reason, outcome.explanation)


def test_a_daemon_may_wait_for_ever():
    def serve(s):
        while True:
            s.queue.get()
            s.n += 1

    def ask(s):
        threading.Thread(target=serve, args=(s,), daemon=True).start()
        s.queue.put(1)

    proved(lambda: SimpleNamespace(queue=queue.Queue(), n=0), [ask], lambda s: s.n in (0, 1))


def test_an_exception_in_a_started_thread_is_a_failure():
    def broken():
        raise ValueError("lost")

    def run(s):
        thread = threading.Thread(target=broken)
        thread.start()
        s.n = 1
        thread.join()

    assert "ValueError: lost" in failed(state(n=0), [run, add]).reason


def test_a_timeout_can_always_come_first():
    def add_with_patience(s):
        has_it = s.lock.acquire(timeout=0.5)
        add(s)
        if has_it:
            s.lock.release()

    def setup():
        return SimpleNamespace(n=0, lock=threading.Lock())

    failed(setup, [add_with_patience] * 2, lambda s: s.n == 2)


def test_sleep_and_clocks_are_virtual():
    def sleep(s):
        begin = time.monotonic()
        time.sleep(10**9)
        s.slept = time.monotonic() - begin
        add(s)

    def look(s):
        s.at = time.time()
        add(s)

    setup = state(n=0, slept=0, at=0)
    assert failed(setup, [sleep, look], lambda s: s.n == 2).pattern == "lost update"
    proved(setup, [sleep, look], lambda s: s.slept >= 10**9 and s.at > 0)


def test_a_wait_in_a_loop_is_no_livelock_and_one_without_an_end_is():
    def wait(s):
        while not s.flag:
            pass

    def send(s):
        s.flag = True

    outcome = explore(state(flag=False), [wait, send])
    assert outcome.verdict == "nothing_found"
    assert outcome.certificate["spins"] is not None
    assert failed(state(flag=False), [wait, wait], max_runs=200).kind == "livelock"


def test_c_code_that_goes_over_a_container_is_torn_without_the_gil_only():
    def move(s):
        s.table.update({0: 11, 2: -9})

    def total(s):
        s.total = sum(s.table.values())

    def setup():
        return SimpleNamespace(table={0: 1, 1: 1, 2: 1}, total=None)

    def holds(s):
        return s.total == 3

    outcome = explore(setup, [move, total], holds, runtime="free-threaded")
    assert outcome.verdict == "failed"
    assert explore(setup, [move, total], holds, runtime="gil").verdict == "proved"


def test_one_method_of_a_container_is_one_step():
    def make(number):
        def run(s):
            s.got[number] = s.table.setdefault("key", number)
            s.log.append(number)

        return run

    def setup():
        return SimpleNamespace(table={}, log=[], got=[None, None])

    proved(setup, [make(0), make(1)], lambda s: s.got[0] == s.got[1] and sorted(s.log) == [0, 1])


def test_globals_and_closures_are_seen():
    n = 0

    def add_to_closure(_):
        nonlocal n
        held = n
        n = held + 1

    def setup():
        nonlocal n
        n = 0

    failed(setup, [add_to_closure] * 2, lambda _: n == 2)
    failed(_reset_global, [_add_to_global] * 2, lambda _: GLOBAL == 2)


GLOBAL = 0


def _reset_global():
    global GLOBAL
    GLOBAL = 0


def _add_to_global(_):
    global GLOBAL
    held = GLOBAL
    GLOBAL = held + 1


def test_attributes_of_classes_are_seen():
    class Service:
        only = None

        @classmethod
        def get(cls):
            if cls.only is None:
                cls.only = cls()
            return cls.only

    def setup():
        Service.only = None
        return SimpleNamespace(got=[])

    def get(s):
        s.got.append(Service.get())

    failed(setup, [get, get], lambda s: s.got[0] is s.got[1])


def test_thread_locals_are_not_shared():
    own = threading.local()

    def work(s):
        own.n = 1
        own.n += 1
        with s.lock:
            s.n += own.n

    proved(lambda: SimpleNamespace(n=0, lock=threading.Lock()), [work, work], lambda s: s.n == 4)


def test_a_run_without_shared_state_shows_nothing():
    outcome = explore(state(), [lambda s: None, lambda s: None], lambda s: True)
    assert outcome.verdict == "gave_up"
    assert "touch the same thing" in outcome.reason
    with pytest.raises(AssertionError, match="nothing was shown"):
        outcome.assert_holds()


def test_a_schedule_that_no_longer_fits_is_said_to():
    outcome = failed(state(n=0), [add, add], lambda s: s.n == 2)

    def other(s):
        s.n += 1
        s.n += 1

    again = replay(state(n=0), [other, other], lambda s: True, schedule=outcome.schedule)
    assert again.verdict == "gave_up"
    assert "off the schedule" in again.reason


def test_a_text_that_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match="not a schedule"):
        replay(state(n=0), [add, add], schedule="nonsense")
    with pytest.raises(ValueError, match="no strategy `best`"):
        explore(state(n=0), [add, add], strategy="best")
    with pytest.raises(ValueError, match="no runtime `jit`"):
        explore(state(n=0), [add, add], runtime="jit")
    with pytest.raises(ValueError, match="at least one thread"):
        explore(state(n=0), [])


def test_an_error_of_the_setup_is_raised_and_the_next_exploration_works():
    def setup():
        raise KeyError("setup")

    with pytest.raises(KeyError, match="setup"):
        explore(setup, [add])
    with pytest.raises(RuntimeError, match="leaves a lock held"):
        explore(lambda: threading.Lock().acquire() and None or None, [add])
    failed(state(n=0), [add, add], lambda s: s.n == 2)


def test_afterwards_threading_is_as_before():
    before = (threading.Lock, threading.Thread.start, time.sleep, time.monotonic, threading.Condition)
    explore(state(n=0), [add, add])
    assert (threading.Lock, threading.Thread.start, time.sleep, time.monotonic, threading.Condition) == before
    done = threading.Event()
    threading.Thread(target=done.set).start()
    assert done.wait(30)


@pytest.mark.parametrize("strategy", ["random", "pct2", "pct3", "pos", "dfs", "dfs1", "dpor"])
def test_each_strategy_finds_a_lost_update(strategy):
    assert failed(state(n=0), [add, add], lambda s: s.n == 2, strategy=strategy).pattern == "lost update"


def test_a_bound_is_said():
    outcome = explore(state(n=0), [add, add], lambda s: s.n in (1, 2), bound=1)
    assert (outcome.verdict, outcome.certificate["bound"]) == ("nothing_found", "at most 1 preemptions")


@pytest.mark.parametrize("format", ["text", "json", "sarif", "github", "html"])
def test_a_failure_is_shown_in_each_format(format):
    shown = failed(state(n=0), [add, add], lambda s: s.n == 2).render(format)
    assert "lost update" in shown
    assert "s.n" in shown


def test_threads_that_are_not_explored_go_on_as_ever():
    over, began, errors = threading.Event(), threading.Event(), []

    def work():
        """Waits for another thread, through each of what `threading` and `queue` wait with."""
        made = threading.Event()
        answers, numbers = queue.Queue(), queue.SimpleQueue()
        guard, together = threading.RLock(), threading.Barrier(2)

        def answer():
            with guard, threading.Lock():
                made.set()
                answers.put(1)
                numbers.put(2)
            together.wait(30)

        helper = threading.Thread(target=answer)
        helper.start()
        assert made.wait(30) and (answers.get(timeout=30), numbers.get(timeout=30)) == (1, 2)
        together.wait(30)
        helper.join(30)
        assert not helper.is_alive()

    def go_on():
        n_turns = 0
        try:
            while not over.is_set() or n_turns < 3:
                work()
                n_turns += 1
                began.set()
        except BaseException as error:
            errors.append(error)
            began.set()

    stranger = threading.Thread(target=go_on)
    stranger.start()
    try:
        assert began.wait(60)
        for _ in range(5):
            failed(state(n=0), [add, add], lambda s: s.n == 2)
        explore(state(n=0), [add] * 4, max_runs=2000)
    finally:
        over.set()
        stranger.join(120)
    assert not stranger.is_alive() and not errors, errors
