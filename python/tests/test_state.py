"""`ThreadSafeGlobalState`. Each docstring that quotes holds a sentence of docs/guide/state.md."""

import asyncio
import copy
import gc
import os
import pickle
import sys
import threading
import weakref

import pytest
from conftest import run_together

from raceproof import ABSENT, SharedState, ThreadSafeGlobalState


@pytest.fixture
def unraisable(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append((args.exc_value, args.object)))
    return seen


def test_the_async_and_the_sync_face_are_one_state():
    """ "`sync` has the same operations"."""
    state = ThreadSafeGlobalState()

    async def main():
        assert await state.get("a") is None and await state.get("a", 3) == 3
        await state.set("a", 1)
        await state.set("b", None)
        assert (await state.get("a"), await state.get("b", 3), await state.keys()) == (1, None, ["a", "b"])
        assert await state.update("a", lambda value: value + 1) == 2
        assert await state.update("n", lambda value: value + 1, 10) == 11
        assert await state.compare_and_set("n", 11, 12) and not await state.compare_and_set("n", 11, 13)
        assert await state.snapshot() == {"a": 2, "b": None, "n": 12}
        assert await state.delete("a") is True and await state.delete("a") is False
        return await state.keys()

    assert asyncio.run(main()) == ["b", "n"] == state.sync.keys()
    assert state.sync.get("n") == 12 and "b" in state.sync and "x" not in state.sync and len(state.sync) == 2
    asyncio.run(state.clear())
    assert state.sync.snapshot() == {} and "0 keys" in repr(state) and "0 keys" in repr(state.sync)
    with pytest.raises(TypeError):
        state.sync.set([], 1)


def test_updates_are_never_lost():
    """ "`update` is atomic": threads and loops that count end at the right number."""
    state = ThreadSafeGlobalState()

    async def count():
        for _ in range(500):
            await state.update("n", lambda value: value + 1, 0)

    def count_sync():
        for _ in range(500):
            state.sync.update("n", lambda value: value + 1, 0)

    run_together(count_sync, count_sync, lambda: asyncio.run(count()), lambda: asyncio.run(count()))
    assert state.sync.get("n") == 2000


def test_an_update_that_raises_changes_nothing():
    """ "If `function` raises, nothing is changed and the caller gets the exception"."""
    state = SharedState()
    state.set("a", 1)
    with pytest.raises(ZeroDivisionError):
        state.update("a", lambda value: value / 0)
    assert state.get("a") == 1


def test_an_update_sees_a_value_that_was_changed_and_changed_back():
    """ "also if the value was changed and changed back meanwhile"."""
    state, value, seen = SharedState(), [0], []

    def function(old):
        seen.append(old)
        if len(seen) == 1:
            state.set("a", None)
            state.set("a", value)
        return "new"

    state.set("a", value)
    assert state.update("a", function) == "new" and len(seen) == 2


def test_compare_and_set():
    """ "equal to `expected`, or the same object"; "`ABSENT` stands for no value, on both sides"."""
    state = SharedState()
    assert not state.compare_and_set("a", None, 1) and state.compare_and_set("a", ABSENT, 1.0)
    assert not state.compare_and_set("a", ABSENT, 2) and state.compare_and_set("a", 1, float("nan"))
    nan = state.get("a")
    assert not state.compare_and_set("a", float("nan"), 2) and state.compare_and_set("a", nan, ABSENT)
    assert "a" not in state and state.compare_and_set("a", ABSENT, ABSENT)
    assert repr(ABSENT) == "ABSENT" and not ABSENT and pickle.loads(pickle.dumps(ABSENT)) is ABSENT is copy.copy(ABSENT)


def test_one_of_many_wins():
    for _ in range(100):
        state = SharedState()
        won = run_together(*[lambda who=who: state.compare_and_set("leader", ABSENT, who) for who in range(4)])
        assert won.count(True) == 1 and won[state.get("leader")]


def test_a_snapshot_is_of_one_moment():
    """ "`snapshot()` and `keys()` are of one moment": a writer sets b after a, so no snapshot has b ahead of a."""
    state = SharedState()
    state.set("a", 0), state.set("b", 0)
    stop = threading.Event()

    def write():
        for number in range(1, 5000):
            state.set("a", number)
            state.set("b", number)
        stop.set()

    def look():
        while not stop.is_set():
            seen = state.snapshot()
            assert 0 <= seen["a"] - seen["b"] <= 1

    run_together(write, look, look)


def test_clear_is_one_step():
    """ "`clear()` deletes everything in one step"."""
    state = SharedState()
    stop = threading.Event()

    def fill():
        for _ in range(500):
            for key in range(4):
                state.set(key, 1)
            state.clear()
        stop.set()

    def look():
        while not stop.is_set():
            keys = state.keys()
            assert keys == list(range(len(keys)))

    run_together(fill, look, look)


# --- watchers ---


def test_watchers_are_told_what_changed():
    """ "is called after each change of its key, or of every key with None"."""
    state, seen, all_ = SharedState(), [], []
    watch = state.watch("a", lambda change: seen.append((change.key, change.old, change.new)))
    with state.watch(None, lambda change: all_.append(repr(change))):
        state.set("a", 1)
        state.set("b", 2)
        state.update("a", lambda value: value + 1)
        state.delete("a")
        state.delete("a")
        state.clear()
    state.set("a", 5)
    watch.close(), watch.close()
    state.set("a", 6)
    assert seen == [("a", ABSENT, 1), ("a", 1, 2), ("a", 2, ABSENT), ("a", ABSENT, 5)]
    assert all_ == [
        "Change(key='a', old=ABSENT, new=1)",
        "Change(key='b', old=ABSENT, new=2)",
        "Change(key='a', old=1, new=2)",
        "Change(key='a', old=2, new=ABSENT)",
        "Change(key='b', old=2, new=ABSENT)",
    ]
    with pytest.raises(TypeError):
        state.watch("a", 3)


def test_watchers_see_the_changes_in_their_order():
    """ "in the order in which they were made", each once, although four threads write."""
    state, seen = SharedState(), []
    state.watch("n", lambda change: seen.append((change.old, change.new)))

    def write():
        for _ in range(1000):
            state.update("n", lambda value: value + 1, 0)

    run_together(*[write] * 4)
    assert seen == [(number if number else ABSENT, number + 1) for number in range(4000)]


def test_a_watcher_may_use_the_state():
    """ "A watcher may change the state: what it changes is told when it has returned"."""
    state, seen = SharedState(), []

    def mirror(change):
        seen.append(("begin", change.key))
        if change.key == "a":
            state.set("b", change.new)
            state.watch("c", lambda change: seen.append("c")).close()
        seen.append(("end", change.key))

    state.watch(None, mirror)
    state.set("a", 1)
    assert seen == [("begin", "a"), ("end", "a"), ("begin", "b"), ("end", "b")] and state.get("b") == 1


def test_a_slow_watcher_does_not_hold_other_writers_up():
    """ "`set` may return before its watchers have run, if another thread is telling them of an earlier change"."""
    state, entered, go, seen = SharedState(), threading.Event(), threading.Event(), []

    def watcher(change):
        entered.set()
        assert go.wait(30)
        seen.append(change.new)

    state.watch("a", watcher)
    thread = threading.Thread(target=state.set, args=("a", 1))
    thread.start()
    assert entered.wait(30)
    state.set("a", 2)
    assert seen == [] and state.get("a") == 2
    go.set()
    thread.join()
    assert seen == [1, 2]


def test_an_exception_of_a_watcher_is_never_lost(unraisable):
    """ "goes to sys.unraisablehook and is kept in the handle, does not reach the writer, and stops no other watcher"."""
    state, seen = SharedState(), []

    def fail(change):
        raise (KeyboardInterrupt if change.new == 2 else ValueError)(change.new)

    watch = state.watch("a", fail)
    state.watch("a", lambda change: seen.append(change.new))
    state.set("a", 1)
    assert watch.errors == 1 and isinstance(watch.last_error, ValueError)
    state.set("a", 2)
    assert seen == [1, 2] and watch.errors == 2 and isinstance(watch.last_error, KeyboardInterrupt)
    assert [(type(error), by) for error, by in unraisable] == [(ValueError, fail), (KeyboardInterrupt, fail)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_the_child_goes_on():
    """ "In a child after a fork, the values are those of the moment of the fork and watchers go on"."""
    state, entered, go = SharedState(), threading.Event(), threading.Event()
    seen = []

    def watcher(change):
        if os.getpid() == parent:
            entered.set()
            assert go.wait(30)
        seen.append(change.new)

    parent = os.getpid()
    state.watch("a", watcher)
    thread = threading.Thread(target=state.set, args=("a", 1))
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        try:
            is_right = state.get("a") == 1
            state.set("a", 2)
            os._exit(0 if is_right and seen == [2] else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0 and seen == [1]


# --- the rest ---


def test_namespaces():
    """ "A namespace is a state of its own, made when first asked for, the same for all who ask"."""
    state = ThreadSafeGlobalState()
    states = run_together(*[lambda: state.namespace("a")] * 4)
    assert all(inner == states[0] for inner in states) and len({hash(inner) for inner in states}) == 1
    asyncio.run(states[0].set("x", 1))
    assert states[1].sync.get("x") == 1 and state.sync.get("x") is None
    assert state.namespace("b") != states[0] and state.namespaces() == ["a", "b"]
    asyncio.run(state.clear())
    assert state.namespace("a").sync.get("x") == 1
    assert state != 3 and weakref.ref(state)() is state


def test_code_of_the_user_runs_outside_the_lock():
    """ "No code of the user runs under the lock"."""

    class Odd:
        def __init__(self, number):
            self.number = number

        def __hash__(self):
            return 1

        def __eq__(self, other):
            state.get("x"), state.set("x", self.number)
            return self.number == other.number

        def __del__(self):
            state.get("x")

    state = SharedState()
    for number in range(5):
        state.set(Odd(number), Odd(number))
    assert state.get(Odd(3)).number == 3 and state.compare_and_set(Odd(3), Odd(3), 4)
    state.clear()
    gc.collect()


def test_it_is_neither_copied_nor_pickled():
    for state in (ThreadSafeGlobalState(), SharedState()):
        for function in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="snapshot"):
                function(state)


def test_circles_through_a_state_are_collected(unraisable):
    """ "Cycles are collected": through values, keys, watchers, what they raised, and namespaces."""

    class Node:
        pass

    def make():
        node = Node()
        node.state = SharedState()
        node.state.set("a", node)
        node.state.set(node, 1)
        node.inner = node.state.namespace("inner")
        node.inner.set("node", node)

        def watcher(change, node=node):
            raise ValueError(node)

        node.watch = node.state.watch("b", watcher)
        node.state.set("b", 1)
        return weakref.ref(node)

    refs = [make() for _ in range(10)]
    unraisable.clear()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 10
