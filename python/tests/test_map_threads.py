"""`ConcurrentMap` and `CounterMap`: what holds when threads, their own keys, forks and ends of processes meet."""

import collections
import collections.abc
import copy
import gc
import itertools
import os
import pickle
import random
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from conftest import Same

import raceproof
from raceproof import ConcurrentMap, CounterMap

MAPS = [ConcurrentMap, CounterMap]
THREADS = 4


# --- threads


def run(together, *functions, seconds=1.0):
    """Each function is called again and again in a thread of its own until the time is over."""
    stop = time.monotonic() + seconds

    def again(function):
        def call():
            n = 0
            while time.monotonic() < stop:
                for _ in range(50):
                    function(n)
                    n += 1
            return n

        return call

    return together(*map(again, functions))


def test_readers_only_see_values_that_were_stored_under_their_key(together):
    keys = [f"k{n}" for n in range(8)]
    d = ConcurrentMap({key: (key, 0) for key in keys}, shards=1)
    wrong = []

    def write(n):
        key = keys[n * 5 % 8]
        d[key] = (key, n)

    def come_and_go(n):
        key = keys[n * 3 % 8]
        d.pop(key, None)
        d[key] = (key, n)

    def read(n):
        key = keys[n % 8]
        value = d.get(key)
        if value is not None and value[0] is not key:
            wrong.append((key, value))

    def walk(_):
        wrong.extend((key, value) for key, value in d.items() if value[0] != key)

    run(together, write, come_and_go, read, read, walk, seconds=2)
    assert wrong == []


def test_fresh_keys_that_come_and_go_never_show_a_value_of_another(together):
    """Entries are used again for other keys all the time, at the same addresses."""
    d = ConcurrentMap(shards=1)
    wrong = []

    def churn(offset):
        def step(n):
            key = f"{offset}:{n}"
            d[key] = None
            d[key] = key
            if d.get(key) != key:
                wrong.append(key)
            if d.pop(key, None) != key:
                wrong.append(key)

        return step

    def read(n):
        for key, value in d.items():
            if value is not None and value != key:
                wrong.append((key, value))

    run(together, churn(0), churn(1), read, seconds=2)
    assert wrong == [] and len(d) == 0


@pytest.mark.parametrize("class_", MAPS)
def test_no_increment_is_lost(class_, together):
    keys = [f"k{n}" for n in range(8)]
    d = class_()
    each = 5000

    def add(seed):
        def call():
            source = random.Random(seed)
            for _ in range(each):
                d.add(source.choice(keys), 1)
            d.add_many(source.choice(keys) for _ in range(each))
            for _ in range(each):
                d.update_with(source.choice(keys), lambda value: value + 1, 0)
            for _ in range(each):
                key = source.choice(keys)
                while not d.compare_and_set(key, seen := d[key], seen + 1):
                    pass

        return call

    together(*map(add, range(THREADS)))
    assert sum(d.values()) == 4 * each * THREADS


def test_counts_that_are_taken_out_and_counts_that_stay_add_up(together):
    c = CounterMap()
    taken = [0] * THREADS

    def count(me):
        def call():
            for n in range(20_000):
                c.add(n % 5)
                if n % 16 == 0:
                    taken[me] += c.pop(n % 5, 0)

        return call

    together(*map(count, range(THREADS)))
    assert c.total() + sum(taken) == THREADS * 20_000


def test_setdefault_has_one_winner_for_each_key(together):
    keys = [f"k{n}" for n in range(64)]
    for _ in range(30):
        d = ConcurrentMap()
        results = together(*[lambda: [d.setdefault(key, object()) for key in keys]] * THREADS)
        for values in zip(*results):
            assert len(set(map(id, values))) == 1


def test_a_value_is_removed_by_one_thread_only(together):
    d = ConcurrentMap()
    for _ in range(100):
        d.update(dict.fromkeys(range(50), 1))
        pops = together(*[lambda: [d.pop(key, 0) for key in range(50)]] * THREADS)
        assert sum(map(sum, pops)) == 50
        d.update(dict.fromkeys(range(50), 1))

        def drain():
            n = 0
            while True:
                try:
                    d.popitem()
                except KeyError:
                    return n
                n += 1

        assert sum(together(*[drain] * THREADS)) == 50 and not d


def test_get_or_create_calls_one_factory_while_the_others_wait(together):
    d = ConcurrentMap()
    calls = []

    def factory():
        calls.append(1)
        time.sleep(0.05)
        return object()

    made = together(*[lambda: d.get_or_create("key", factory)] * THREADS)
    assert len(calls) == 1 and set(map(id, made)) == {id(d["key"])}


def test_a_factory_that_raises_leaves_its_turn_to_the_next(together):
    d = ConcurrentMap()
    turns = itertools.count()

    def factory():
        if next(turns) < THREADS - 1:
            raise ZeroDivisionError
        return "made"

    def call():
        try:
            return d.get_or_create("key", factory)
        except ZeroDivisionError:
            return None

    assert together(*[call] * THREADS).count("made") >= 1 and d["key"] == "made"


def test_a_factory_that_needs_its_own_key_does_not_wait_for_itself():
    d = ConcurrentMap()
    with pytest.raises(raceproof.ReentrantError):
        d.get_or_create("key", lambda: d.get_or_create("key", object))
    assert "key" not in d


def test_iteration_shows_each_key_that_stays_once(together):
    d = ConcurrentMap({("stays", n): n for n in range(500)})
    wrong = []

    def come_and_go(n):
        d[n % 700] = n
        d.pop((n + 350) % 700, None)

    def walk(_):
        stayed = collections.Counter(key for key in d if isinstance(key, tuple))
        if len(stayed) != 500 or set(stayed.values()) != {1}:
            wrong.append(stayed)

    run(together, come_and_go, come_and_go, walk, walk)
    assert wrong == []


ITERATIONS = [
    list,
    lambda d: list(d.items()),
    lambda d: list(d.values()),
    lambda d: dict(d.items()),
    len,
    repr,
    lambda d: d == d,
    lambda d: d.snapshot(),
    copy.copy,
    lambda d: pickle.dumps(d),
    lambda d: ConcurrentMap(d),
    lambda d: d.keys() & {"x1"},
]


@pytest.mark.parametrize("idx", range(len(ITERATIONS)))
def test_a_map_that_changes_is_walked_without_an_error(idx, together):
    """The walks that crash or raise with peers and with dict."""
    d = ConcurrentMap(shards=4)

    def change(n):
        key = f"x{n % 300}"
        if n % 3 == 2:
            d.pop(key, None)
        d[key] = (key, n)

    run(together, change, lambda n: change(n * 7), lambda _: ITERATIONS[idx](d), seconds=0.3)


def test_asking_key_by_key_may_miss_a_key_and_a_snapshot_does_not():
    """`dict(d)` and `{**d}` ask for the keys, and then for each value."""

    class Leaving(ConcurrentMap):
        def __getitem__(self, key):
            self.clear()
            return super().__getitem__(key)

    for ask in (dict, lambda d: {**d}):
        with pytest.raises(KeyError):
            ask(Leaving({"a": 1, "b": 2}))
    assert Leaving({"a": 1, "b": 2}).snapshot() == {"a": 1, "b": 2} == dict(Leaving({"a": 1, "b": 2}).items())


def test_clear_and_additions_at_once_leave_a_map_that_works(together):
    d = ConcurrentMap(shards=2)
    run(together, lambda n: d.clear(), lambda n: d.__setitem__(n % 100, n), lambda n: d.get(n % 100), seconds=0.5)
    d.clear()
    assert len(d) == 0 and list(d) == [] and not d
    d["a"] = 1
    assert d == {"a": 1}


# --- Python code inside the operations


def within(seconds, function):
    """Runs it in a thread; fails if it does not end."""
    errors = []

    def call():
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "deadlock"
    if errors:
        raise errors[0]


def test_a_comparison_may_use_the_map():
    def body():
        d = ConcurrentMap(shards=1)

        def use():
            d["other"] = 1
            d.pop("gone", None)
            d.get("zz")
            d["gone"] = 2

        for n in range(5):
            d[Same(n, use)] = n
        assert d[Same(3)] == 3 and Same(9) not in d and d.pop(Same(4)) == 4 and d.setdefault(Same(1), 7) == 1

    within(10, body)


def test_a_comparison_may_remove_the_key_that_is_looked_for():
    def body():
        d = ConcurrentMap(shards=1)
        for n in range(3):
            d[Same(n, lambda: d.clear())] = n
        assert d.get(Same(2)) in (None, 2)

    within(10, body)


def test_comparisons_of_several_threads_meet_without_a_deadlock(together):
    d = ConcurrentMap(shards=1)

    def step(n):
        d[Same(n % 5, lambda: d.setdefault("x", 1))] = n % 5
        value = d.get(Same(n % 5))
        assert value in (None, n % 5)
        d.pop(Same((n + 2) % 5), None)

    run(together, step, step, lambda n: d.clear() if n % 100 == 0 else None)
    assert len({key.number for key in d if isinstance(key, Same)}) == sum(isinstance(key, Same) for key in d)


def test_a_destructor_may_use_the_map():
    deleted = []

    class Value:
        def __del__(self):
            d["deleted"] = 1
            d.pop("deleted")
            deleted.append(1)

    d = ConcurrentMap(shards=1)

    def body():
        d["a"] = Value()
        d["a"] = Value()
        del d["a"]
        d["b"] = Value()
        d.clear()
        d[Value()] = 1
        d.clear()

    within(10, body)
    assert len(deleted) == 4


def test_functions_may_use_the_map():
    def body():
        d = ConcurrentMap({"a": 1}, shards=1)
        d.update_with("a", lambda value: d.add("b", value))
        assert d.pop_if("b", lambda value: d.add("b", 0) == value) == 1
        assert d.get_or_create("c", lambda: d.setdefault("e", 5)) == 5

    within(10, body)


def test_a_collection_during_an_operation_does_not_stop_the_process(together):
    d = ConcurrentMap(shards=1)

    def collect(n):
        if n % 25 == 0:
            gc.collect()

    def churn(n):
        d[f"{n}"] = [n]
        d.pop(f"{n - 20}", None)
        d.update_with(f"{n}", lambda value: [value], None)

    run(together, churn, churn, collect)


# --- memory


def rss_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
@pytest.mark.parametrize("class_", MAPS)
def test_keys_that_come_and_go_do_not_fill_the_memory(class_):
    d = class_()

    def churn(n):
        for number in range(n):
            d[f"key:{number}"] = number
            del d[f"key:{number}"]

    churn(100_000)
    gc.collect()
    before = rss_bytes()
    churn(400_000)
    gc.collect()
    assert rss_bytes() - before < 8 << 20 and len(d) == 0


def test_nothing_is_leaked_by_any_call():
    class Thing:
        alive = 0

        def __init__(self):
            Thing.alive += 1

        def __del__(self):
            Thing.alive -= 1

    d = ConcurrentMap(shards=2)
    for _ in range(200):
        key, thing = Thing(), Thing()
        d[key] = thing
        d[key] = Thing()
        d.setdefault(key, Thing())
        d.update_with(key, lambda value: Thing())
        d.compare_and_set(key, d[key], Thing())
        d.get_or_create(Thing(), Thing)
        d.pop_if(key, lambda value: True)
        list(d.items()), repr(d.keys()), d.copy(), d | {}
        d.pop(key, None)
        d.popitem()
        d[Thing()] = Thing()
        d.clear()
        del key, thing
    gc.collect()
    assert Thing.alive == 0


def test_objects_of_a_blocked_thread_are_freed_after_it_runs_again(together):
    """What another thread made is given back to that thread, which frees it when it runs: the map keeps nothing."""
    alive = set()

    class Value:
        def __init__(self):
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    d = ConcurrentMap({n: Value() for n in range(2000)})
    together(lambda: [d.pop(n) for n in range(2000)] and None)
    gc.collect()
    assert alive == set()


# --- sharing, fork, shutdown, subinterpreters


def test_a_shared_map_is_not_counted():
    if not raceproof.is_shared(raceproof.share(object())):
        pytest.skip("this Python shares nothing")
    for class_ in MAPS:
        d = class_({"a": 1}, shared=True)
        assert raceproof.is_shared(d) and d["a"] == 1 and not raceproof.is_shared(class_())


def python(code, **options):
    """Runs code in an interpreter of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_goes_on_with_the_map_as_it_was():
    """Other threads add and remove keys, holding locks now and then, while the process forks again and again."""
    done = python(
        """
        import os, threading, warnings
        from raceproof import ConcurrentMap
        warnings.simplefilter("ignore")
        d = ConcurrentMap({"stays": 1}, shards=1)
        stop = False
        def churn(me):
            n = 0
            while not stop:
                n += 1
                d[(me, n)] = n
                d.pop((me, n - 5), None)
        threads = [threading.Thread(target=churn, args=(me,)) for me in range(2)]
        [thread.start() for thread in threads]
        for _ in range(60):
            pid = os.fork()
            if pid == 0:
                ok = d["stays"] == 1
                for n in range(2000):
                    d[f"child{n}"] = n
                ok = ok and all(d.pop(f"child{n}") == n for n in range(2000)) and len(d) == len(list(d))
                os._exit(0 if ok else 3)
            assert os.waitpid(pid, 0)[1] == 0
        stop = True
        [thread.join() for thread in threads]
        """
    )
    assert done.returncode == 0, done.stderr


def test_a_map_that_daemon_threads_use_does_not_disturb_the_end_of_the_process():
    done = python(
        """
        import threading
        from raceproof import ConcurrentMap, CounterMap
        d, c = ConcurrentMap(shared=True), CounterMap()
        class Late:
            def __del__(self): d["late"] = c.add("late")
        d["late"] = Late()
        def churn():
            n = 0
            while True:
                n += 1
                d[str(n)] = Late()
                d.pop(str(n - 9), None)
                c.add(str(n % 9))
        [threading.Thread(target=churn, daemon=True).start() for _ in range(2)]
        """
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_a_subinterpreter_refuses_the_module():
    done = python(
        """
        import _interpreters
        failed = _interpreters.exec(_interpreters.create(), "import raceproof._native")
        print(failed.type.__name__)
        """
    )
    assert done.stdout.strip() == "ImportError", done.stderr
