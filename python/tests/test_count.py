"""Counters and references. A sentence in a docstring is one of docs/guide/counters.md."""

import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref

import pytest

from raceproof import AtomicInt, AtomicReference, StripedCounter

N = 20_000
BOTH = pytest.mark.parametrize("type_", [StripedCounter, AtomicInt])


def in_child(code):
    """The output of a Python program that must end well."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_striped_counter_loses_nothing(together):
    """No addition is lost, whatever the number of threads."""
    counter = StripedCounter(5)

    def add():
        mine = counter
        for _ in range(N):
            mine += 1
            mine.inc(2)
            mine.add(-1)
            mine -= 1

    together(*[add] * 4)
    assert counter == 5 + 4 * N


def test_a_sum_read_meanwhile_never_goes_back(together):
    """A sum that is read while others add holds every addition that had ended before, and any of those under way; as
    long as nobody subtracts it never goes back."""
    counter = StripedCounter()
    ended = AtomicInt()

    def add():
        for _ in range(N):
            counter.inc()
            ended.inc()

    def read():
        last = 0
        while last < 2 * N:
            least = ended.get()
            now = counter.get()
            assert now >= least
            assert now >= last
            last = now

    together(add, add, read)


def test_reset_takes_each_addition_once(together):
    """`reset` returns what it takes: each addition is either in there or stays."""
    counter = StripedCounter()
    taken = []

    def add():
        for _ in range(N):
            counter.inc()

    together(add, add, lambda: taken.extend(counter.reset() for _ in range(500)))
    assert sum(taken) + counter.get() == 2 * N
    assert counter.reset() == 2 * N - sum(taken)
    assert counter.value == 0


def test_a_sum_may_be_wider_than_a_cell(together):
    """A sum has no bound; what a thread adds to its own cell is bound to 64 bits."""
    counter = StripedCounter(2**63 - 1)
    together(lambda: counter.add(2**63 - 1))
    assert counter.get() == 2**64 - 2
    assert int(counter) == 2**64 - 2


@BOTH
def test_overflow_changes_nothing(type_):
    """A result that does not fit into 64 bits raises OverflowError and changes nothing."""
    counter = type_(2**63 - 1)
    alias = counter
    with pytest.raises(OverflowError):
        alias += 1
    with pytest.raises(OverflowError):
        counter.add(1)
    with pytest.raises(OverflowError):
        counter.inc()
    with pytest.raises(OverflowError):
        counter.add(2**63)
    assert counter == 2**63 - 1
    counter = type_(-(2**63))
    alias = counter
    with pytest.raises(OverflowError):
        alias -= 1
    with pytest.raises(OverflowError):
        alias -= -(2**63)
    assert counter == -(2**63)
    with pytest.raises(OverflowError):
        type_(2**63)


@BOTH
def test_only_whole_numbers_are_added(type_):
    counter = type_(1)
    for wrong in (1.5, "1", None):
        with pytest.raises(TypeError):
            counter.add(wrong)
        with pytest.raises(TypeError):
            counter += wrong
    counter += AtomicInt(2)
    counter += True
    assert counter == 4
    for method in (counter.inc, counter.add):
        with pytest.raises(TypeError):
            method(1, 2)
    with pytest.raises(TypeError):
        counter + 1


def test_each_caller_draws_another_number(together):
    """Every operation of AtomicInt is linearizable: `fetch_add` gives each caller another number."""
    number = AtomicInt()
    drawn = together(*[lambda: [number.fetch_add(1) for _ in range(N)]] * 3)
    assert sorted(sum(drawn, [])) == list(range(3 * N))
    drawn = together(*[lambda: [number.inc() for _ in range(N)]] * 3)
    assert sorted(sum(drawn, [])) == list(range(3 * N + 1, 6 * N + 1))


def test_one_thread_wins_a_compare_and_set(together):
    """`compare_and_set` lets exactly one of several threads win."""
    for expected in range(200):
        number = AtomicInt(expected)
        won = together(*[lambda number=number, expected=expected: number.compare_and_set(expected, -1)] * 3)
        assert sorted(won) == [False, False, True]


def test_operations_of_atomic_int():
    number = AtomicInt(10)
    assert (number.get(), number.load(), number.value) == (10, 10, 10)
    assert number.set(3) is None
    assert number.store(4) is None
    assert (number.add(6), number.fetch_add(1), number.inc(), number.inc(2)) == (10, 10, 12, 14)
    assert (number.dec(), number.dec(3), number.exchange(0)) == (13, 10, 10)
    assert not number.compare_and_set(1, 2)
    assert number.compare_and_set(0, 2)
    with pytest.raises(TypeError):
        number.compare_and_set(1)


def test_update_with_runs_again(together):
    """`update_with` runs the function without a lock, and again if another thread was faster; an exception of it
    changes nothing."""
    number = AtomicInt()

    def update():
        for _ in range(N // 10):
            number.update_with(lambda old: old + 1)

    together(update, update, update)
    assert number == 3 * (N // 10)

    calls = []

    def disturbed(old):
        calls.append(old)
        if len(calls) == 1:
            number.set(100)
        return old + 1

    assert number.update_with(disturbed) == 101
    assert len(calls) == 2
    for wrong in (lambda _: 1 / 0, lambda _: "x", lambda _: 2**63):
        with pytest.raises((ZeroDivisionError, TypeError, OverflowError)):
            number.update_with(wrong)
    assert number == 101


@BOTH
def test_nothing_blocks(type_, together):
    """Nothing here blocks: a thread that stops in the middle, in a function that it passed, holds up nobody."""
    number, reference, counter = AtomicInt(), AtomicReference(0), type_()
    inside, go_on = threading.Event(), threading.Event()

    def stop(_):
        if not inside.is_set():
            inside.set()
            assert go_on.wait(30)
        return 7

    def others():
        assert inside.wait(30)
        counter.inc()
        assert number.inc() == 1
        reference.set(1)
        go_on.set()

    together(lambda: number.update_with(stop), others)
    assert number == 7
    inside.clear()
    go_on.clear()
    together(lambda: reference.update_with(stop), lambda: [number.set(0), others()])
    assert reference.get() == 7


@BOTH
def test_they_compare_by_value(type_):
    """They compare with numbers by their value, read once, and have no hash."""
    counter = type_(3)
    assert counter == 3 == counter
    assert counter != 4
    assert counter == AtomicInt(3)
    assert counter == StripedCounter(3)
    assert counter < 3.5
    assert 2 < counter <= AtomicInt(3)
    assert counter > 2
    assert counter >= 3
    assert counter != "3"
    assert counter
    assert not type_()
    assert [10, 11, 12, 13][counter] == 13
    assert hex(counter) == "0x3"
    with pytest.raises(TypeError):
        hash(counter)
    with pytest.raises(TypeError):
        counter < "3"  # noqa: B015
    assert repr(counter) == f"{type_.__name__}(3)"


@BOTH
def test_counters_are_copied_with_their_value(type_):
    """`copy`, `deepcopy` and `pickle` make a new object with the value of that moment."""

    counter = type_(3)
    for other in (copy.copy(counter), copy.deepcopy(counter), pickle.loads(pickle.dumps(counter))):
        assert type(other) is type_
        assert other == 3
        other += 1
    assert counter == 3
    assert weakref.ref(counter)() is counter


class Tagged(AtomicInt):
    tag = None


def test_a_subclass_keeps_its_attributes_in_a_copy():
    number = Tagged(5)
    number.tag = "x"
    again = pickle.loads(pickle.dumps(number))
    assert (again, again.tag, repr(again)) == (5, "x", "Tagged(5)")


def test_readers_never_get_a_freed_object(together):
    """Whoever reads an AtomicReference gets an object that stood there at some moment of the call, never one that was
    freed."""
    reference = AtomicReference([0, 0])

    def write():
        for n in range(N):
            reference.set([n, n])

    def swap():
        for n in range(N):
            first, second = reference.exchange([n, n])
            assert first == second

    def read():
        for _ in range(2 * N):
            first, second = reference.get()
            assert first == second

    together(write, swap, read, read)


def test_objects_are_told_apart_by_identity(together):
    """Objects are told apart by identity: `__eq__` is never called."""

    class Never:
        def __eq__(self, other):
            raise AssertionError("called")

        __hash__ = None

    first, second = Never(), Never()
    reference = AtomicReference(first)
    assert not reference.compare_and_set(second, None)
    won = together(*[lambda: reference.compare_and_set(first, second)] * 3)
    assert sorted(won) == [False, False, True]
    assert reference.get() is second
    assert AtomicReference(1) != AtomicReference(1)
    assert hash(reference) == hash(reference)


def test_update_with_of_a_reference_loses_nothing(together):
    """`update_with` of AtomicReference loses no update, and an exception of the function changes nothing."""
    reference = AtomicReference(())

    def add():
        for n in range(300):
            reference.update_with(lambda old, n=n: (*old, n))

    together(add, add, add)
    assert sorted(reference.get()) == sorted(list(range(300)) * 3)
    with pytest.raises(ZeroDivisionError):
        reference.update_with(lambda _: 1 / 0)
    assert len(reference.get()) == 900


def test_a_del_may_use_the_reference(together):
    """A replaced object is freed while nothing is held, so its `__del__` may use the same reference."""
    reference = AtomicReference()
    freed = AtomicInt()

    class Freed:
        def __del__(self):
            reference.get()
            reference.compare_and_set(self, None)
            freed.inc()

    def replace():
        for _ in range(1000):
            reference.set(Freed())

    together(replace, replace)
    reference.set(None)
    gc.collect()
    assert freed == 2000


def test_cycles_through_a_reference_are_collected():
    """Cycles through an AtomicReference are collected."""
    reference = AtomicReference()
    reference.set([reference])
    weak = weakref.ref(reference)
    del reference
    gc.collect()
    assert weak() is None


def test_a_reference_looks_as_expected():
    reference = AtomicReference([1])
    assert repr(reference) == "AtomicReference([1])"
    reference.set(reference)
    assert repr(reference) == "AtomicReference(AtomicReference(...))"
    reference.set({"a": 1})
    for other in (copy.copy(reference), pickle.loads(pickle.dumps(reference))):
        assert other.get() == {"a": 1}
    assert copy.copy(reference).get() is reference.get()
    assert copy.deepcopy(reference).get() is not reference.get()
    assert AtomicReference[int].__origin__ is AtomicReference
    assert AtomicReference().get() is None


def test_a_reference_does_not_leak():
    held = object()
    before = sys.getrefcount(held)
    reference = AtomicReference(held)
    for _ in range(100):
        reference.set(held)
        reference.exchange(held)
        reference.compare_and_set(held, held)
        reference.update_with(lambda old: old)
        reference.get()
    del reference
    assert sys.getrefcount(held) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_its_own():
    """A forked child goes on with copies of its own, and none of them is locked."""
    printed = in_child("""if True:
        import os, threading, warnings
        from raceproof import AtomicInt, AtomicReference, StripedCounter
        warnings.simplefilter("ignore")
        counter, number, reference = StripedCounter(1), AtomicInt(1), AtomicReference(1)
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                counter.add(0); number.add(0); reference.set(1)
        threads = [threading.Thread(target=busy) for _ in range(2)]
        for thread in threads: thread.start()
        for _ in range(20):
            child = os.fork()
            if not child:
                counter.inc(); number.inc(); reference.set(2)
                os._exit(0 if (counter, number, reference.get()) == (2, 2, 2) else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        print(counter, number, reference)
        """)
    assert printed == "StripedCounter(1) AtomicInt(1) AtomicReference(1)\n"


def test_they_work_until_the_interpreter_has_ended():
    """They work in `atexit` callbacks and in the `__del__` of objects that the end of the interpreter frees."""
    printed = in_child("""if True:
        import atexit
        from raceproof import AtomicInt, AtomicReference, StripedCounter
        counter = StripedCounter()
        class Last:
            def __init__(self): self.number = AtomicInt(41)
            def __del__(self): print("del", self.number.inc(), flush=True)
        last = AtomicReference(Last())
        atexit.register(lambda: [counter.inc(), print("exit", counter, flush=True)])
        """)
    assert printed == "exit StripedCounter(1)\ndel 42\n"


def test_a_subinterpreter_cannot_import_the_package():
    """A subinterpreter cannot import the package: it gets an ImportError."""
    interpreters = pytest.importorskip("_interpreters")
    interpreter = interpreters.create()
    try:
        failed = interpreters.exec(interpreter, "import raceproof")
    finally:
        interpreters.destroy(interpreter)
    assert failed.type.__name__ == "ImportError"
