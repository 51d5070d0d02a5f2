"""Exploration where frames are not read: it comes to the same verdicts, and the certificate says what was not told
apart. On CPython 3.13 the portable observer is asked for; elsewhere there is no other."""

import json
import os
import subprocess
import sys

import pytest

PROGRAMS = """
import collections, json, sys, threading, weakref
import raceproof
from threading import Lock
from types import SimpleNamespace
from raceproof.testing import explore, replay

EARLY, IN_A_TUPLE, EARLY_RW = threading.Lock(), (threading.Lock(),), raceproof.RWLock()
n = 0

def add(s):
    s.n += 1

def add_locked(s):
    with s.lock:
        s.n += 1

def add_early(s):
    with EARLY:
        s.n += 1

def add_in_tuple(s):
    (lock,) = IN_A_TUPLE
    lock.acquire()
    s.n += 1
    lock.release()

def count(s):
    s.words.update("a")

def put(s):
    if "k" not in s.d:
        s.d["k"] = object()
        s.made.append(1)

def setdefault(s):
    s.got.append(s.d.setdefault("k", object()))

def other_key(i):
    def run(s):
        s.d[i] = s.d[i] + 1
    return run

def write_early(s):
    with EARLY_RW.write():
        s.n += 1

def add_by_slot(s):
    s.d.__setitem__("n", s.d.__getitem__("n") + 1)

class Strong:
    n = 0

def ask_weakly(s):
    s.is_there.wait()
    if s.ref() is not None:
        s.n = s.ref().n

def let_go(s):
    s.strong = Strong()
    s.ref = weakref.ref(s.strong)
    s.is_there.set()
    s.strong = None

def first(s):
    with s.a, s.b:
        s.n += 1

def second(s):
    with s.b, s.a:
        s.n += 1

def total(s):
    s.seen = sum(s.d.values())

def move(s):
    s.d[0] -= 1
    s.d[1] += 1

def unknown(s):
    for pair in [s.pairs]:
        for one, _ in pair:
            one.append(1)

def whole(s):
    s.n = len(s.pairs[0][0])

def closures():
    n = 0
    def run(s):
        nonlocal n
        n += 1
        s.n = n
    return run

def state(**values):
    return lambda: SimpleNamespace(n=0, **values)

closure = closures()
SCENARIOS = {
    "lost update": (state(), [add, add], lambda s: s.n == 2),
    "locked": (lambda: SimpleNamespace(n=0, lock=Lock()), [add_locked] * 3, lambda s: s.n == 3),
    "early lock": (state(), [add_early] * 2, lambda s: s.n == 2),
    "lock in a tuple": (state(), [add_in_tuple] * 2, lambda s: s.n == 2),
    "early read-write lock": (state(), [write_early] * 2, lambda s: s.n == 2),
    "slot methods": (lambda: SimpleNamespace(d={"n": 0}), [add_by_slot] * 2, lambda s: s.d["n"] == 2),
    "weak reference": (lambda: SimpleNamespace(n=0, strong=None, ref=None, is_there=threading.Event()),
                       [ask_weakly, let_go], None),
    "counter": (lambda: SimpleNamespace(words=collections.Counter()), [count] * 2, lambda s: s.words["a"] == 2),
    "check then act": (lambda: SimpleNamespace(d={}, made=[]), [put] * 2, lambda s: s.made == [1]),
    "setdefault": (lambda: SimpleNamespace(d={}, got=[]), [setdefault] * 2, lambda s: s.got[0] is s.got[1]),
    "two keys": (lambda: SimpleNamespace(d={0: 0, 1: 0}, n=0), [other_key(0), other_key(1), add], None),
    "two orders": (lambda: SimpleNamespace(n=0, a=Lock(), b=Lock()), [first, second], None),
    "torn sum": (lambda: SimpleNamespace(d={0: 1, 1: 0}, seen=1), [total, move], lambda s: s.seen == 1),
    "unknown": (lambda: SimpleNamespace(pairs=[([], 0)], n=0), [unknown, whole], lambda s: s.n in (0, 1)),
    "closure": (state(), [closure, closure], lambda s: True),
}

setup, threads, invariant = SCENARIOS[sys.argv[1]]
outcome = explore(setup, threads, invariant, runtime="free-threaded")
again = [replay(setup, threads, invariant, schedule=outcome.schedule, runtime="free-threaded").verdict
         for _ in range(20) if outcome.schedule]
print(json.dumps([outcome.verdict, outcome.certificate["granularity"], outcome.certificate["untracked"], again]))
print(EARLY.locked(), type(EARLY).__module__, file=sys.stderr)
"""

pytestmark = pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="nothing says what runs before 3.12")


def explored(tmp_path, name, observer="portable"):
    path = tmp_path / "program.py"
    path.write_text(PROGRAMS)
    done = subprocess.run(
        [sys.executable, path, name],
        env=os.environ | {"RACEPROOF_OBSERVER": observer},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("False _thread\n"), "the lock of the program is not what it was"
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["locked", "early lock", "early read-write lock", "setdefault"])
def test_what_is_right_is_proved(tmp_path, name):
    verdict, granularity, untracked, _ = explored(tmp_path, name)
    assert (verdict, untracked) == ("proved", [])
    assert "without reading frames" in granularity
    assert "one place" not in granularity


@pytest.mark.parametrize("name", ["lost update", "counter", "check then act", "slot methods", "two orders", "torn sum"])
def test_what_is_broken_fails_and_is_replayed(tmp_path, name):
    verdict, _, _, again = explored(tmp_path, name)
    assert verdict == "failed"
    assert again == ["failed"] * 20


def test_a_lock_that_cannot_be_replaced_is_waited_for_and_named(tmp_path):
    verdict, _, untracked, _ = explored(tmp_path, "lock in a tuple")
    assert verdict == "nothing_found"
    assert untracked == ["a lock made before the exploration, where it could not be replaced"]


def test_where_objects_live_longer_than_the_program_lets_them_nothing_is_proved(tmp_path):
    verdict, _, untracked, _ = explored(tmp_path, "weak reference")
    assert verdict in ("failed", "nothing_found")
    assert any("when objects die" in what for what in untracked), untracked


def test_containers_that_are_not_known_are_one_place(tmp_path):
    verdict, granularity, untracked, _ = explored(tmp_path, "unknown")
    assert (verdict, untracked) == ("proved", [])
    assert granularity.endswith("all containers are one place")


def test_two_items_of_a_dict_are_two_places(tmp_path):
    """No two threads touch the same thing, and that is seen."""
    assert explored(tmp_path, "two keys")[0] == "gave_up"


def test_code_that_is_too_intricate_to_walk_through_is_seen_all_the_same(monkeypatch):
    from raceproof.instrument import _code, _operands

    def both(code):
        return [offset for offset, *_ in _code.description_with_sources(code)[2]]

    whole = both(explored.__code__)
    monkeypatch.setattr(_operands, "_ROUNDS_MAX", 3)
    assert whole and set(whole) <= set(both(explored.__code__))


def test_a_variable_of_a_closure_is_named(tmp_path):
    verdict, granularity, _, _ = explored(tmp_path, "closure")
    assert verdict == "proved"
    assert "a variable of a closure is one place for all functions: n" in granularity


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="frames of CPython 3.13 are read")
def test_on_3_13_frames_are_read_unless_the_other_is_asked_for(tmp_path):
    verdict, granularity, _, _ = explored(tmp_path, "locked", observer="")
    assert (verdict, granularity) == ("proved", "one access to one object, of those that race")


def test_an_observer_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(AssertionError, match="it is native or portable"):
        explored(tmp_path, "locked", observer="exact")
