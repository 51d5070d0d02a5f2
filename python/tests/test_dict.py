"""ThreadSafeDict: what `docs/guide/containers.md` promises. Each test quotes the sentence that it holds."""

import copy
import gc
import json
import pickle
import random
import sys
import threading
import time
import weakref

import pytest
from conftest import Churn, repeat

from raceproof import ReentrantError, ThreadSafeDict, _native

THREADS = 4
N = 4000


class Key:
    """Compared and hashed by Python code; all have one hash, and comparing uses the dict."""

    used = None

    def __init__(self, n):
        self.n = n

    def __hash__(self):
        return 7

    def __eq__(self, other):
        if Key.used is not None:
            Key.used.get("other")
        return isinstance(other, Key) and self.n == other.n


@pytest.fixture
def own_keys():
    yield lambda n: [Key(idx % n) for idx in range(N // 10)]
    Key.used = None


def test_it_is_a_dict():
    d = ThreadSafeDict({"a": 1}, b=2)
    assert isinstance(d, dict) and d == {"a": 1, "b": 2} and ThreadSafeDict([("a", 1)]) == {"a": 1}
    assert ThreadSafeDict.fromkeys("ab") == {"a": None, "b": None}
    assert type(ThreadSafeDict.fromkeys("ab")) is ThreadSafeDict
    assert ThreadSafeDict[str, int]
    with pytest.raises(TypeError):
        hash(d)


def test_setdefault_has_one_winner(together):
    """Each operation on one key is linearizable."""
    for _ in range(200):
        d = ThreadSafeDict()
        won = together(*[lambda: [d.setdefault(key, object()) for key in "abcdefgh"]] * THREADS)
        assert all(row == won[0] for row in won)


def test_a_reader_never_sees_the_value_of_another_key(together):
    """Each operation on one key is linearizable."""
    keys = [f"k{n}" for n in range(8)]
    d = ThreadSafeDict((key, (key, 0)) for key in keys)

    def change(n):
        key = keys[n % 8]
        d[key] = (key, n)
        d.update_with(key, lambda pair: (pair[0], pair[1] + 1))

    def look():
        for key in keys:
            assert d[key][0] is key
            assert d.get(key)[0] is key
            assert d.setdefault(key, None)[0] is key

    with Churn(change, change):
        together(*[lambda: repeat(0.5, look)] * 2)


def test_get_and_setdefault_are_those_of_dict():
    d = ThreadSafeDict(a=1)
    assert (d.get("a"), d.get("b"), d.get("b", 2)) == (1, None, 2)
    assert (d.setdefault("a", 5), d.setdefault("b"), d.setdefault("c", 3)) == (1, None, 3)
    for call in (d.get, d.setdefault):
        with pytest.raises(TypeError):
            call()
        with pytest.raises(TypeError):
            call("a", 1, 2)
        with pytest.raises(TypeError):
            call([])


VIEWS = {
    "iter": lambda d: list(iter(d)),
    "reversed": lambda d: list(reversed(d))[::-1],
    "keys": lambda d: d.keys(),
    "items": lambda d: [key for key, _ in d.items()],
    "values": lambda d: [value[0] for value in d.values()],
    "copy": lambda d: list(dict.keys(d.copy())),
    "snapshot": lambda d: list(d.snapshot()),
    "repr": lambda d: list(eval(repr(d))),
    "pickle": lambda d: list(pickle.loads(pickle.dumps(d))),
    "copy.copy": lambda d: list(copy.copy(d)),
    "json": lambda d: list(json.loads(json.dumps(d))),
    "or": lambda d: list(d | {}),
    "constructor": lambda d: list(ThreadSafeDict(d)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_one_moment(view):
    """Iterating, ... show what the dict held at one moment. Changing the dict meanwhile raises nothing.

    The writer moves one of 64 keys from the front to the back, so that at every moment the keys are 63 or 64 successive
    numbers."""
    d = ThreadSafeDict((str(n), (str(n), n)) for n in range(64))

    def move(n):
        del d[str(n)]
        d[str(n + 64)] = (str(n + 64), n)

    def look():
        seen = [int(key) for key in VIEWS[view](d)]
        assert seen == list(range(seen[0], seen[0] + len(seen))) and len(seen) in (63, 64)

    with Churn(move):
        repeat(0.3, look)


def test_views_are_lists():
    """`keys()`, `values()` and `items()` are lists."""
    d = ThreadSafeDict(a=1)
    assert (d.keys(), d.values(), d.items()) == (["a"], [1], [("a", 1)])
    assert type(d.keys()) is type(d.values()) is type(d.items()) is list
    assert type(d.snapshot()) is dict


def test_changing_it_while_iterating_is_no_error():
    """Changing the dict meanwhile raises nothing."""
    d = ThreadSafeDict.fromkeys(range(3))
    for key in d:
        d[key + 3] = None
        del d[key]
    assert list(d) == [3, 4, 5]


@pytest.mark.parametrize("n_keys", [1, 16])
def test_no_addition_is_lost(together, n_keys):
    """No update is lost, whatever other threads do to the key."""
    d = ThreadSafeDict()
    together(*[lambda: [d.add(n % n_keys) for n in range(N)]] * THREADS)
    assert sum(d.values()) == THREADS * N


def test_additions_of_other_types_and_by_other_means_are_exact(together):
    """No update is lost: whole numbers, large ones, floats, and the methods mixed."""
    d = ThreadSafeDict(a=2**70)

    def swap():
        for _ in range(N):
            while not d.compare_and_set("a", before := d["a"], before + 1):
                pass

    def add():
        for _ in range(N):
            d.add("a", 1)
            d.add("f", 0.5)

    together(add, swap, lambda: [d.update_with("a", lambda n: n + 1) for _ in range(N)])
    assert d == {"a": 2**70 + 3 * N, "f": N / 2}
    assert (d.add("new"), d.add("new", 4), d.add("big", 2**100)) == (1, 5, 2**100)
    with pytest.raises(TypeError):
        d.add("new", "text")
    with pytest.raises(TypeError):
        d.add([])
    assert d["new"] == 5


def test_updates_with_keys_in_python_are_exact(together, own_keys):
    """`__eq__` and `__hash__` of keys may be Python code, and may use the dict: updates stay exact, nothing deadlocks."""
    d = Key.used = ThreadSafeDict()

    def add():
        for key in own_keys(5):
            d.add(key)
            d.update_with(key, lambda n: n + 1)
            while not d.compare_and_set(key, before := d[key], before + 1):
                pass

    with Churn(lambda n: d.__setitem__(Key(100 + n % 5), n), lambda n: gc.collect() or time.sleep(0.01)):
        together(*[add] * THREADS)
    counted = {key.n: value for key, value in d.items() if key.n < 100}
    assert counted == {n: 3 * THREADS * N // 50 for n in range(5)}


@pytest.mark.parametrize("make", [str, lambda n: (n, str(n)), float, lambda n: frozenset([n])])
def test_equal_keys_are_one_key_for_updates(make):
    """No update is lost: keys that are equal and not the same object."""
    d = ThreadSafeDict()
    for _ in range(3):
        for n in range(200):
            d.add(make(n))
            d.update_with(make(n), lambda value: value + 1)
    for n in range(0, 200, 2):
        assert d.pop_if(make(n), 6) == 6
    assert d == {make(n): 6 for n in range(1, 200, 2)}


def test_a_model_agrees():
    """Read, decide and write in one step: against a plain dict, through growing and shrinking, with mixed keys."""
    rng = random.Random(5)
    d, model = ThreadSafeDict(), {}
    for _ in range(20000):
        n = rng.randrange(3000)
        key = rng.choice([str(n), n, n * 2**60, float(n), (n,), str(n).encode(), None, True])
        match rng.randrange(6):
            case 0:
                assert d.add(key) == model.get(key, 0) + 1
                model[key] = model.get(key, 0) + 1
            case 1:
                assert d.update_with(key, lambda v: v * 2 + 1, default=3) == model.get(key, 3) * 2 + 1
                model[key] = model.get(key, 3) * 2 + 1
            case 2:
                assert d.compare_and_set(key, 1, 9) == (model.get(key) == 1)
                if model.get(key) == 1:
                    model[key] = 9
            case 3:
                assert d.pop_if(key, lambda v: v % 2, "no") == (model[key] if model.get(key, 0) % 2 else "no")
                if model.get(key, 0) % 2:
                    del model[key]
            case 4:
                d[key] = model[key] = n
            case 5:
                assert d.pop(key, None) == model.pop(key, None)
    assert d == model and list(d) == list(model)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tables of 3.10 are laid out in another way")
def test_the_layout_of_tables_is_known():
    assert _native.walk_dict_tables(True)


def test_without_the_layout_of_tables_a_model_agrees():
    """What an unknown CPython gets: updates through the C interface alone."""
    assert not _native.walk_dict_tables(False)
    try:
        test_a_model_agrees()
        for make in (str, lambda n: (n, str(n))):
            test_equal_keys_are_one_key_for_updates(make)
    finally:
        _native.walk_dict_tables(True)


def test_functions_run_outside_every_lock(together):
    """Functions that are passed run outside every lock, and again if another thread was faster."""
    d = ThreadSafeDict(a=0)
    inside, changed = threading.Event(), threading.Event()
    calls = []

    def slow(n):
        calls.append(n)
        inside.set()
        assert changed.wait(30)
        return n + 1

    def other():
        assert inside.wait(30)
        d["a"] = 10
        d["b"] = 1
        changed.set()

    together(lambda: d.update_with("a", slow), other)
    assert d == {"a": 11, "b": 1} and calls == [0, 10]


def test_update_with_and_an_absent_key():
    d = ThreadSafeDict()
    with pytest.raises(KeyError, match="'k'"):
        d.update_with("k", lambda n: n)
    assert d.update_with("k", lambda n: n + 1, default=1) == 2
    assert d.update_with("k", lambda n: n + 1, 10) == 3
    with pytest.raises(TypeError, match="other"):
        d.update_with("k", len, other=1)
    with pytest.raises(TypeError):
        d.update_with("k")


@pytest.mark.parametrize("call", ["update_with", "pop_if", "get_or_create", "add_many"])
def test_a_function_that_raises_changes_nothing(call):
    """If such a function raises, nothing has changed."""

    def fail(*_):
        raise ZeroDivisionError

    def failing_keys():
        yield "a"
        fail()

    d = ThreadSafeDict(a=1)
    with pytest.raises(ZeroDivisionError):
        match call:
            case "update_with":
                d.update_with("a", fail)
            case "pop_if":
                d.pop_if("a", fail)
            case "get_or_create":
                d.get_or_create("b", fail)
            case "add_many":
                d.add_many(failing_keys())
    assert d == {"a": 1}


def test_compare_and_set():
    d = ThreadSafeDict(a=1000, b=[])
    assert d.compare_and_set("a", 1001, 0) is False
    assert d.compare_and_set("a", int("1000"), 2) is True
    assert d.compare_and_set("b", [], None) is True
    assert d.compare_and_set("none", None, 1) is False
    assert d == {"a": 2, "b": None}


def test_compare_and_set_has_one_winner(together):
    """No update is lost: of those who expect the same value one wins."""
    d = ThreadSafeDict(a=0)
    won = together(*[lambda: [d.compare_and_set("a", n, n + 1) for n in range(N)].count(True)] * THREADS)
    assert sum(won) == d["a"]


def test_pop_if_gives_a_value_to_one_thread(together):
    """`pop_if` reads, decides and writes in one step."""
    d = ThreadSafeDict((n, n) for n in range(N))
    took = together(*[lambda: [n for n in range(N) if d.pop_if(n, lambda v: v == n) is not None]] * THREADS)
    assert sorted(sum(took, [])) == list(range(N)) and not d


def test_pop_if_does_not_remove_what_came_meanwhile(together):
    """`pop_if` reads, decides and writes in one step: a value that came while the condition ran is asked about again."""
    d = ThreadSafeDict(a="old")

    def condition(value):
        if value == "old":
            d["a"] = "new"
            return True
        return False

    assert d.pop_if("a", condition, "kept") == "kept"
    assert d == {"a": "new"}


def test_add_many_counts(together):
    """`add_many` adds key by key."""
    d = ThreadSafeDict()
    together(*[lambda: d.add_many("hello" * 100)] * THREADS)
    assert d == {"h": 400, "e": 400, "l": 800, "o": 400}


def test_a_factory_is_called_once(together):
    """`get_or_create` calls the factory once for all threads that ask for a missing key at once."""
    for _ in range(100):
        d = ThreadSafeDict()
        calls = []

        def make():
            calls.append(1)
            time.sleep(0.0005)
            return object()

        got = together(*[lambda: d.get_or_create("k", make)] * THREADS)
        assert len(calls) == 1 and len(set(map(id, got))) == 1 and d["k"] is got[0]


def test_a_factory_is_called_once_for_equal_keys_in_python(together, own_keys):
    """`get_or_create` calls the factory once; keys may be compared by Python code."""
    d = Key.used = ThreadSafeDict()
    calls = []
    together(*[lambda: [d.get_or_create(key, lambda: calls.append(1)) for key in own_keys(20)]] * THREADS)
    assert len(calls) == 20 == len(d)


def test_a_factory_that_raises_leaves_the_key_absent_and_another_tries(together):
    """If the factory raises, the exception goes to its caller, the key stays absent, and one of those who wait tries."""
    d = ThreadSafeDict()
    begun, waiting = threading.Event(), threading.Event()

    def fail():
        begun.set()
        assert waiting.wait(30)
        time.sleep(0.02)
        raise ZeroDivisionError

    def first():
        with pytest.raises(ZeroDivisionError):
            d.get_or_create("k", fail)

    def second():
        assert begun.wait(30)
        waiting.set()
        return d.get_or_create("k", lambda: "made")

    assert together(first, second) == [None, "made"]
    assert d == {"k": "made"}


def test_a_factory_that_needs_itself_raises():
    """A factory that would wait for itself, directly, raises ReentrantError."""
    d = ThreadSafeDict()
    with pytest.raises(ReentrantError):
        d.get_or_create("k", lambda: d.get_or_create("k", int))
    assert d.get_or_create("k", int) == 0
    assert issubclass(ReentrantError, RuntimeError)


def test_factories_that_need_one_another_raise(together):
    """A factory that would wait for itself through another thread raises ReentrantError."""
    d = ThreadSafeDict()
    meet = threading.Barrier(2)

    def needs(own, other):
        def make():
            if meet.n_waiting < 2 and not meet.broken:
                meet.wait(30)
            return d.get_or_create(other, lambda: 1)

        try:
            return d.get_or_create(own, make)
        except ReentrantError:
            meet.abort()
            return "circle"

    got = together(lambda: needs("a", "b"), lambda: needs("b", "a"))
    assert "circle" in got


def test_a_value_that_is_stored_while_the_factory_runs_wins():
    d = ThreadSafeDict()

    def make():
        d["k"] = "stored"
        return "made"

    assert d.get_or_create("k", make) == "stored" == d["k"]


def test_update_is_all_or_nothing_for_snapshots():
    """Other writers and snapshots see all of the pairs or none."""
    d = ThreadSafeDict.fromkeys(range(100), 0)

    def look():
        assert len(set(d.values())) == 1

    with Churn(lambda n: d.update((key, n) for key in range(100)), lambda n: d.__ior__(dict.fromkeys(range(100), -n))):
        repeat(0.5, look)


def test_a_source_that_raises_changes_nothing():
    """`update`, `|=` and the constructor read their source first; if that raises, nothing has changed."""

    def pairs():
        yield "a", 1
        raise ZeroDivisionError

    d = ThreadSafeDict(b=2)
    with pytest.raises(ZeroDivisionError):
        d.update(pairs())
    with pytest.raises(ZeroDivisionError):
        d |= pairs()
    with pytest.raises(TypeError):
        d.update(5)
    with pytest.raises(TypeError):
        d.update({}, {})
    assert d == {"b": 2}
    d.update({"a": 1}, c=3)
    d.update(e=5)
    d.update()
    assert d == {"b": 2, "a": 1, "c": 3, "e": 5}


def test_dict_of_it_is_weakly_consistent_and_snapshot_is_not():
    """`dict(d)`, `{**d}`, `f(**d)` and `other.update(d)` may raise KeyError if a key has gone. `snapshot()` may not."""
    d = ThreadSafeDict(a=1, b=2)
    assert dict(d) == {**d} == (lambda **named: named)(**d) == {"a": 1, "b": 2}
    other = {}
    other.update(d)
    assert other == d

    def change(n):
        d[f"k{n % 50}"] = n
        d.pop(f"k{(n + 25) % 50}", None)

    def look():
        d.snapshot()
        d.copy()
        try:
            dict(d)
        except KeyError:
            pass

    with Churn(change):
        repeat(0.3, look)


def test_equality_is_that_of_dict():
    """`==` compares entry by entry."""
    d = ThreadSafeDict(a=1)
    assert d == {"a": 1} and {"a": 1} == d and d != {"a": 2} and d != 1


def test_deleting_a_value_may_use_the_dict():
    """So may `__del__` of values."""
    d = ThreadSafeDict()

    class Value:
        def __init__(self):
            self.n = 0

        def __add__(self, n):
            return Value()

        def __del__(self):
            d.add("deleted")

    d["a"] = Value()
    for _ in range(100):
        d.add("a", 1)
        d.update_with("a", lambda _: Value())
        d.compare_and_set("a", d["a"], Value())
        d["a"] = Value()
    assert d.pop_if("a", lambda _: True)
    gc.collect()
    assert d["deleted"] == 401


def test_what_methods_give_is_thread_safe():
    """`copy()`, `|` and `fromkeys` give a `ThreadSafeDict`; of a subclass they are not of the subclass."""

    class Sub(ThreadSafeDict):
        def __init__(self, must):
            super().__init__(must)

    for d in (ThreadSafeDict(a=1), Sub({"a": 1})):
        for made in (d.copy(), d | {"b": 2}, {"b": 2} | d):
            assert type(made) is ThreadSafeDict and made["a"] == 1
        both = d
        both |= [("c", 3)]
        assert both is d and d["c"] == 3
    assert {"a": 0, "z": 1} | ThreadSafeDict(a=1) == {"a": 1, "z": 1}
    with pytest.raises(TypeError):
        ThreadSafeDict() | [("a", 1)]


def test_copies_and_pickles_keep_type_and_attributes():
    d = Described({"a": [1]})
    d.note = "kept"
    for made in (copy.copy(d), copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        assert type(made) is Described and made == d and made.note == "kept"
    assert copy.deepcopy(d)["a"] is not d["a"] and copy.copy(d)["a"] is d["a"]


class Described(ThreadSafeDict):
    pass


def test_repr_of_what_holds_itself():
    d = ThreadSafeDict(a=1)
    d["d"] = d
    assert repr(d) == "{'a': 1, 'd': {...}}"


def test_cycles_are_collected_and_weak_references_work():
    """A cycle through a container is collected. Weak references to a container work."""
    d = ThreadSafeDict()
    d["self"] = d
    d.get_or_create("made", lambda: [d])  # noqa: F821
    seen = weakref.ref(d)
    assert seen() is d
    del d
    gc.collect()
    assert seen() is None


def test_memory_is_flat():
    """Stress: objects that went through every method are freed."""

    class Value:
        pass

    d = ThreadSafeDict()
    alive = weakref.WeakSet()

    def use(n):
        value = Value()
        alive.add(value)
        d[n % 10] = value
        d.update_with(n % 10, lambda _: value)
        d.compare_and_set(n % 10, value, value)
        d.get_or_create(n % 10, Value)
        d.items()
        d.pop_if(n % 10, lambda _: True)

    for n in range(2000):
        use(n)
    d.clear()
    gc.collect()
    assert not alive
