"""Singletons, `once` and `Lazy`. Each docstring that quotes holds a sentence of docs/guide/once.md."""

import asyncio
import copy
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import time
import types
import weakref
from pathlib import Path

import pytest
from conftest import aget, run_together

import raceproof
from raceproof import Lazy, ThreadSafeSingleton, once

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


class Pickled(ThreadSafeSingleton):
    """At module level, so that it can be pickled."""


@once
def pickled_function():
    return object()


def race_of_loops(get_instance, threads=4, tasks=4):
    """Awaits `get_instance()` in each of some tasks on each of some loops at once; returns what they got."""

    async def main():
        return await asyncio.gather(*(get_instance() for _ in range(tasks)))

    return sum(run_together(*[lambda: asyncio.run(main())] * threads), [])


# --- made once ---


def test_an_instance_is_made_once_for_threads_and_loops():
    """ "is made once, under any mix of threads and event loops"; bounded: benches/primitives/races_once.py runs 10 000."""
    for round_ in range(200):
        made = []

        class Single(ThreadSafeSingleton):
            def __init__(self):
                made.append(self)
                time.sleep(0 if round_ % 2 else 0.0005)

        async def main(single=Single):
            return await asyncio.gather(*(single.get_instance() for _ in range(4)))

        calls = [lambda: asyncio.run(main())] * 2 + [lambda single=Single: [single.instance()]] * 2
        got = sum(run_together(*calls), [])
        assert len(made) == 1 and all(one is made[0] for one in got)


def test_an_instance_with_async_initialisation_is_made_once():
    """ "`__ainit__` has been awaited before anybody sees the instance"."""
    for _ in range(50):
        made = []

        class Single(ThreadSafeSingleton):
            async def __ainit__(self):
                made.append(self)
                await asyncio.sleep(0.001)
                self.is_ready = True

        got = race_of_loops(Single.get_instance)
        assert len(made) == 1 and all(one is made[0] and one.is_ready for one in got)
        assert Single.instance() is made[0]


def test_each_class_has_an_instance_of_its_own():
    """ "A subclass has an instance of its own, also when its base was made first"."""

    class Base(ThreadSafeSingleton):
        pass

    class Sub(Base):
        pass

    assert type(Base.instance()) is Base
    assert type(Sub.instance()) is Sub
    assert type(asyncio.run(Sub.get_instance())) is Sub


def test_the_arguments_of_the_first_call_make_it():
    """ "The arguments of the call that makes the instance are passed on; those of later calls are ignored"."""

    class Single(ThreadSafeSingleton):
        def __init__(self, a, *, b):
            self.given = (a, b)

    assert asyncio.run(Single.get_instance(1, b=2, timeout=1)).given == (1, 2)
    assert Single.instance(3, b=4).given == (1, 2)


def test_calling_the_class_makes_another_object():
    """ "`Cls()` makes an object that is not the instance"."""

    class Single(ThreadSafeSingleton):
        pass

    assert Single() is not Single.instance()


def test_a_reset_class_makes_a_new_instance():
    """ "`reset()` forgets the instance"."""

    class Single(ThreadSafeSingleton):
        pass

    first = Single.instance()
    Single.reset()
    second = asyncio.run(Single.get_instance())
    assert first is not second and Single.instance() is second


def test_a_reset_during_construction():
    """ "an instance that is being made at that moment goes to those who wait for it, and is not kept"."""
    entered, go = threading.Event(), threading.Event()

    def factory():
        entered.set()
        assert go.wait(30)
        return object()

    lazy = Lazy(factory)

    def reset():
        assert entered.wait(30)
        lazy.reset()
        go.set()

    first, _ = run_together(lazy.get, reset)
    assert not lazy.is_set
    assert lazy.get() is not first


# --- once ---


def test_once_runs_a_function_once(together):
    """ "every call returns what the first one returned"."""
    calls = []

    @once
    def function():
        """Docs."""
        calls.append(None)
        return object()

    assert len(set(together(*[function] * 4))) == 1 and len(calls) == 1
    assert (function.__name__, function.__doc__, inspect.signature(function).parameters) == ("function", "Docs.", {})
    with pytest.raises(TypeError):
        function(1)
    with pytest.raises(TypeError):
        function(a=1)
    function.reset()
    function()
    assert len(calls) == 2
    assert "function" in repr(function)


def test_once_runs_an_async_function_once():
    """ "An async function stays one"."""
    calls = []

    @once(timeout=30)
    async def function():
        calls.append(None)
        await asyncio.sleep(0.01)
        return object()

    assert inspect.iscoroutinefunction(function)
    got = race_of_loops(function)
    assert len(got) == 16 and len(set(got)) == 1 and len(calls) == 1


def test_once_shared():
    function = once(lambda: object(), shared=True)
    assert raceproof.is_shared(function()) == FREE_THREADED


# --- the awaitable that is ready ---


class Ready(ThreadSafeSingleton):
    pass


def test_a_hit_can_be_used_as_a_coroutine():
    """ "may be awaited any number of times, and passed to whatever takes a coroutine"."""
    instance = Ready.instance()

    async def main():
        ready = Ready.get_instance()
        assert await ready is await ready is instance
        assert inspect.isawaitable(ready) and asyncio.iscoroutine(ready)
        assert await asyncio.create_task(Ready.get_instance()) is instance
        assert await asyncio.wait_for(Ready.get_instance(), 1) is instance
        assert await asyncio.gather(Ready.get_instance(), Ready.get_instance()) == [instance] * 2
        return await asyncio.shield(Ready.get_instance())

    assert asyncio.run(main()) is instance
    assert asyncio.run(Ready.get_instance()) is instance
    assert inspect.iscoroutinefunction(Ready.get_instance)
    assert not inspect.iscoroutinefunction(Ready.instance)


def test_a_ready_awaitable_is_an_iterator_that_many_threads_may_use(together):
    instance = Ready.instance()
    ready = Ready.get_instance()

    @types.coroutine
    def by_hand():
        return (yield from ready)

    def drive():
        for _ in range(200):
            for step in (lambda: next(ready), lambda: ready.send(None), lambda: by_hand().send(None)):
                with pytest.raises(StopIteration) as caught:
                    step()
                assert caught.value.value is instance
        return list(ready)

    assert together(*[drive] * 4) == [[]] * 4
    with pytest.raises(KeyError):
        ready.throw(KeyError)
    with pytest.raises(KeyError, match="3"):
        ready.throw(KeyError, 3)
    with pytest.raises(TypeError):
        ready.throw()
    assert ready.close() is None
    with pytest.raises(TypeError):
        type(ready)()


def test_a_tuple_is_returned_as_it_is():
    lazy = Lazy(lambda: (1, 2))
    lazy.get()
    assert asyncio.run(aget(lazy)) == (1, 2)


# --- as people expect of such types ---


def test_copies_and_pickles_of_an_instance_are_the_instance():
    """ "Copies and pickles of the instance are references to the instance"."""
    instance = Pickled.instance()
    assert copy.copy(instance) is instance and copy.deepcopy([instance])[0] is instance
    assert pickle.loads(pickle.dumps(instance)) is instance
    other = Pickled()
    other.x = [1]
    assert copy.copy(other).x is other.x and copy.deepcopy(other).x == [1]
    assert type(pickle.loads(pickle.dumps(other))) is Pickled


def test_a_function_is_pickled_by_name():
    assert pickle.loads(pickle.dumps(pickled_function)) is pickled_function
    assert copy.deepcopy(pickled_function) is pickled_function


def test_a_lazy_is_neither_copied_nor_pickled():
    for function in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            function(Lazy(object))


def test_lazy_says_what_it_holds():
    lazy = Lazy[int](int)
    assert Lazy[int].__origin__ is Lazy
    assert not lazy.is_set and "empty" in repr(lazy)
    with pytest.raises(LookupError):
        lazy.value
    assert lazy.get() == 0 == lazy.value and lazy.is_set and "set" in repr(lazy)
    with pytest.raises(TypeError):
        Lazy(3)
    assert weakref.ref(lazy)() is lazy
    assert hash(lazy) and lazy == lazy and lazy != Lazy(int)


def test_an_async_factory_is_awaited():
    """ "its first call has to be awaited": the sync call says so, and finds the value afterwards."""

    async def make():
        return 5

    lazy = Lazy(make)
    with pytest.raises(TypeError, match="await"):
        lazy.get()
    assert asyncio.run(aget(lazy)) == 5 == lazy.get()


def test_circles_through_a_lazy_are_collected():
    """ "Cycles are collected": what the value, the factory and the function refer to."""

    class Node:
        pass

    def make():
        node = Node()
        node.lazy = Lazy(lambda: node)
        node.once = once(lambda: node)
        node.lazy.get(), node.once()
        asyncio.run(aget(node.lazy))
        return weakref.ref(node)

    refs = [make() for _ in range(10)]
    gc.collect()
    assert [ref() for ref in refs] == [None] * 10


def test_what_is_reset_is_freed():
    class Value:
        pass

    lazy = Lazy(Value)
    ref = weakref.ref(lazy.get())
    asyncio.run(aget(lazy))
    lazy.reset()
    gc.collect()
    assert ref() is None


def test_reset_and_get_from_many_threads():
    """A value that is forgotten while others read it: each gets a whole one."""
    lazy = Lazy(lambda: [1, 2, 3])
    end = time.monotonic() + 0.5

    def read():
        while time.monotonic() < end:
            assert lazy.get() == [1, 2, 3]

    def await_():
        async def main():
            while time.monotonic() < end:
                assert await lazy.aget() == [1, 2, 3]

        asyncio.run(main())

    def reset():
        while time.monotonic() < end:
            lazy.reset()

    run_together(read, await_, reset, reset)


def test_an_overridden_get_instance_may_use_that_of_the_base():
    class Base(ThreadSafeSingleton):
        pass

    class Single(Base):
        @classmethod
        async def get_instance(cls):
            instance = await super().get_instance()
            instance.seen = True
            return instance

    assert type(asyncio.run(Single.get_instance())) is Single
    assert Single.instance().seen
    assert type(Single.instance().instance()) is Single


def test_a_class_that_hides_the_base_hook_is_told():
    class Base(ThreadSafeSingleton):
        def __init_subclass__(cls):
            pass

    class Single(Base):
        pass

    for call in (lambda: Single.instance, lambda: Single.get_instance, Single.reset):
        with pytest.raises(TypeError, match="__init_subclass__"):
            call()


def test_dataclasses_with_slots_and_generics_are_singletons_too():
    import dataclasses
    from typing import Generic, TypeVar

    @dataclasses.dataclass(slots=True)
    class Single(ThreadSafeSingleton):
        x: int = 3

    assert type(Single.instance()) is Single and asyncio.run(Single.get_instance()).x == 3

    class Generic_(ThreadSafeSingleton, Generic[TypeVar("T")]):
        pass

    assert type(Generic_[int].instance()) is Generic_


@pytest.mark.skipif(not FREE_THREADED, reason="counts are only switched off without a GIL")
def test_a_singleton_is_shared_unless_that_is_switched_off():
    """ "those of the class and of the instance are switched off"; "`set_sharing(False)` keeps them on"."""

    class Single(ThreadSafeSingleton):
        pass

    assert raceproof.is_shared(Single.instance()) and raceproof.is_shared(Single)
    before = raceproof.set_sharing(False)
    try:

        class Counted(ThreadSafeSingleton):
            pass

        instance = weakref.ref(Counted.instance())
        asyncio.run(Counted.get_instance())
        assert not raceproof.is_shared(instance())
        Counted.reset()
        gc.collect()
        assert instance() is None
    finally:
        raceproof.set_sharing(before)


def test_a_subinterpreter_refuses_the_package():
    """ "The package refuses to be imported in a subinterpreter, with an ImportError"."""
    interpreters = pytest.importorskip("_interpreters")
    other = interpreters.create()
    try:
        code = f"""
import sys
sys.path[:] = {sys.path!r}
try:
    import raceproof
except ImportError:
    pass
else:
    raise AssertionError("imported")
"""
        assert interpreters.exec(other, code) is None
    finally:
        interpreters.destroy(other)


def test_races_without_a_failure():
    """Some of the 10 000 races of benches/primitives/races_once.py."""
    script = Path(__file__).parents[2] / "benches" / "primitives" / "races_once.py"
    ended = subprocess.run([sys.executable, script, "300"], capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
