"""`ThreadLocal`. A sentence in a docstring is one of docs/guide/threads.md."""

import copy
import gc
import os
import sys
import threading
import unittest
import weakref

import pytest
from test_count import in_child

from raceproof import AtomicInt, StripedCounter, ThreadLocal


class Thing:
    pass


def test_each_thread_has_its_own_value(together):
    """What one thread sets, no other sees: not through `value`, not through `get`, not through an attribute."""
    local = ThreadLocal()

    def use(mine):
        def body():
            assert local.get(None) is None
            assert not hasattr(local, "value")
            assert not hasattr(local, "other")
            for _ in range(2000):
                local.value = mine
                assert local.value is mine
                local.set(mine)
                assert local.get() is mine
                local.other = mine
                assert local.other is mine

        return body

    together(*(use(Thing()) for _ in range(8)))
    assert local.get(None) is None


def test_the_factory_runs_once_for_each_thread(together):
    """The factory runs at most once for each thread, when it first asks."""
    made = AtomicInt()

    def make():
        made.inc()
        return []

    local = ThreadLocal(make)
    assert made == 0

    def use():
        assert local.value is local.get() is local.value

    together(*[use] * 6)
    assert made == 6


def test_a_factory_that_raises_leaves_nothing():
    """What the factory raises reaches the caller, and the next read calls it again."""
    outcomes = iter([1 / 3, 2])

    def make():
        made = next(outcomes)
        if made != 2:
            raise ValueError("not yet")
        return made

    local = ThreadLocal(make)
    with pytest.raises(ValueError, match="not yet"):
        local.get()
    assert local.value == 2


def test_a_factory_may_set_the_value_itself():
    """The factory's result counts, whatever the factory did to the value."""

    class Deleting:
        def __del__(self):
            del local.value

    def make():
        local.value = Deleting()
        return "made"

    local = ThreadLocal(make)
    assert local.get() == "made"


def test_without_a_value():
    """Without a value and a factory `get()` raises LookupError or returns the default, and `value` raises
    AttributeError."""
    local = ThreadLocal()
    with pytest.raises(LookupError):
        local.get()
    assert local.get(None) is None
    with pytest.raises(AttributeError):
        local.value  # noqa: B018
    with pytest.raises(AttributeError):
        del local.value
    local.value = 1
    del local.value
    assert local.get("default") == "default"
    with pytest.raises(TypeError):
        local.get(1, 2)
    with pytest.raises(TypeError):
        ThreadLocal(5)


def test_values_of_ended_threads_are_freed(together):
    """A thread's value and attributes are freed when it ends, and no later thread sees them."""
    local = ThreadLocal()
    weak = []

    def use():
        assert local.get(None) is None
        assert not hasattr(local, "thing")
        local.value, local.thing = Thing(), Thing()
        weak.extend([weakref.ref(local.value), weakref.ref(local.thing)])

    for _ in range(50):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    together(*[use] * 4)
    gc.collect()
    assert [reference() for reference in weak] == [None] * 108
    assert local.values() == []


def test_values_are_those_of_the_living(together):
    """`values()` holds the value of each thread that has one and has not ended."""
    local = ThreadLocal(StripedCounter)
    barrier = threading.Barrier(5)

    def count(n):
        def body():
            local.value.inc(n)
            barrier.wait(30)
            barrier.wait(30)

        return body

    def add_up():
        barrier.wait(30)
        total = sum(value.get() for value in local.values())
        barrier.wait(30)
        return total

    assert together(add_up, *(count(n) for n in (1, 10, 100, 1000)))[0] == 1111
    local.value.inc(5)
    assert local.values() == [5]


def test_values_read_while_others_set_and_end(together):
    """`values()` may be called while other threads set values and end; it never returns one that was freed."""
    local = ThreadLocal()
    stop = threading.Event()

    def set_and_end():
        def short():
            for n in range(50):
                local.value = [n]

        for _ in range(60):
            thread = threading.Thread(target=short)
            thread.start()
            thread.join()
        stop.set()

    def read():
        while not stop.is_set():
            for value in local.values():
                assert 0 <= value[0] < 50

    together(set_and_end, read, read)


def test_values_are_freed_with_the_local(together):
    """The values of all threads are freed with the ThreadLocal itself."""
    local = ThreadLocal()
    barrier = threading.Barrier(3)
    weak = []

    def use():
        thing = Thing()
        weak.append(weakref.ref(thing))
        local.value = thing
        del thing
        barrier.wait(30)
        barrier.wait(30)

    def free():
        nonlocal local
        barrier.wait(30)
        del local
        gc.collect()
        freed = [reference() for reference in weak]
        barrier.wait(30)
        return freed

    assert together(free, use, use)[0] == [None, None]


def test_short_lived_locals_do_not_pile_up():
    """A thread that lives long remembers nothing of ThreadLocals that are gone."""
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else pytest.skip("no /proc") as statm:
        pages = []
        for _ in range(3):
            for _ in range(20_000):
                ThreadLocal(list).value.append(1)
            gc.collect()
            statm.seek(0)
            pages.append(int(statm.read().split()[1]))
    assert pages[2] - pages[1] < 500


def test_a_del_may_use_the_local_at_the_end_of_its_thread():
    """When a thread ends, the `__del__` of its values may still use the ThreadLocal; what it leaves there no other
    thread sees."""
    local = ThreadLocal()
    seen = []

    class Last:
        def __del__(self):
            seen.append(local.get("empty"))
            local.value = "left"

    def use():
        seen.append(local.get("fresh"))
        local.value = Last()

    for _ in range(5):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert seen == ["fresh", "empty"] * 5
    assert local.values() == []


def test_cycles_are_collected():
    """Cycles through a ThreadLocal are collected."""
    local = ThreadLocal()
    local.value = local.again = [local]
    weak = weakref.ref(local)
    del local
    gc.collect()
    assert weak() is None


def test_subclasses():
    """The `__init__` of a subclass runs in each thread, with the arguments of the constructor; if it raises, it runs
    again at the next use."""
    failing = AtomicInt()

    class Local(ThreadLocal):
        @property
        def double(self):
            return 2 * self.number

        @double.setter
        def double(self, value):
            self.number = value // 2

        def __init__(self, number, *, fails=False):
            if fails and failing.inc() == 2:
                raise ValueError
            self.number = number

    local = Local(4, fails=True)
    assert local.double == 8
    local.double = 6
    seen = []

    def use():
        with pytest.raises(ValueError):
            local.number  # noqa: B018
        seen.append(local.number)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert (seen, local.number, local.__dict__) == ([4], 3, {"number": 3})


def test_attributes():
    local = ThreadLocal()
    local.name = 1
    assert local.__dict__ == {"name": 1}
    del local.name
    with pytest.raises(AttributeError):
        del local.name
    with pytest.raises(AttributeError):
        local.name  # noqa: B018
    with pytest.raises(TypeError):
        object.__getattribute__(local, 5)
    with pytest.raises(TypeError):
        local.__setattr__(5, 1)
    assert getattr(local, "".join(["val", "ue"]), "none") == "none"
    setattr(local, "".join(["val", "ue"]), 3)
    assert getattr(local, "".join(["val", "ue"])) == local.value == 3
    assert ThreadLocal[int].__origin__ is ThreadLocal
    for copying in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copying(local)


def test_the_suite_of_threading_local():
    """`ThreadLocal` passes CPython's suite for `threading.local` (11 of 11 tests)."""
    suite = pytest.importorskip("test.test_threading_local")
    judged = type("Judged", (unittest.TestCase, suite.BaseLocalTest), {"_local": ThreadLocal})
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(judged).run(result)
    assert (result.failures, result.errors) == ([], [])
    assert result.testsRun >= 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork():
    """In a forked child the thread that forked keeps its value, and the values of all others are freed."""
    printed = in_child("""if True:
        import os, threading, warnings
        from raceproof import ThreadLocal
        warnings.simplefilter("ignore")
        local = ThreadLocal()
        local.value = "main"
        ready, stop = threading.Event(), threading.Event()
        def use():
            local.value = "other"
            ready.set()
            stop.wait()
        thread = threading.Thread(target=use)
        thread.start()
        ready.wait()
        child = os.fork()
        if not child:
            print(local.value, local.values(), flush=True)
            thread = threading.Thread(target=lambda: print(local.get(None), flush=True))
            thread.start()
            thread.join()
            os._exit(0)
        os.waitpid(child, 0)
        stop.set()
        """)
    assert printed == "main ['main']\nNone\n"


def test_until_the_end_of_the_interpreter():
    """At the end of the interpreter values are freed like other objects, also those of threads that still run."""
    begin = """if True:
        import threading, time
        from raceproof import ThreadLocal
        local = ThreadLocal()
        class Last:
            def __del__(self): print("freed", flush=True)
        """
    assert in_child(begin + "local.value = Last()") == "freed\n"
    other = """def use():
            local.value = Last()
            ready.set()
            time.sleep(60)
        ready = threading.Event()
        threading.Thread(target=use, daemon=True).start()
        ready.wait()
        """
    assert in_child(begin + other) == "freed\n"


@pytest.mark.skipif("free-threading" not in sys.version, reason="reference counts differ only without a GIL")
def test_reading_does_not_leak(together):
    local = ThreadLocal()
    held = Thing()

    def use():
        local.value = held
        for _ in range(1000):
            local.value, local.get()
            local.set(held)
            local.values()

    before = sys.getrefcount(held)
    together(use, use)
    gc.collect()
    assert sys.getrefcount(held) == before
