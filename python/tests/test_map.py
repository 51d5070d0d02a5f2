"""`ConcurrentMap` and `CounterMap`: what a mapping does, and what holds when threads use one at once."""

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
import unittest
import weakref

import pytest

import raceproof
from raceproof import ConcurrentMap, CounterMap

MAPS = [ConcurrentMap, CounterMap]
THREADS = 4


class Same:
    """Equal to others with the same number; all have the same hash, and each comparison calls `on_eq`."""

    def __init__(self, number, on_eq=lambda: None):
        self.number = number
        self.on_eq = on_eq

    def __hash__(self):
        return 7

    def __eq__(self, other):
        self.on_eq()
        return isinstance(other, Same) and self.number == other.number


# --- a mapping


def mapping_failures(class_):
    mapping_tests = pytest.importorskip("test.mapping_tests")
    judge = type("Judge", (mapping_tests.TestHashMappingProtocol,), {"type2test": class_})
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(judge).run(result)
    failed = {test.id().rsplit(".", 1)[1] for test, _ in [*result.failures, *result.errors]}
    return result.testsRun, failed


def test_cpythons_own_mapping_suite_passes_but_for_two_tests():
    """The constructor has named options, so it takes no named entries; a map that changes may be iterated."""
    ran, failed = mapping_failures(ConcurrentMap)
    assert ran == 22
    assert failed == {"test_constructor", "test_mutatingiteration"}


def test_a_subclass_is_a_mapping_as_well():
    class Own(ConcurrentMap):
        pass

    assert mapping_failures(Own)[1] == {"test_constructor", "test_mutatingiteration"}


@pytest.mark.parametrize("class_", MAPS)
def test_it_is_registered_as_a_mutable_mapping(class_):
    assert isinstance(class_(), collections.abc.MutableMapping)
    match class_({"a": 1}):
        case {"a": number}:
            assert number == 1
        case _:
            pytest.fail("no mapping pattern matches")


@pytest.mark.parametrize(
    "key",
    [
        "text",
        "x" * 5000,
        "\N{GREEK SMALL LETTER ALPHA}",
        "\N{GRINNING FACE}",
        b"bytes",
        b"b" * 5000,
        3,
        2**80,
        -1,
        1.5,
        True,
        None,
        (1, "a"),
        frozenset({1}),
        Same(1),
        type("Text", (str,), {})("text"),
    ],
    ids=repr,
)
def test_every_kind_of_key_is_found_by_an_equal_one(key):
    d = ConcurrentMap(shards=1)
    for other in ("other", b"other", 77, 2**81, 7.5, (2,), Same(2)):
        d[other] = "other"
    d[key] = "value"
    equal = pickle.loads(pickle.dumps(key)) if type(key).__module__ == "builtins" else key
    assert d[equal] == "value" and equal in d and d.get(equal) == "value"
    d[equal] = "new"
    assert len(d) == 8 and d.pop(equal) == "new" and equal not in d and len(d) == 7


def test_numbers_of_different_types_are_equal_keys_as_in_a_dict():
    d = ConcurrentMap({1: "int"})
    d[1.0] = "float"
    d[True] = "bool"
    assert d.snapshot() == {1: "bool"}


@pytest.mark.parametrize("class_", MAPS)
def test_options_of_the_constructor_are_checked(class_):
    for bad in (0, -1, 1 << 20):
        with pytest.raises(ValueError, match="shards"):
            class_(shards=bad)
    with pytest.raises(TypeError):
        class_(shards="many")
    with pytest.raises(TypeError):
        class_(unknown=1)
    with pytest.raises(TypeError):
        class_({}, {})
    assert class_({"a": 1}, shards=3) == {"a": 1}


def test_pickle_copy_deepcopy_and_equality():
    class_ = collections.namedtuple("class_", "x")
    d = ConcurrentMap({"a": [1], 2: "b"}, shards=2)
    assert pickle.loads(pickle.dumps(d)) == d
    shallow, deep = copy.copy(d), copy.deepcopy(d)
    assert shallow == d == deep == {"a": [1], 2: "b"} and d != {"a": [1]} and d != [1]
    assert shallow["a"] is d["a"] and deep["a"] is not d["a"]
    assert d == collections.UserDict(d) and not d == class_(1)
    d["self"] = d
    assert copy.deepcopy(d)["self"]["self"] is not d
    again = pickle.loads(pickle.dumps(d))
    assert again["self"] is again
    assert repr(ConcurrentMap({1: d})).count("{...}") == 1
    with pytest.raises(TypeError):
        hash(d)


def test_a_subclass_keeps_its_attributes_in_copies():
    again = pickle.loads(pickle.dumps(Named({"a": 1}, name="n")))
    for made in (again, copy.copy(again), copy.deepcopy(again)):
        assert type(made) is Named and made.name == "n" and made == {"a": 1}


class Named(ConcurrentMap):
    def __init__(self, source=(), name=None):
        super().__init__(source)
        self.name = name


def test_views_are_sets_and_show_the_map_as_it_is():
    d = ConcurrentMap({"a": 1, "b": 2})
    keys, values, items = d.keys(), d.values(), d.items()
    d["c"] = 3
    assert set(keys) == {"a", "b", "c"} == keys and len(items) == 3 and sorted(values) == [1, 2, 3]
    assert keys & ["a"] == {"a"} and keys | {"x"} == {"a", "b", "c", "x"} and keys - {"a"} == {"b", "c"}
    assert {"a", "z"} - keys == {"z"} and keys ^ {"a"} == {"b", "c"} and keys.isdisjoint({"z"}) and keys > {"a"}
    assert ("a", 1) in items and ("a", 2) not in items and "a" not in items and 3 in values and 4 not in values
    assert isinstance(keys, collections.abc.KeysView) and isinstance(items, collections.abc.ItemsView)
    assert isinstance(values, collections.abc.ValuesView) and isinstance(iter(d), collections.abc.Iterator)
    assert repr(ConcurrentMap({1: 2}).items()) == "MapItems([(1, 2)])"


def test_operators_and_generic_alias():
    d = ConcurrentMap({"a": 1})
    assert (d | {"b": 2}) == {"a": 1, "b": 2} == ({"a": 1} | ConcurrentMap({"b": 2}))
    assert type(d | {}) is ConcurrentMap
    d |= [("c", 3)]
    assert d == {"a": 1, "c": 3}
    assert ConcurrentMap[str, int].__args__ == (str, int)
    with pytest.raises(TypeError):
        d | [1]


def test_weak_references_and_cycles():
    for d in (ConcurrentMap(), CounterMap()):
        assert weakref.ref(d)() is d

    class Node:
        pass

    for through in ("value", "key"):
        node = Node()
        node.map = ConcurrentMap({node: 1} if through == "key" else {1: node})
        gone = weakref.ref(node)
        del node
        gc.collect()
        assert gone() is None, through


def test_maps_in_maps_in_maps_are_freed_without_using_up_the_stack():
    d = ConcurrentMap()
    for _ in range(100_000):
        d = ConcurrentMap({"in": d}, shards=1)
    del d


def test_a_removed_key_and_value_are_given_back_at_once():
    class Thing:
        pass

    key, value = Thing(), Thing()
    gone = [weakref.ref(key), weakref.ref(value)]
    d = ConcurrentMap({key: value})
    del d[key]
    del key, value
    assert [ref() for ref in gone] == [None, None]


# --- the atomic calls


def test_setdefault_pop_and_popitem():
    d = ConcurrentMap()
    assert d.setdefault("a", 1) == 1 and d.setdefault("a", 2) == 1 and d.setdefault("n") is None
    assert d.pop("a") == 1 and d.pop("a", 9) == 9
    with pytest.raises(KeyError):
        d.pop("a")
    d.clear()
    with pytest.raises(KeyError):
        d.popitem()
    d.update({n: n for n in range(1000)})
    assert sorted(d.popitem() for _ in range(1000)) == [(n, n) for n in range(1000)] and not d


def test_a_missing_key_is_named_by_the_exception():
    d = ConcurrentMap()
    for key in ("a", (1, 2)):
        for call in (d.__getitem__, d.__delitem__, d.pop, lambda key: d.update_with(key, str)):
            with pytest.raises(KeyError) as raised:
                call(key)
            assert raised.value.args == (key,)


def test_update_with_compare_and_set_and_pop_if():
    d = ConcurrentMap({"a": 1000})
    assert d.update_with("a", lambda value: value + 1) == 1001 == d["a"]
    assert d.update_with("b", lambda value: value + 1, 10) == 11 == d["b"]
    assert not d.compare_and_set("a", 5, 6) and d["a"] == 1001
    assert d.compare_and_set("a", 1001, 7) and d["a"] == 7
    assert not d.compare_and_set("absent", None, 1) and "absent" not in d
    assert d.pop_if("a", lambda value: value > 7) is None and d["a"] == 7
    assert d.pop_if("a", lambda value: value == 7) == 7 and "a" not in d
    assert d.pop_if("a", lambda value: True, "default") == "default"


def test_an_exception_of_a_function_reaches_the_caller_and_changes_nothing():
    d = ConcurrentMap({"a": 1})

    def fail(*_):
        raise ZeroDivisionError

    for call in (lambda: d.update_with("a", fail), lambda: d.pop_if("a", fail), lambda: d.get_or_create("b", fail)):
        with pytest.raises(ZeroDivisionError):
            call()
    assert d == {"a": 1}
    with pytest.raises(ZeroDivisionError):
        ConcurrentMap({Same(1, fail): 1})[Same(2)]
    with pytest.raises(TypeError):
        d[[]]


def test_add_works_with_all_numbers():
    d = ConcurrentMap({"f": 1.5, "s": "a", "big": 2**62})
    assert d.add("f", 1) == 2.5 and d.add("s", "b") == "ab" and d.add("big", 2**62) == 2**63 and d.add("new") == 1
    with pytest.raises(TypeError):
        d.add("s", 1)
    d.add_many(["new", "other", "new"])
    assert d["new"] == 3 and d["other"] == 1


# --- counts


def test_a_counter_map_counts():
    c = CounterMap("abracadabra")
    assert c["a"] == 5 and c["absent"] == 0 and "absent" not in c and c.get("absent") is None
    assert c.most_common(1) == [("a", 5)] and c.most_common()[0] == ("a", 5) and len(c.most_common()) == 5
    assert c.total() == 11 and c.add("a", 2) == 7 and c.add("a", -10) == -3 and c.add("new") == 1
    c.update({"a": 3, "b": 1}, new=1)
    assert c["a"] == 0 and c["b"] == 3 and c["new"] == 2
    c["a"] = 50
    assert c.pop("a") == 50 and c.setdefault("z") == 0 and c.compare_and_set("z", 0, 9) and c["z"] == 9
    assert c.update_with("z", lambda count: count * 2) == 18 and c.pop_if("z", lambda count: count == 18) == 18
    assert pickle.loads(pickle.dumps(c)) == c == copy.deepcopy(c) == c.snapshot()
    assert CounterMap.fromkeys("ab") == {"a": 0, "b": 0}


def test_a_count_beyond_the_range_raises_and_changes_nothing():
    top, bottom = 2**62 - 1, -(2**62)
    c = CounterMap({"top": top, "bottom": bottom})
    assert c["top"] == top and c["bottom"] == bottom
    for call in (
        lambda: c.add("top"),
        lambda: c.add("bottom", -1),
        lambda: c.add("new", top + 1),
        lambda: c.add("top", 2**70),
        lambda: c.__setitem__("top", top + 1),
        lambda: c.update_with("top", lambda count: count * 2),
    ):
        with pytest.raises(OverflowError):
            call()
    assert c == {"top": top, "bottom": bottom}
    with pytest.raises(TypeError):
        c["top"] = "text"
    with pytest.raises(TypeError):
        c.add("top", 1.5)


def test_what_was_counted_before_an_iterable_raises_stays():
    def keys():
        yield from "aab"
        raise ZeroDivisionError

    for class_ in MAPS:
        d = class_()
        with pytest.raises(ZeroDivisionError):
            d.add_many(keys())
        assert d == {"a": 2, "b": 1}
        with pytest.raises(TypeError):
            d.add_many(["a", [], "b"])
        assert d["a"] == 3


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
