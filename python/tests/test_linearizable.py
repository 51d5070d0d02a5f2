"""`linearizable`, and `explore` against a sequential specification: is there a serial order that explains a run?"""

import asyncio
import queue
import threading
import uuid

import pytest

from raceproof.testing import Blocks, explore, linearizable, replay


class Counter:
    def __init__(self):
        self.n = 0
        self.lock = threading.Lock()

    def next(self):
        self.n += 1
        return self.n

    def add(self):
        self.n += 1

    def next_locked(self):
        with self.lock:
            self.n += 1
            return self.n

    def get(self):
        return self.n

    async def add_in_a_task(self):
        self.add()


class Stack:
    """Its pop looks first and takes then."""

    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        return self.items.pop() if self.items else None


class Channel:
    """A queue of one item, on a condition."""

    def __init__(self):
        self.ready = threading.Condition()
        self.items = []

    def put(self, item):
        with self.ready:
            self.items.append(item)
            self.ready.notify()

    def get(self):
        with self.ready:
            while not self.items:
                self.ready.wait()
            return self.items.pop(0)


class SequentialChannel:
    def __init__(self):
        self.items = []

    def put(self, item):
        self.items.append(item)

    def get(self):
        if not self.items:
            raise Blocks
        return self.items.pop(0)


def test_two_callers_that_get_the_same_number():
    outcome = linearizable(Counter, ["next"])
    assert (outcome.verdict, outcome.kind) == ("failed", "not linearizable")
    assert outcome.scenario == (("next()",), ("next()",))
    assert "no serial order begins with a call that fits" in outcome.explanation
    assert "would have returned 1 then, and returned 2" in outcome.explanation or (
        "the longest serial order that fits" in outcome.explanation
    )


def test_calls_that_return_nothing_are_judged_by_what_the_object_holds():
    outcome = linearizable(Counter, ["add"])
    assert outcome.verdict == "failed"
    assert "n is 1" in outcome.explanation and "n is 2" in outcome.explanation


def test_the_scenario_is_made_small():
    outcome = linearizable(Counter, ["next_locked", "next"], threads=3, calls_per_thread=2, max_scenarios=30, seed=3)
    assert outcome.verdict == "failed"
    assert sorted(len(own) for own in outcome.scenario) == [1, 1]
    assert ("next()",) in outcome.scenario


def test_a_locked_counter_is_proved_in_all_scenarios():
    outcome = linearizable(Counter, ["next_locked", "get"])
    assert (outcome.verdict, outcome.certificate["bound"]) == ("proved", None)
    # Two calls for two threads: 3 pairs, 8 of three calls, 10 of four.
    assert outcome.scenarios == 3 + 8 + 10
    outcome.assert_holds()


def test_a_sample_is_not_called_a_proof():
    outcome = linearizable(Counter, ["next_locked", "get"], max_scenarios=9)
    assert outcome.verdict == "nothing_found"
    assert outcome.certificate["bound"] == "a sample of the scenarios"


def test_arguments_come_from_their_pools():
    outcome = linearizable(Stack, {"push": [1, 2], "pop": []})
    assert outcome.verdict == "failed"
    assert outcome.scenario == (("pop()",), ("pop()", "push(1)")) or any(
        "push" in call for own in outcome.scenario for call in own
    )


def test_a_call_that_waits_is_an_outcome():
    for spec in (None, SequentialChannel):
        outcome = linearizable(Channel, {"put": [1], "get": []}, spec=spec, calls_per_thread=1, threads=3)
        assert outcome.verdict == "proved", outcome.explanation


def test_a_call_that_waits_where_none_should():
    class Deaf(Channel):
        def put(self, item):
            with self.ready:
                self.items.append(item)

    outcome = linearizable(Deaf, {"put": [1], "get": []}, spec=SequentialChannel, calls_per_thread=1)
    assert outcome.verdict == "failed"
    assert outcome.scenario in ((("get()",), ("put(1)",)), (("put(1)",), ("get()",)))


def test_the_queue_of_the_library():
    outcome = linearizable(queue.Queue, {"put": [1], "get_nowait": [], "qsize": []}, max_scenarios=40)
    assert outcome.verdict in ("proved", "nothing_found"), outcome.explanation


def test_a_call_that_raises_is_an_outcome():
    class Once:
        def __init__(self):
            self.is_used = False
            self.lock = threading.Lock()

        def use(self):
            with self.lock:
                if self.is_used:
                    raise RuntimeError("used")
                self.is_used = True

        def use_unlocked(self):
            if self.is_used:
                raise RuntimeError("used")
            self.is_used = True

    assert linearizable(Once, ["use"]).verdict == "proved"
    assert linearizable(Once, ["use_unlocked"]).verdict == "failed"


def test_what_came_later_cannot_take_effect_before():
    class Forgetful:
        """What is read is always what was there in the beginning."""

        def __init__(self):
            self.value = 0

        def write(self):
            self.value = 1

        def read(self):
            return 0 if self.value else 0

    class Plain:
        value = 0

        def write(self):
            self.value = 1

        def read(self):
            return self.value

    outcome = linearizable(Forgetful, ["write", "read"], spec=Plain, calls_per_thread=1)
    assert outcome.verdict == "failed"
    assert "against that of time" in outcome.reason
    assert "calls write()" in outcome.explanation


def test_async_methods_run_in_loops_of_their_own():
    outcome = linearizable(Counter, ["add_in_a_task"], calls_per_thread=1)
    assert (outcome.verdict, outcome.kind) == ("failed", "not linearizable")


def test_chance_is_not_called_a_failure():
    class Named:
        def __init__(self):
            self.names = []

        def name(self):
            self.names.append(uuid.uuid4())

    outcome = linearizable(Named, ["name"])
    assert outcome.verdict == "gave_up"
    assert "the same order" in outcome.reason


def test_asked_wrongly():
    with pytest.raises(ValueError, match="two threads"):
        linearizable(Counter, ["next"], threads=1)
    with pytest.raises(ValueError, match="no operation"):
        linearizable(Counter, [])


# --- explore(spec=...)


def next_of(counter):
    return counter.next()


def next_locked_of(counter):
    return counter.next_locked()


def test_threads_come_to_what_a_serial_order_comes_to():
    outcome = explore(Counter, [next_locked_of, next_locked_of], spec=Counter)
    assert outcome.verdict == "proved"


def test_threads_that_come_to_something_else_are_told_and_replay():
    outcome = explore(Counter, [next_of, next_of], spec=Counter)
    assert (outcome.verdict, outcome.kind) == ("failed", "not linearizable")
    assert "what the calls came to" in outcome.explanation
    again = replay(Counter, [next_of, next_of], spec=Counter, schedule=outcome.schedule)
    assert (again.verdict, again.kind) == ("failed", "not linearizable")
    fixed = replay(Counter, [next_locked_of, next_locked_of], spec=Counter, schedule=outcome.schedule)
    assert fixed.verdict != "failed"


def test_the_invariant_is_asked_as_well():
    outcome = explore(Counter, [next_locked_of, next_locked_of], lambda counter: counter.n == 3, spec=Counter)
    assert (outcome.verdict, outcome.kind) == ("failed", "invariant")


def test_tasks_are_serial_or_not():
    async def take(counter):
        n = counter.n
        await asyncio.sleep(0)
        counter.n = n + 1

    assert explore(Counter, [take, take], spec=Counter).verdict == "failed"


def test_one_object_instead_of_two_is_seen():
    class Lazy:
        def __init__(self):
            self.made = None

        def get(self):
            if self.made is None:
                self.made = []
            return self.made

    assert linearizable(Lazy, ["get"]).verdict == "failed"
