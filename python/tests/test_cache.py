"""`Cache`, `cached` and `single_flight`. Each docstring that quotes holds a sentence of docs/guide/cache.md."""

import asyncio
import copy
import gc
import os
import pickle
import random
import threading
import time
import weakref

import pytest
from conftest import run_together

from raceproof import Cache, ReentrantError, WaitTimeout, cached, single_flight


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


# --- bounded, with a time to live ---


def test_a_cache_is_used_like_a_mapping():
    cache = Cache(3, name="users")
    cache.set("a", 1)
    cache["b"] = None
    assert (cache.get("a"), cache["b"], cache.get("b", 5), cache.get("x"), cache.get("x", 5)) == (
        1,
        None,
        None,
        None,
        5,
    )
    assert "a" in cache and "x" not in cache and len(cache) == 2
    assert (list(cache), cache.keys(), cache.values(), cache.items()) == (
        ["a", "b"],
        ["a", "b"],
        [1, None],
        [("a", 1), ("b", None)],
    )
    assert (cache.pop("a"), cache.pop("a"), cache.pop("a", 7)) == (1, None, 7)
    del cache["b"]
    with pytest.raises(KeyError, match="b"):
        del cache["b"]
    with pytest.raises(KeyError, match="b"):
        cache["b"]
    with pytest.raises(TypeError):
        cache.get([])
    assert (cache.name, cache.maxsize, cache.ttl, repr(cache)) == ("users", 3, None, '<raceproof.Cache "users" 0 of 3>')
    assert Cache[str, int].__origin__ is Cache and weakref.ref(cache)() is cache


def test_the_least_recently_used_entry_makes_room():
    """ "never holds more than `maxsize` entries; exactly the least recently used one is evicted"."""
    cache = Cache(2)
    cache.set(1, 1), cache.set(2, 2)
    assert cache.get(1) == 1 and 2 in cache
    cache.set(3, 3)
    assert cache.keys() == [1, 3] and cache.stats().evictions == 1


def test_the_bound_holds_while_many_threads_write():
    """ "at no moment more": seen by a thread that looks while three write."""
    cache = Cache(50)
    stop = threading.Event()

    def write():
        random_ = random.Random(threading.get_ident())
        for _ in range(20_000):
            cache.set(random_.randrange(200), None)
        stop.set()

    def look():
        most = 0
        while not stop.is_set():
            most = max(most, len(cache), len(cache.keys()))
        return most

    assert run_together(write, write, write, look)[3] <= 50
    assert len(cache) == len(set(cache.keys())) == 50


def test_entries_expire():
    """ "None is older than `ttl` seconds", by the clock that was given."""
    clock = Clock()
    cache = Cache(None, 10, clock=clock)
    cache.set("a", 1)
    clock.now = 5
    cache.set("b", 2)
    clock.now = 9.99
    assert cache.get("a") == 1 and cache.keys() == ["b", "a"]
    clock.now = 10
    assert cache.get("a") is None and "b" in cache and cache.stats().expirations == 1
    clock.now = 15
    assert len(cache) == 1 and cache.keys() == []
    assert cache.purge() == 1 and len(cache) == 0
    for ttl in (0, -1, float("nan")):
        with pytest.raises(ValueError):
            Cache(1, ttl)


def test_without_a_clock_of_its_own_it_uses_one_that_does_not_go_back():
    cache = Cache(None, 0.05)
    cache.set("a", 1)
    assert cache.get("a") == 1
    time.sleep(0.06)
    assert cache.get("a") is None


def test_a_clock_that_fails_stops_one_operation():
    def clock():
        raise OSError

    cache = Cache(clock=clock)
    with pytest.raises(OSError):
        cache.set(1, 1)
    assert len(cache) == 0


def test_what_is_counted():
    """ "a lookup that finds a value is a hit, every other a miss"."""
    cache = Cache(2)
    cache.get_or_load(1, str), cache.get_or_load(1, str), cache.get(2)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.size, stats.maxsize) == (1, 2, 1, 2)
    assert repr(stats) == "CacheStats(hits=1, misses=2, evictions=0, expirations=0, size=1, maxsize=2)"
    cache.reset_stats()
    assert cache.stats().hits == 0 and cache.stats().size == 1


# --- loading ---


@pytest.mark.parametrize("loops", [0, 2, 4])
def test_one_load_for_all_who_ask_at_once(loops):
    """ "Loads of the same key at the same time become one", for threads, loops and both."""
    for _ in range(30):
        cache, loads = Cache(), []

        def load(key):
            loads.append(key)
            time.sleep(0.003)
            return object()

        async def aload(key):
            loads.append(key)
            await asyncio.sleep(0.003)
            return object()

        async def main():
            return await asyncio.gather(*(cache.aget_or_load("k", aload) for _ in range(3)))

        calls = [lambda: asyncio.run(main())] * loops + [lambda: [cache.get_or_load("k", load)]] * (4 - loops)
        got = sum(run_together(*calls), [])
        assert len(loads) == 1 and len(set(got)) == 1 and cache.get("k") is got[0]


def test_an_exception_goes_to_all_who_wait_and_is_not_kept():
    """ "They get its value or its exception; an exception is not kept"; "All get the same exception object"."""
    cache, loads = Cache(), []

    def load(key):
        loads.append(key)
        time.sleep(0.05)
        raise ValueError(len(loads))

    def outcome():
        try:
            return cache.get_or_load("k", load)
        except ValueError as error:
            return error

    errors = run_together(*[outcome] * 3)
    assert len(set(map(id, errors))) == 1 and str(errors[0]) == "1"
    assert str(outcome()) == "2"
    assert cache.get_or_load("k", str) == "k"


def test_a_cancelled_load_hands_over():
    """ "a load that is cancelled, or ended by an exception that is no Exception, hands over to one that waits"."""
    cache, loads = Cache(), []

    async def load(_key):
        loads.append(None)
        await asyncio.sleep(0.01 if len(loads) > 1 else 30)
        return len(loads)

    async def main():
        first, second = (asyncio.create_task(cache.aget_or_load("k", load)) for _ in range(2))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == 2 and first.cancelled()

    asyncio.run(main())


def test_waiting_for_a_load_is_bounded():
    """ "or WaitTimeout after `timeout` seconds"."""
    cache, entered, go = Cache(), threading.Event(), threading.Event()

    def load(_key):
        entered.set()
        assert go.wait(30)
        return 1

    thread = threading.Thread(target=cache.get_or_load, args=("k", load))
    thread.start()
    assert entered.wait(30)
    with pytest.raises(WaitTimeout):
        cache.get_or_load("k", load, timeout=0.02)
    with pytest.raises(WaitTimeout):
        asyncio.run(cache.aget_or_load("k", load, timeout=0.02))
    go.set()
    thread.join()
    assert cache.get_or_load("k", load, timeout=0) == 1


def test_what_is_set_popped_or_cleared_during_a_load_stays_so():
    """ "A value that is set, popped or cleared while it is loaded is not overwritten by the load"."""
    cache = Cache()

    def load_and(change):
        def load(_key):
            change()
            return "loaded"

        return load

    assert cache.get_or_load("a", load_and(lambda: cache.set("a", "set"))) == "loaded"
    assert cache.get("a") == "set"
    assert cache.get_or_load("b", load_and(lambda: cache.pop("b"))) == "loaded"
    assert "b" not in cache
    assert cache.get_or_load("c", load_and(cache.clear)) == "loaded"
    assert cache.keys() == []


def test_a_load_that_needs_itself_is_an_error_at_once():
    """ "A load that would wait for itself raises ReentrantError at once"."""
    cache = Cache()

    def load(key):
        return cache.get_or_load(key, load)

    with pytest.raises(ReentrantError):
        cache.get_or_load("k", load)

    async def aload(key):
        return await cache.aget_or_load(key, aload)

    with pytest.raises(ReentrantError):
        asyncio.run(aload("k"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_the_child_loads_anew():
    """ "In a child after a fork, what another thread was loading is loaded anew"."""
    cache, entered, go = Cache(), threading.Event(), threading.Event()

    def load(_key):
        entered.set()
        if os.getpid() == parent:
            assert go.wait(30)
        return os.getpid()

    parent = os.getpid()
    cache.set("old", 1)
    thread = threading.Thread(target=cache.get_or_load, args=("k", load))
    thread.start()
    assert entered.wait(30)
    child = os.fork()
    if child == 0:
        try:
            is_right = cache.get_or_load("k", load, timeout=10) == os.getpid() and cache.get("old") == 1
            os._exit(0 if is_right else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0 and cache.get("k") == parent


# --- code of the user ---


class Odd:
    """A key whose comparison and hash do what they like."""

    def __init__(self, number, on_compare=None):
        self.number, self.on_compare = number, on_compare

    def __hash__(self):
        return 1

    def __eq__(self, other):
        if self.on_compare:
            self.on_compare()
        return self.number == other.number


def test_a_comparison_may_use_the_cache():
    """ "No code of the user runs under the lock": a comparison that uses the cache does not deadlock."""
    cache = Cache(4)
    busy = threading.local()

    def compare():
        if not getattr(busy, "in_it", False):
            busy.in_it = True
            cache.set(Odd(3), 3), cache.get(Odd(1)), len(cache)
            busy.in_it = False

    cache.set(Odd(1, compare), 1)
    cache.set(Odd(2, compare), 2)
    assert (cache.get(Odd(2)), cache.get(Odd(3)), cache.get(Odd(1))) == (2, 3, 1)

    def fail():
        raise RuntimeError("compare")

    cache.clear()
    cache.set(Odd(1, fail), 1)
    with pytest.raises(RuntimeError, match="compare"):
        cache.get(Odd(2))


def test_odd_keys_under_threads(together):
    cache = Cache(64)

    def work():
        for number in range(600):
            cache.set(Odd(number % 8), number % 8)
            value = cache.get(Odd((number + 3) % 8))
            assert value is None or value == (number + 3) % 8

    together(*[work] * 4)
    assert len(cache) == 8


def test_a_finalizer_may_use_the_cache():
    """ "nor a finalizer of what it lets go of"."""
    cache, seen = Cache(1), []

    class Value:
        def __del__(self):
            seen.append(len(cache))
            cache.get("x")

    for key in range(5):
        cache.set(key, Value())
    cache.pop(4)
    cache.set(5, Value())
    cache.clear()
    gc.collect()
    assert len(seen) == 6


def test_circles_through_a_cache_are_collected():
    """ "Cycles are collected"."""

    class Node:
        pass

    def make():
        node = Node()
        node.cache = Cache()
        node.cache.set("self", node)
        node.cache.set(node, 1)
        return weakref.ref(node)

    refs = [make() for _ in range(10)]
    gc.collect()
    assert [ref() for ref in refs] == [None] * 10


def test_a_cache_is_neither_copied_nor_pickled():
    for function in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            function(Cache())


def test_a_million_operations_leave_nothing_behind():
    """ "Memory is flat": entries that are evicted, expired or popped are freed."""

    class Value:
        alive = 0

        def __init__(self):
            Value.alive += 1

        def __del__(self):
            Value.alive -= 1

    cache = Cache(10)
    for number in range(20_000):
        cache.set(number % 100, Value())
        if number % 3 == 0:
            cache.pop(number % 100)
    gc.collect()
    assert Value.alive == len(cache)
    cache.clear()
    gc.collect()
    assert Value.alive == 0


# --- decorators ---


def test_single_flight_shares_one_execution_and_keeps_nothing(together):
    """ "share one execution; results are not kept"."""
    calls = []

    @single_flight
    def function(x, *, y=0):
        """Docs."""
        calls.append((x, y))
        time.sleep(0.05)
        return object()

    got = together(*[lambda: function(1)] * 3, lambda: function(2), lambda: function(1, y=1))
    assert len(calls) == 3 and got[0] is got[1] is got[2] and len({got[0], got[3], got[4]}) == 3
    assert function(1) is not got[0]
    assert (function.__name__, function.__doc__) == ("function", "Docs.")

    class Methods:
        @single_flight(timeout=5)
        def method(self):
            return self

    methods = Methods()
    assert methods.method() is methods


def test_single_flight_of_an_async_function():
    calls = []

    @single_flight
    async def function(x):
        calls.append(x)
        await asyncio.sleep(0.05)
        return object()

    async def main():
        return await asyncio.gather(*(function(1) for _ in range(3)))

    got = sum(run_together(*[lambda: asyncio.run(main())] * 3), [])
    assert len(got) == 9 and len(set(got)) == 1 and calls == [1]
    assert asyncio.iscoroutinefunction(function)


def test_cached_keeps_results_for_a_while():
    clock = Clock()

    @cached(maxsize=None, ttl=5, clock=clock)
    def function():
        return object()

    first = function()
    assert function() is first
    clock.now = 5
    assert function() is not first


def test_cached_async_functions():
    calls = []

    @cached
    async def function(x, y=1):
        calls.append((x, y))
        await asyncio.sleep(0)
        return x + y

    async def main():
        assert await asyncio.gather(function(1), function(1), function(2, y=2)) == [2, 2, 4]
        assert await function(1) == 2

    asyncio.run(main())
    assert calls == [(1, 1), (2, 2)] and function.cache_info().hits == 1


def test_calls_are_told_apart_as_functools_does():
    @cached
    def function(*args, **kwargs):
        return args, kwargs

    calls = [((), {}), ((1,), {}), (("a",), {}), ((("a",),), {}), (("a", "b"), {}), ((("a", "b"),), {}), ((), {"a": 1})]
    calls += [(("a", 1), {}), ((), {"a": 1, "b": 2}), ((), {"b": 2, "a": 1}), ((None,), {}), (((1, 2), 3), {})]
    for args, kwargs in calls * 2:
        got_args, got_kwargs = function(*args, **kwargs)
        assert got_args == args and list(got_kwargs.items()) == list(kwargs.items())
    assert function.cache_info()[:2] == (len(calls), len(calls))


def test_a_recursion_without_end_is_an_error(together):
    """ "a recursion without end is a RecursionError": in threads too, whose stacks are smaller."""

    @cached
    def down(n):
        return down(n + 1)

    def fall():
        with pytest.raises(RecursionError):
            down(threading.get_ident())
        return True

    assert fall() and together(fall, fall) == [True, True]
    assert down.cache_info().currsize == 0
