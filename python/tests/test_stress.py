"""`stress`: real threads, disturbed. What it finds is real; what it does not find says little."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from raceproof.testing import stress


class Counter:
    def __init__(self):
        self.n = 0
        self.lock = threading.Lock()
        self.threads = set()


def add(counter):
    value = counter.n
    counter.n = value + 1


def add_locked(counter):
    with counter.lock:
        value = counter.n
        counter.n = value + 1


def is_two(counter):
    return counter.n == 2


def test_a_lost_update_is_found_every_time():
    for seed in range(5):
        outcome = stress(Counter, [add, add], is_two, runs=5_000, seed=seed)
        assert outcome.verdict == "failed"
        assert outcome.failing_run == outcome.runs
        assert outcome.errors == ["the invariant does not hold"]
        with pytest.raises(AssertionError, match="real threads failed"):
            outcome.assert_holds()


def test_functions_that_are_older_than_all_threads_are_disturbed_too():
    """The collector of 3.13t forgets those when the first thread starts."""
    code = """
import threading
from raceproof.testing import stress

class Bank:
    def __init__(self):
        self.total = 0

    def add(self):
        self.total += 1

    def twice(self):
        self.add()

for _ in range(2):
    thread = threading.Thread(target=Bank)
    thread.start()
    thread.join()
assert stress(Bank, [Bank.twice, Bank.twice], lambda bank: bank.total == 2, runs=5_000).verdict == "failed"
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_a_locked_counter_holds_for_all_runs_asked_for():
    outcome = stress(Counter, [add_locked, add_locked], is_two, runs=300)
    assert (outcome.verdict, outcome.runs, outcome.notes) == ("nothing_found", 300, [])
    outcome.assert_holds()


def test_without_preemption_the_invariant_is_still_asked():
    assert stress(Counter, [add_locked], is_two, runs=3, preempt=False).verdict == "failed"


def test_threads_are_kept_from_run_to_run():
    idents = set()

    def note(_):
        idents.add(threading.get_ident())

    assert stress(Counter, [note, note], runs=50).verdict == "nothing_found"
    assert len(idents) == 2


def test_no_run_begins_after_the_budget():
    begins = []

    def setup():
        begins.append(time.monotonic())
        # Without a budget the runs would take a minute.
        time.sleep(0.06)
        return Counter()

    begin = time.monotonic()
    outcome = stress(setup, [add_locked, add_locked], is_two, seconds=0.3)
    assert (outcome.verdict, outcome.runs) == ("nothing_found", len(begins))
    # A thread may be taken from the processor between the look at the clock and the run.
    assert begins[-1] - begin < 3


def test_what_a_thread_raises_is_told_with_its_place():
    def fall(_):
        raise KeyError("missing")

    outcome = stress(Counter, [add, fall], is_two, runs=10)
    assert (outcome.verdict, outcome.failing_run) == ("failed", 1)
    assert outcome.errors == ["T1 raises KeyError: 'missing'"]
    assert "in fall" in outcome.explanation


def test_what_a_thread_of_the_code_raises_is_not_lost():
    def start(_):
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    outcome = stress(Counter, [start], runs=2)
    assert outcome.verdict == "failed"
    assert "ZeroDivisionError" in outcome.errors[0]


def test_a_hung_thread_is_named_with_its_stack_and_is_no_failure():
    release = threading.Event()

    def wait_for_nobody(_):
        release.wait()

    outcome = stress(Counter, [add, wait_for_nobody], runs=10, patience=0.5)
    release.set()
    assert (outcome.verdict, outcome.runs) == ("gave_up", 1)
    assert [it.thread for it in outcome.hung] == [1]
    assert "wait_for_nobody" in outcome.hung[0].stack
    with pytest.raises(AssertionError, match="T1 did not come back within 0.5 s"):
        outcome.assert_holds()


def test_coroutine_functions_run_in_loops_of_their_own():
    class State:
        def __init__(self):
            self.loops = []

    async def note(state):
        state.loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)

    outcome = stress(State, [note, note], lambda state: len(set(state.loops)) == 2, runs=20)
    assert outcome.verdict == "nothing_found"


def test_nothing_stays_behind():
    def tools():
        return [sys.monitoring.get_tool(number) for number in range(6)] if hasattr(sys, "monitoring") else []

    before = (tools(), threading.active_count(), sys.getswitchinterval(), threading.excepthook)
    stress(Counter, [add_locked, add_locked], is_two, runs=20)
    end = time.monotonic() + 10
    while threading.active_count() > before[1] and time.monotonic() < end:
        time.sleep(0.01)
    assert (tools(), threading.active_count(), sys.getswitchinterval(), threading.excepthook) == before


def test_asked_wrongly():
    with pytest.raises(ValueError, match="at least one thread"):
        stress(Counter, [])
    with pytest.raises(ValueError, match="patience"):
        stress(Counter, [add], patience=0)
