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
    assert outcome.verdict in ("proved", "nothing_found"), (outcome.reason, outcome.explanation)


def test_get_or_create_of_the_dict_makes_one_value():
    def setup():
        return SimpleNamespace(table=raceproof.ThreadSafeDict(), got=[])

    def use(s):
        s.got.append(s.table.get_or_create("key", object))

    outcome = explore(setup, [use] * 2, lambda s: s.got[0] is s.got[1])
    assert outcome.verdict in ("proved", "nothing_found"), (outcome.reason, outcome.explanation)
