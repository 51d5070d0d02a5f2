"""ThreadSafeList: what `docs/guide/containers.md` promises. Each test quotes the sentence that it holds."""

import copy
import functools
import gc
import itertools
import pickle
import random
import threading
import weakref

import pytest
from conftest import Churn, repeat

from raceproof import ThreadSafeList

THREADS = 4
N = 2000


def test_it_is_a_list():
    l = ThreadSafeList([1, 2])
    assert isinstance(l, list) and l == [1, 2] == ThreadSafeList((1, 2)) and ThreadSafeList() == []
    assert ThreadSafeList[int] and ThreadSafeList(l) == l
    with pytest.raises(TypeError):
        ThreadSafeList(5)


def test_no_append_is_lost(together):
    """Each operation on one item is atomic."""
    l = ThreadSafeList()
    together(*[lambda: [l.append(n) for n in range(N)]] * THREADS)
    assert sorted(l) == sorted([*range(N)] * THREADS)
    took = together(*[lambda: [l.pop() for _ in range(N)]] * THREADS)
    assert sorted(sum(took, [])) == sorted([*range(N)] * THREADS) and not l


VIEWS = {
    "iter": lambda l: list(iter(l)),
    "list": list,
    "tuple": tuple,
    "sorted": sorted,
    "star": lambda l: [*l],
    "reversed": lambda l: list(reversed(l))[::-1],
    "copy": lambda l: l.copy()[:],
    "snapshot": lambda l: l.snapshot(),
    "slice": lambda l: l[:],
    "repr": lambda l: eval(repr(l)),
    "pickle": lambda l: pickle.loads(pickle.dumps(l)),
    "copy.copy": lambda l: copy.copy(l),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_shows_one_moment(view):
    """Iterating, ..., and so `list(l)`, `sorted(l)`, show what the list held at one moment.

    The writer moves the window of numbers on, in one slice assignment."""
    l = ThreadSafeList(range(64))

    def move(n):
        if n % 2:
            l[:] = range(n, n + 64)
        else:
            l.append(l[-1] + 1)

    def look():
        seen = list(VIEWS[view](l))
        assert seen == list(range(seen[0], seen[0] + len(seen))) and len(seen) in (64, 65)

    with Churn(move):
        repeat(0.3, look)


def test_an_iterator_does_not_see_what_comes_later():
    """An iterator does not see what is appended later."""
    l = ThreadSafeList([1, 2])
    for item in l:
        l.append(item + 2)
    assert l == [1, 2, 3, 4]


def test_extend_is_one_step(together):
    """Then all items are appended in one step, next to one another."""
    l = ThreadSafeList()

    def extend(name):
        nonlocal l
        for n in range(200):
            match n % 3:
                case 0:
                    l.extend((name, n) for _ in range(5))
                case 1:
                    l += iter([(name, n)] * 5)
                case 2:
                    l.extend(ThreadSafeList([(name, n)] * 5))

    together(*[functools.partial(extend, name) for name in range(THREADS)])
    assert len(l) == THREADS * 1000
    for at in range(0, len(l), 5):
        assert len(set(l[at : at + 5])) == 1


def test_a_source_that_raises_changes_nothing():
    """`extend` and `+=` read their source first; if that raises, nothing has changed."""

    def items():
        yield 1
        raise ZeroDivisionError

    l = same = ThreadSafeList([0])
    with pytest.raises(ZeroDivisionError):
        l.extend(items())
    with pytest.raises(ZeroDivisionError):
        l += items()
    with pytest.raises(TypeError):
        l.extend(5)
    l.extend(l)
    l += l
    assert l is same and l == [0] * 4


def test_append_if_never_grows_beyond_the_bound(together):
    """`append_if` reads, decides and writes in one step."""
    l = ThreadSafeList()
    done = together(*[lambda: [l.append_if(n, lambda items: len(items) < 100) for n in range(N)].count(True)] * THREADS)
    assert len(l) == 100 == sum(done)


def test_append_if_adds_each_value_once(together):
    """`append_if` reads, decides and writes in one step; the predicate gets a plain list of its own."""
    l = ThreadSafeList()

    def absent(value, items):
        assert type(items) is list
        found = value in items
        items.clear()
        return not found

    together(*[lambda: [l.append_if(n, functools.partial(absent, n)) for n in range(100)]] * THREADS)
    assert sorted(l) == list(range(100))


def test_update_at_loses_nothing(together):
    """`update_at` reads, decides and writes in one step."""
    l = ThreadSafeList([0, 0])

    def update():
        for n in range(N):
            assert l.update_at(n % 2 - 1, lambda item: item + 1) > 0

    together(*[update] * THREADS)
    assert l == [THREADS * N // 2] * 2
    for bad in (2, -3, 2**100, -(2**100)):
        with pytest.raises(IndexError):
            l.update_at(bad, int)
    with pytest.raises(TypeError):
        l.update_at("0", int)


def test_update_at_runs_the_function_again_if_another_was_faster(together):
    """Functions that are passed run outside every lock, and again if another thread was faster."""
    l = ThreadSafeList([0])
    inside, changed = threading.Event(), threading.Event()
    seen = []

    def slow(item):
        seen.append(item)
        inside.set()
        assert changed.wait(30)
        return item + 1

    def other():
        assert inside.wait(30)
        l[0] = 10
        changed.set()

    together(lambda: l.update_at(0, slow), other)
    assert l == [11] and seen == [0, 10]


def test_swap_is_one_step(together):
    """`swap` reads and writes in one step: nothing is doubled or lost."""
    l = ThreadSafeList(range(8))

    def swap():
        rng = random.Random()
        for _ in range(N):
            l.swap(rng.randrange(-8, 8), rng.randrange(-8, 8))

    def look():
        assert sorted(l) == list(range(8))

    with Churn(lambda _: look()):
        together(*[swap] * THREADS)
    look()
    for i, j in ((0, 8), (-9, 0)):
        with pytest.raises(IndexError):
            l.swap(i, j)


def test_pop_or_gives_an_item_to_one_thread(together):
    """`pop_or` reads, decides and writes in one step."""
    l = ThreadSafeList(range(N))

    def take():
        took = []
        while (item := l.pop_or(None, index=0)) is not None:
            took.append(item)
        return took

    took = together(*[take] * THREADS)
    assert sorted(sum(took, [])) == list(range(N)) and not l
    l += [1, 2, 3]
    assert (l.pop_or(None), l.pop_or(None, 0), l.pop_or("none", index=5), l.pop_or("none", -2)) == (
        3,
        1,
        "none",
        "none",
    )
    with pytest.raises(TypeError):
        l.pop_or(None, index="0")
    with pytest.raises(TypeError):
        l.pop_or(None, at=0)
    with pytest.raises(TypeError):
        l.pop_or()


def test_drain_gives_an_item_to_one_thread(together):
    """`drain` takes all items in one step: what one producer appended in one step is never split."""
    l = ThreadSafeList()
    over = threading.Event()

    def produce():
        for n in range(N):
            l.extend([n] * 3)
        over.set()

    def take():
        took = []
        while True:
            was_over = over.is_set()
            batch = l.drain()
            assert type(batch) is list and all(batch.count(item) == 3 for item in set(batch[:10]))
            took += batch
            if was_over and not batch:
                return took

    _, *took = together(produce, take, take)
    assert sorted(sum(took, [])) == sorted([*range(N)] * 3)
    assert l == [] == l.drain()
    l.append(1)
    assert l == [1]


def test_remove_takes_the_item_that_it_found(together):
    """`remove` reads, decides and writes in one step; `__eq__` runs outside every lock."""

    class Item:
        def __init__(self, n):
            self.n = n

        def __eq__(self, other):
            l.append(None)
            l.pop()
            return isinstance(other, Item) and self.n == other.n

    l = ThreadSafeList(map(Item, range(40)))
    together(*[lambda part=part: [l.remove(Item(n)) for n in range(part, 40, 4)] for part in range(4)])
    assert [item for item in l if item is not None] == []
    with pytest.raises(ValueError):
        l.remove(5)


def test_removing_while_others_append(together):
    """`remove` reads, decides and writes in one step."""
    l = ThreadSafeList(range(N))
    together(lambda: [l.remove(n) for n in range(N)], lambda: [l.append(n) for n in range(N, 2 * N)])
    assert list(l) == list(range(N, 2 * N))


@pytest.mark.parametrize("make", [int, lambda n: (n,)], ids=["quiet", "tuples"])
def test_sort_shows_the_old_order_or_the_new_one(make):
    """`sort` is one step: others see the old order or the new one."""
    l = ThreadSafeList(map(make, range(500)))

    def look(_):
        seen = l.snapshot()
        assert len(l) == 500 and seen in (up, down)

    up = list(map(make, range(500)))
    down = up[::-1]
    with Churn(look, look):
        repeat(0.3, lambda: (l.sort(reverse=True), l.sort()))


def test_sort_is_that_of_list():
    l = ThreadSafeList([3, 1, 2])
    l.sort(key=lambda n: -n)
    assert l == [3, 2, 1]
    l.sort(key=None, reverse=False)
    assert l == [1, 2, 3]
    l.append("text")
    for wrong in ({}, {"key": str, "other": 1}):
        with pytest.raises(TypeError):
            l.sort(**wrong)
    with pytest.raises(TypeError):
        l.sort(1)
    assert l == [1, 2, 3, "text"]


def test_sort_gives_up_when_the_list_keeps_changing():
    """It raises `ValueError` after four attempts, and the list is as the others left it."""
    l = ThreadSafeList([(2,), (1,)])

    def key(item):
        if item == (2,):
            l.append((0,))
        return item

    with pytest.raises(ValueError, match="modified during sort"):
        l.sort(key=key)
    assert l == [(2,), (1,)] + [(0,)] * 4


def test_what_methods_give():
    """`copy()` gives a `ThreadSafeList`; slices, `+` and `*` give a plain list."""

    class Sub(ThreadSafeList):
        pass

    for l in (ThreadSafeList([1, 2]), Sub([1, 2])):
        assert type(l.copy()) is ThreadSafeList and l.copy() == [1, 2]
        assert type(l[:]) is type(l + [3]) is type(l * 2) is type(l.snapshot()) is list
        assert (l + [3], [0] + l, l * 2) == ([1, 2, 3], [0, 1, 2], [1, 2, 1, 2])


class Described(ThreadSafeList):
    pass


def test_copies_and_pickles_keep_type_and_attributes():
    l = Described([[1]])
    l.note = "kept"
    for made in (copy.copy(l), copy.deepcopy(l), pickle.loads(pickle.dumps(l))):
        assert type(made) is Described and made == l and made.note == "kept"
    assert copy.deepcopy(l)[0] is not l[0] and copy.copy(l)[0] is l[0]


def test_cycles_are_collected_and_weak_references_work():
    """A cycle through a container is collected. Weak references to a container work."""
    l = ThreadSafeList()
    l.append(l)
    assert repr(l) == "[[...]]"
    seen = weakref.ref(l)
    del l
    gc.collect()
    assert seen() is None


def test_deleting_an_item_may_use_the_list():
    """Stress: `__del__` of items."""
    l = ThreadSafeList()

    class Item:
        def __del__(self):
            l.append("deleted")

    for _ in range(50):
        l[:] = [Item(), Item()]
        l.update_at(0, lambda _: Item())
        l.swap(0, 1)
        l.remove(l[1])
        l.drain()
    gc.collect()
    assert l.count("deleted") > 0 and all(item == "deleted" for item in l)


def test_reads_while_everything_changes(together):
    """Stress: no wrong value and no crash while the list is read, changed, drained and sorted."""
    l = ThreadSafeList()

    def change(n):
        l.append((n,))
        l.extend([(n + 1,), (n + 2,)])
        if len(l) > 50:
            l.drain()

    def look():
        for idx in (0, -1, 5):
            try:
                item = l[idx]
            except IndexError:
                continue
            assert type(item) is tuple and len(item) == 1
        l.index((1,)) if (1,) in l else l.count((1,))

    def reorder(_):
        try:
            l.sort()
        except ValueError:
            pass  # it was changed four times meanwhile
        l.reverse()
        try:
            l.swap(0, -1)
            l.update_at(0, lambda item: (item[0] + 1,))
        except IndexError:
            pass
        l.pop_or(None)

    with Churn(change, reorder):
        together(*[lambda: repeat(0.7, look)] * 2)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8])
def test_what_makes_it_shorter_does_what_list_does(n):
    ends = [None, *range(-n - 1, n + 2)]
    for start, stop, step in itertools.product(ends, ends, [None, 1, 2, 3, -1, -2]):
        where = slice(start, stop, step)
        plain, ours = list(range(n)), ThreadSafeList(range(n))
        del plain[where], ours[where]
        assert ours == plain, where
        for m in range(4):
            plain, ours = list(range(n)), ThreadSafeList(range(n))
            outcomes = []
            for each in (plain, ours):
                try:
                    each[where] = "abc"[:m]
                    outcomes.append(list(each))
                except ValueError as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1], (where, m)
    for index in range(-n - 2, n + 2):
        for change in (lambda each, index: each.pop(index), lambda each, index: each.__delitem__(index)):
            outcomes = []
            for each in (list(range(n)), ThreadSafeList(range(n))):
                try:
                    outcomes.append((change(each, index), list(each)))
                except IndexError as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1], index


def test_no_place_behind_the_end_is_read_while_the_list_grows_and_shrinks(together):
    """Stress: whoever reads behind the end frees tuples of its own meanwhile (the arguments of IndexError)."""
    l = ThreadSafeList()

    def change(n):
        l.extend([(n,), (n,), (n,)])
        l.pop()
        l[-1:] = []
        l.pop_or(None)
        if n % 16 == 0:
            del l[:]

    def look():
        for idx in (0, -1, 5):
            try:
                assert type(l[idx]) is tuple
            except IndexError:
                pass

    with Churn(change):
        together(*[lambda: repeat(0.7, look)] * 2)


def test_memory_is_flat():
    """Stress: items that went through every method are freed."""

    class Item:
        pass

    l = ThreadSafeList()
    alive = weakref.WeakSet()
    for _ in range(2000):
        item = Item()
        alive.add(item)
        l.append_if(item, lambda _: True)
        l.extend([item, item])
        l.update_at(0, lambda _: item)  # noqa: F821
        l.swap(0, 1)
        l.sort(key=id)
        l.remove(item)
        l.pop_or(None)
        l.drain()
    del item
    gc.collect()
    assert len(alive) == 0
