"""Programs with threads, broken and right, each of a kind that people write: the broken ones fail, the right ones do not.

A program gives a setup, its threads and an invariant.
"""

import asyncio
import collections
import contextvars
import functools
import heapq
import itertools
import queue
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor, as_completed
from types import SimpleNamespace as State

import pytest

from raceproof.testing import explore, replay

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="frames of CPython 3.13 are read")

PROGRAMS = {}
# Enough to look at a program that has more schedules than a test can walk through.
RUNS = 1_500


def program(is_broken, is_large=False):
    def add(make):
        PROGRAMS[make.__name__] = (is_broken, is_large, make)
        return make

    return add


@program(is_broken=True)
def cached_property():
    class C:
        def __init__(s):
            s.made = []

        @functools.cached_property
        def v(s):
            s.made.append(1)
            return object()

    def use(s):
        s.got.append(s.c.v)

    return (lambda: State(c=C(), got=[])), [use, use], lambda s: s.got[0] is s.got[1]


@program(is_broken=True)
def lru_cache():
    def setup():
        s = State(made=0, lock=threading.Lock())

        def make(k):
            with s.lock:
                s.made += 1
            return object()

        s.make = functools.lru_cache(make)
        return s

    def use(s):
        s.make(1)

    return setup, [use, use], lambda s: s.made == 1


@program(is_broken=True)
def ordered_lru():
    def put(k):
        def run(s):
            s.d[k] = 1
            if len(s.d) > 1:
                s.d.popitem(last=False)

        return run

    return (lambda: State(d=collections.OrderedDict())), [put(1), put(2)], lambda s: len(s.d) == 1


@program(is_broken=True)
def defaultdict_count():
    def inc(s):
        s.d["k"] += 1

    return (lambda: State(d=collections.defaultdict(int))), [inc, inc], lambda s: s.d["k"] == 2


@program(is_broken=True)
def counter_update():
    def inc(s):
        s.d.update("ab")

    return (lambda: State(d=collections.Counter())), [inc, inc], lambda s: s.d == {"a": 2, "b": 2}


@program(is_broken=True)
def heap_pop():
    def pop(s):
        if s.h:
            s.got.append(heapq.heappop(s.h))

    return (lambda: State(h=[1], got=[])), [pop, pop], lambda s: len(s.got) == 1


@program(is_broken=False)
def heap_push_ok():
    def push(k):
        def run(s):
            heapq.heappush(s.h, k)

        return run

    return (lambda: State(h=[])), [push(1), push(2)], lambda s: sorted(s.h) == [1, 2]


@program(is_broken=False)
def deque_rotate_ok():
    def push(k):
        def run(s):
            s.q.append(k)

        return run

    return (lambda: State(q=collections.deque())), [push(1), push(2)], lambda s: sorted(s.q) == [1, 2]


@program(is_broken=True)
def string_log():
    def log(k):
        def run(s):
            s.log += k

        return run

    return (lambda: State(log="")), [log("a"), log("b")], lambda s: len(s.log) == 2


@program(is_broken=True)
def event_missed_set():
    def waiter(s):
        s.ev.clear()
        s.ev.wait()

    def setter(s):
        s.ev.set()

    return (lambda: State(ev=threading.Event())), [waiter, setter], None


@program(is_broken=True)
def two_loops_lock():
    async def use(s):
        async with s.lock:
            s.n += 1
            await asyncio.sleep(0)

    def run(s):
        asyncio.run(use(s))

    return (lambda: State(lock=asyncio.Lock(), n=0)), [run, run], lambda s: s.n == 2


@program(is_broken=True)
def rwlock_by_hand():
    class RW:
        def __init__(s):
            s.m = threading.Lock()
            s.w = threading.Lock()
            s.readers = 0

        def racq(s):
            s.readers += 1  # no mutex: bug
            if s.readers == 1:
                s.w.acquire()

        def rrel(s):
            s.readers -= 1
            if s.readers == 0:
                s.w.release()

    def reader(s):
        s.rw.racq()
        s.rw.rrel()

    def writer(s):
        with s.rw.w:
            s.n += 1

    return (lambda: State(rw=RW(), n=0)), [reader, reader, writer], lambda s: s.rw.readers == 0


@program(is_broken=False)
def dekker_ok():
    def a(s):
        s.fa = True
        if not s.fb:
            s.crit.append(1)

    def b(s):
        s.fb = True
        if not s.fa:
            s.crit.append(2)

    return (lambda: State(fa=False, fb=False, crit=[])), [a, b], lambda s: len(s.crit) <= 1


@program(is_broken=True)
def timer_cancel():
    def run(s):
        t = threading.Timer(1, lambda: s.log.append(1))
        t.start()
        s.n = 1
        t.cancel()
        t.join()

    return (lambda: State(log=[], n=0)), [run], lambda s: s.log == []


@program(is_broken=False, is_large=True)
def as_completed_ok():
    def run(s):
        with ThreadPoolExecutor(2) as ex:
            s.r = sorted(f.result() for f in as_completed([ex.submit(pow, 2, i) for i in (1, 2)]))

    return (lambda: State(r=None)), [run], lambda s: s.r == [2, 4]


@program(is_broken=False)
def count_ok():
    def run(s):
        s.got.append(next(s.c))

    return (lambda: State(c=itertools.count(), got=[])), [run, run], lambda s: sorted(s.got) == [0, 1]


@program(is_broken=True)
def set_check_add():
    def run(s):
        if 1 not in s.s:
            s.s.add(1)
            s.n.append(1)

    return (lambda: State(s=set(), n=[])), [run, run], lambda s: len(s.n) == 1


@program(is_broken=True)
def three_preempt():
    def a(s):
        s.x = 1
        s.y = s.z
        s.x = 2

    def b(s):
        if s.x == 1:
            s.z = 5
            if s.y == 5 and s.x == 2:
                s.bad = True

    return (lambda: State(x=0, y=0, z=0, bad=False)), [a, b], lambda s: not s.bad


@program(is_broken=False)
def queue_join_ok():
    def worker(s):
        while True:
            i = s.q.get()
            if i is None:
                s.q.task_done()
                return
            s.got.append(i)
            s.q.task_done()

    def prod(s):
        s.q.put(1)
        s.q.put(None)
        s.q.join()
        s.done = list(s.got)

    return (lambda: State(q=queue.Queue(), got=[], done=None)), [worker, prod], lambda s: s.done == [1]


@program(is_broken=False)
def async_gather_ok():
    async def f(s):
        async def g(i):
            await asyncio.sleep(0)
            s.r.append(i)

        await asyncio.gather(g(1), g(2))

    return (lambda: State(r=[])), [f], lambda s: sorted(s.r) == [1, 2]


@program(is_broken=False)
def async_queue_ok():
    async def p(s):
        for i in range(2):
            await s.q.put(i)

    async def c(s):
        s.got = [await s.q.get() for _ in range(2)]

    return (lambda: State(q=asyncio.Queue(1), got=None)), [p, c], lambda s: s.got == [0, 1]


@program(is_broken=True)
def async_await_split():
    async def f(s):
        v = s.n
        await asyncio.sleep(0)
        s.n = v + 1

    return (lambda: State(n=0)), [f, f], lambda s: s.n == 2


@program(is_broken=True)
def weakvalue():
    class C:
        pass

    def get(s):
        o = s.d.get("k")
        if o is None:
            o = C()
            s.d["k"] = o
        s.got.append(o)

    return (lambda: State(d=weakref.WeakValueDictionary(), got=[])), [get, get], lambda s: s.got[0] is s.got[1]


@program(is_broken=False)
def four_threads_ok():
    def inc(s):
        with s.l:
            s.n += 1

    return (lambda: State(l=threading.Lock(), n=0)), [inc] * 4, lambda s: s.n == 4


@program(is_broken=True)
def property_setter():
    class A:
        def __init__(s):
            s._v = 0

        @property
        def v(s):
            return s._v

        @v.setter
        def v(s, x):
            s._v = x

    def inc(s):
        s.a.v += 1

    return (lambda: State(a=A())), [inc, inc], lambda s: s.a.v == 2


@program(is_broken=True)
def slots_inc():
    class A:
        __slots__ = ("v",)

    def setup():
        a = A()
        a.v = 0
        return a

    def inc(a):
        a.v += 1

    return setup, [inc, inc], lambda a: a.v == 2


@program(is_broken=True)
def kwargs_call():
    def bump(*, s, by):
        s.n = s.n + by

    def inc(s):
        bump(s=s, by=1)

    def inc2(s):
        bump(**{"s": s, "by": 1})

    return (lambda: State(n=0)), [inc, inc2], lambda s: s.n == 2


@program(is_broken=True)
def setattr_inc():
    def inc(s):
        setattr(s, "n", getattr(s, "n") + 1)

    return (lambda: State(n=0)), [inc, inc], lambda s: s.n == 2


@program(is_broken=True)
def dunder_dict():
    def inc(s):
        s.__dict__["n"] = s.__dict__["n"] + 1

    def inc2(s):
        s.n = s.n + 1

    return (lambda: State(n=0)), [inc, inc2], lambda s: s.n == 2


@program(is_broken=True)
def ordered_dict_iterated():
    def walk(s):
        for key in s.d:
            s.last = key

    def change(s):
        s.d["z"] = 1

    return (lambda: State(d=collections.OrderedDict(a=1, b=2), last=None)), [walk, change], None


@program(is_broken=True)
def second_of_zip():
    def walk(s):
        for _, value in zip((1, 2), s.values, strict=True):
            s.last = value

    def change(s):
        s.values.clear()

    return (lambda: State(values=[1, 2], last=None)), [walk, change], None


@program(is_broken=True)
def sort_with_key():
    def sort(s):
        s.values.sort(key=lambda _: s.order)

    def add(s):
        s.values.append(0)

    return (lambda: State(values=[2, 1], order=0)), [sort, add], None


@program(is_broken=True)
def cache_of_what_counts():
    def setup():
        s = State(n=0)

        @functools.cache
        def make(k):
            s.n += 1
            return k

        s.make = make
        return s

    def use(s):
        s.make(1)

    return setup, [use, use], lambda s: s.n == 1


@program(is_broken=True)
def slot_methods_by_name():
    def inc(s):
        dict.__setitem__(s.d, "n", dict.__getitem__(s.d, "n") + 1)

    return (lambda: State(d={"n": 0})), [inc, inc], lambda s: s.d["n"] == 2


@program(is_broken=True)
def attributes_through_object():
    class C:
        n = 0

    def inc(c):
        object.__setattr__(c, "n", object.__getattribute__(c, "n") + 1)

    return C, [inc, inc], lambda c: c.n == 2


@program(is_broken=False)
def defaultdict_with_factory():
    def add(s):
        s.d["k"].append(1)

    def setup():
        return State(d=collections.defaultdict(lambda: list(())))

    # Some versions keep what was stored first, others what was stored last: the look and the store are two steps.
    return setup, [add, add], lambda s: 1 <= len(s.d["k"]) <= 2


def counted_by_destructor():
    """A state, and a class whose objects count their ends under its lock."""
    s = State(n=0, lock=threading.Lock())

    class C:
        def __del__(self):
            with s.lock:
                s.n += 1

    s.C = C
    return s


@program(is_broken=True)
def destructor_takes_the_lock():
    def use(s):
        c = s.C()
        with s.lock:
            s.n += 1
            del c

    return counted_by_destructor, [use, use], None


@program(is_broken=False)
def destructor_counts_locked():
    def use(s):
        s.C()

    return counted_by_destructor, [use, use], lambda s: s.n == 2


@program(is_broken=True)
def weak_reference_asked_twice():
    class C:
        n = 0

    def use(s):
        s.is_there.wait()
        if s.ref() is not None:
            s.seen = s.ref().n

    def make(s):
        s.strong = C()
        s.ref = weakref.ref(s.strong)
        s.is_there.set()
        s.strong = None

    return (lambda: State(strong=None, ref=None, is_there=threading.Event(), seen=0)), [use, make], None


VARIABLE = contextvars.ContextVar("variable", default=0)
LOCAL = threading.local()


@program(is_broken=False)
def what_a_new_thread_has_not():
    def use(s):
        assert VARIABLE.get() == 0 and not hasattr(LOCAL, "n")
        VARIABLE.set(1)
        LOCAL.n = 1
        with s.lock:
            s.n += 1

    return (lambda: State(n=0, lock=threading.Lock())), [use, use], lambda s: s.n == 2


@program(is_broken=True)
def asyncio_lock_of_two_loops():
    def run(s):
        async def main():
            async with s.lock:
                await asyncio.sleep(0)

        asyncio.run(main())

    return (lambda: State(lock=asyncio.Lock())), [run, run], None


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program(name):
    is_broken, is_large, make = PROGRAMS[name]
    setup, threads, invariant = make()
    outcome = explore(setup, threads, invariant, max_runs=RUNS if is_large else None)
    if not is_broken:
        assert outcome.verdict == ("nothing_found" if is_large else "proved"), (
            outcome.verdict,
            outcome.reason,
            outcome.explanation,
        )
        return
    assert outcome.verdict == "failed", (outcome.reason, outcome.certificate)
    for _ in range(5):
        again = replay(setup, threads, invariant, schedule=outcome.schedule)
        assert (again.verdict, again.kind) == ("failed", outcome.kind)
