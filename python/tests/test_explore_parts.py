"""Exploration of programs that use the parts of raceproof: locks, containers, what is made once."""

import sys
import threading
from types import SimpleNamespace

import pytest

import raceproof
from raceproof.testing import explore

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="frames of CPython 3.13 are read")

EARLY_LOCK = raceproof.Lock("early")


def add(s):
    held = s.n
    s.n = held + 1


def test_a_lock_of_ours_makes_it_proved():
    def add_locked(s):
        with s.lock:
            add(s)

    def setup():
        return SimpleNamespace(n=0, lock=raceproof.Lock("n"))

    outcome = explore(setup, [add_locked] * 3, lambda s: s.n == 3)
    assert outcome.verdict == "proved", (outcome.reason, outcome.certificate)


def test_a_lock_of_ours_made_before_the_exploration_counts():
    def add_locked(s):
        with EARLY_LOCK:
            add(s)

    outcome = explore(lambda: SimpleNamespace(n=0), [add_locked] * 2, lambda s: s.n == 2)
    assert outcome.verdict == "proved", (outcome.reason, outcome.certificate)


def test_a_wait_with_a_limit_can_end_by_it():
    def add_within(s):
        try:
            with s.lock.within(0.5):
                add(s)
        except raceproof.WaitTimeout:
            s.late += 1

    def setup():
        return SimpleNamespace(n=0, late=0, lock=raceproof.RLock())

    assert explore(setup, [add_within] * 2, lambda s: s.late == 0).verdict == "failed"
    assert explore(setup, [add_within] * 2, lambda s: s.n + s.late == 2).verdict == "proved"


def test_what_is_made_once_is_made_once_and_those_who_wait_go_on():
    def setup():
        s = SimpleNamespace(n=0, inside=threading.Lock())

        def make():
            with s.inside:
                s.n += 1
            return object()

        s.make = raceproof.once(make)
        return s

    def use(s):
        s.make()

    outcome = explore(setup, [use] * 2, lambda s: s.n == 1)
    assert outcome.verdict == "proved", (outcome.reason, outcome.explanation)


def test_get_or_create_of_the_dict_makes_one_value():
    def setup():
        return SimpleNamespace(table=raceproof.ThreadSafeDict(), got=[])

    def use(s):
        s.got.append(s.table.get_or_create("key", object))

    outcome = explore(setup, [use] * 2, lambda s: s.got[0] is s.got[1])
    assert outcome.verdict == "proved", (outcome.reason, outcome.explanation)


def make_under_lock(s):
    with s.lock:
        s.n += 1
    return object()


@pytest.mark.parametrize(
    "make",
    [
        lambda s: raceproof.Lazy(lambda: make_under_lock(s)).get,
        lambda s: lambda table=raceproof.ConcurrentMap(): table.get_or_create("key", lambda: make_under_lock(s)),
        lambda s: lambda cache=raceproof.Cache(8): cache.get_or_load("key", lambda *_: make_under_lock(s)),
    ],
    ids=["Lazy", "ConcurrentMap", "Cache"],
)
def test_who_waits_for_what_is_made_once_waits_for_its_maker(make):
    def setup():
        s = SimpleNamespace(n=0, lock=threading.Lock(), got=[])
        s.get = make(s)
        return s

    def use(s):
        s.got.append(s.get())

    outcome = explore(setup, [use] * 2, lambda s: s.n == 1 and s.got[0] is s.got[1])
    assert outcome.verdict == "proved", (outcome.reason, outcome.explanation, outcome.certificate)


def test_a_maker_that_waits_for_who_waits_for_it_is_a_deadlock():
    def setup():
        s = SimpleNamespace(n=0, lock=threading.Lock(), early=threading.Event())
        s.make = raceproof.once(lambda: make_under_lock(s))
        return s

    def first(s):
        s.make()

    def second(s):
        with s.lock:
            s.n += 1
            if s.n == 1:
                s.make.__call__()

    outcome = explore(setup, [first, second])
    assert (outcome.verdict, outcome.kind) == ("failed", "deadlock"), (outcome.reason, outcome.explanation)


def read_both(s):
    with s.lock.read():
        assert s.x == s.y


def write_both(s):
    with s.lock.write():
        s.x += 1
        s.y += 1


def test_a_read_write_lock_makes_it_proved():
    def setup():
        return SimpleNamespace(x=0, y=0, lock=raceproof.RWLock())

    outcome = explore(setup, [read_both, write_both, write_both], lambda s: s.x == 2)
    assert outcome.verdict == "proved", (outcome.reason, outcome.explanation, outcome.certificate)


def test_writing_while_others_read_is_found():
    def write_as_reader(s):
        with s.lock.read():
            s.x += 1
            s.y += 1

    def setup():
        return SimpleNamespace(x=0, y=0, lock=raceproof.RWLock())

    assert explore(setup, [read_both, write_as_reader]).verdict == "failed"


def test_a_read_write_lock_and_another_in_both_orders_are_a_deadlock():
    def read_then_lock(s):
        with s.lock.read(), s.other:
            s.n += 1

    def lock_then_write(s):
        with s.other, s.lock.write():
            s.n += 1

    def setup():
        return SimpleNamespace(n=0, lock=raceproof.RWLock(), other=threading.Lock())

    outcome = explore(setup, [read_then_lock, lock_then_write])
    assert (outcome.verdict, outcome.kind) == ("failed", "deadlock"), (outcome.reason, outcome.explanation)


def test_a_writer_that_waits_keeps_later_readers_out():
    def read_until_read(s):
        with s.lock.read():
            s.is_read.wait()

    def read_then_say(s):
        with s.lock.read():
            s.is_read.set()

    def write(s):
        with s.lock.write():
            s.n = 1

    def setup():
        return SimpleNamespace(n=0, lock=raceproof.RWLock(), is_read=threading.Event())

    assert explore(setup, [read_until_read, read_then_say]).verdict in ("proved", "nothing_found")
    assert explore(setup, [read_until_read, read_then_say, write]).verdict == "failed"
