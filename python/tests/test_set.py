"""ThreadSafeSet: what `docs/guide/containers.md` promises. Each test quotes the sentence that it holds."""

import copy
import gc
import pickle
import weakref

import pytest
from conftest import Churn, repeat

from raceproof import ThreadSafeSet

THREADS = 4
N = 1000


class Value:
    """Compared and hashed by Python code; all have one hash."""

    def __init__(self, n):
        self.n = n

    def __hash__(self):
        return 7

    def __eq__(self, other):
        return isinstance(other, Value) and self.n == other.n


def test_it_is_a_set():
    s = ThreadSafeSet([1, 2])
    assert isinstance(s, set) and s == {1, 2} and ThreadSafeSet() == set() and ThreadSafeSet[int]
    with pytest.raises(TypeError):
        hash(s)


VIEWS = {
    "iter": lambda s: set(iter(s)),
    "list": list,
    "sorted": sorted,
    "copy": lambda s: s.copy(),
    "snapshot": lambda s: s.snapshot(),
    "repr": lambda s: eval(repr(s), {"ThreadSafeSet": set}),
    "pickle": lambda s: pickle.loads(pickle.dumps(s)),
    "copy.copy": lambda s: copy.copy(s),
    "or": lambda s: s | set(),
    "frozenset": frozenset,
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_one_moment(view):
    """Iterating, ... show what the set held at one moment.

    The writer takes away the smallest of 64 successive numbers and adds the next one."""
    s = ThreadSafeSet(range(64))

    def move(n):
        s.discard(n)
        s.add(n + 64)

    def look():
        seen = sorted(VIEWS[view](s))
        assert seen == list(range(seen[0], seen[0] + len(seen))) and len(seen) in (63, 64)

    with Churn(move):
        repeat(0.3, look)


def test_changing_it_while_iterating_is_no_error():
    s = ThreadSafeSet([1, 2])
    for value in s:
        s.add(value + 2)
        s.remove(value)
    assert s == {3, 4}


@pytest.mark.parametrize("make", [int, str, Value], ids=["int", "str", "python"])
def test_one_thread_adds(together, make):
    """Of all threads that call `add_if_absent` with equal values at once, one gets `True`."""
    s = ThreadSafeSet()
    n = N if make is not Value else 60
    done = together(*[lambda: [s.add_if_absent(make(idx)) for idx in range(n)].count(True)] * THREADS)
    assert sum(done) == n == len(s)


@pytest.mark.parametrize("make", [int, str, Value], ids=["int", "str", "python"])
def test_one_thread_removes(together, make):
    """Of all that call `discard_if_present`, one gets `True`."""
    n = N if make is not Value else 60
    s = ThreadSafeSet(map(make, range(n)))
    done = together(*[lambda: [s.discard_if_present(make(idx)) for idx in range(n)].count(True)] * THREADS)
    assert sum(done) == n and not s
    assert s.discard_if_present(0) is False


def test_adding_and_removing_balance(together):
    """Of all threads one gets `True`: what was added and is not there was removed."""
    s = ThreadSafeSet()

    def use():
        return sum(s.add_if_absent(n % 5) - s.discard_if_present((n + 1) % 5) for n in range(N))

    assert sum(together(*[use] * THREADS)) == len(s)


def test_drain_and_discard_if_give_an_element_to_one_caller(together):
    """`discard_if` and `drain` are not one step; each element goes to one caller only."""
    s = ThreadSafeSet(range(N))
    took = together(*[lambda: s.drain()] * 2, *[lambda: s.discard_if(lambda n: n % 2)] * 2, lambda: [s.pop_or(N)])
    rest = s.drain()
    assert sorted(sum(took, rest)) in (list(range(N)), [*range(N), N])
    assert s.drain() == [] and s.discard_if(bool) == [] and s.pop_or("none") == "none"
    with pytest.raises(TypeError):
        s.pop_or()


def test_a_predicate_that_raises_keeps_the_element():
    s = ThreadSafeSet([1])
    with pytest.raises(ZeroDivisionError):
        s.discard_if(lambda n: n / 0)
    assert s == {1}
    with pytest.raises(TypeError):
        s.add_if_absent([])


def test_what_operators_give_is_thread_safe():
    """`|`, `&`, `-`, `^`, their methods and `copy()` give a `ThreadSafeSet`."""

    class Sub(ThreadSafeSet):
        pass

    for s in (ThreadSafeSet([1, 2]), Sub([1, 2])):
        made = {
            "or": (s | {3}, {1, 2, 3}),
            "ror": ({3} | s, {1, 2, 3}),
            "and": (s & {2, 3}, {2}),
            "rand": ({2, 3} & s, {2}),
            "sub": (s - {2}, {1}),
            "rsub": ({2, 3} - s, {3}),
            "xor": (s ^ {2, 3}, {1, 3}),
            "rxor": ({2, 3} ^ s, {1, 3}),
            "union": (s.union([3], [4]), {1, 2, 3, 4}),
            "intersection": (s.intersection([2, 3]), {2}),
            "difference": (s.difference([2]), {1}),
            "symmetric_difference": (s.symmetric_difference([2, 3]), {1, 3}),
            "copy": (s.copy(), {1, 2}),
        }
        for name, (result, expected) in made.items():
            assert type(result) is ThreadSafeSet and result == expected, name
        assert type(s.snapshot()) is set
        with pytest.raises(TypeError):
            s | [1]
        with pytest.raises(TypeError):
            s.union(1)
        same = s
        same |= {5}
        assert same is s and s == {1, 2, 5}


class Described(ThreadSafeSet):
    pass


def test_copies_and_pickles_keep_type_and_attributes():
    s = Described([(1, 2)])
    s.note = "kept"
    for made in (copy.copy(s), copy.deepcopy(s), pickle.loads(pickle.dumps(s))):
        assert type(made) is Described and made == s and made.note == "kept"


def test_cycles_are_collected_and_weak_references_work():
    """A cycle through a container is collected. Weak references to a container work."""

    class Node:
        pass

    s, node = ThreadSafeSet(), Node()
    node.s = s
    s.add(node)
    assert repr(s).startswith("ThreadSafeSet({<")
    seen = weakref.ref(s)
    del s, node
    gc.collect()
    assert seen() is None


def test_reads_while_everything_changes(together):
    """Stress: no wrong value and no crash."""
    s = ThreadSafeSet()

    def change(n):
        s.add((n % 50,))
        s.update({(n % 7,), (n % 11,)})
        s.add_if_absent((n % 13,))
        s.discard_if(lambda value: value[0] % 3 == 0)
        if len(s) > 40:
            s.drain()

    def look():
        assert all(type(value) is tuple for value in s)
        (1,) in s
        assert s | {(1,)} >= {(1,)}
        s == s.copy()
        s.issubset(s.snapshot())

    with Churn(change, change):
        together(*[lambda: repeat(0.7, look)] * 2)


def test_memory_is_flat():
    """Stress: elements that went through every method are freed."""

    class Element:
        pass

    s = ThreadSafeSet()
    alive = weakref.WeakSet()
    for _ in range(1000):
        element = Element()
        alive.add(element)
        s.add_if_absent(element)
        s | {element}
        s.copy()
        s.discard_if(lambda _: True)
        s.add(element)
        s.discard_if_present(element)
        s.add(element)
        s.drain()
    del element
    gc.collect()
    assert not alive
