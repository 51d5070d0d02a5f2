"""The sharing policy. A sentence in a docstring is one of docs/guide/sharing.md."""

import gc
import os
import subprocess
import sys
import weakref

import pytest

import raceproof
from raceproof import AtomicInt, AtomicReference, StripedCounter, ThreadLocal, is_shared, set_sharing, share

FREE_THREADED = "free-threading" in sys.version
DEFERRED = FREE_THREADED and sys.version_info >= (3, 14)
free_threaded_only = pytest.mark.skipif(not FREE_THREADED, reason="this build has a GIL: nothing is shared")


class Thing:
    pass


def child(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_share_returns_its_argument():
    """`share(object)` returns the object."""
    thing = Thing()
    assert share(thing) is thing


@free_threaded_only
def test_a_shared_object_is_not_counted():
    """A shared object is not counted: using it changes nothing in it."""
    thing = Thing()
    assert not is_shared(thing)
    share(thing)
    assert is_shared(thing)
    if not DEFERRED:
        before = sys.getrefcount(thing)
        more = [thing] * 1000
        assert sys.getrefcount(more[0]) == before


@free_threaded_only
def test_whether_a_shared_object_is_freed():
    """On 3.13 it is immortal: neither it nor what it holds is ever freed. On 3.14 and later the garbage collector frees
    it."""
    thing = Thing()
    held = thing.held = Thing()
    weak, weak_held = weakref.ref(thing), weakref.ref(held)
    share(thing)
    del thing, held
    gc.collect()
    assert (weak() is None) == DEFERRED
    assert (weak_held() is None) == DEFERRED


@free_threaded_only
@pytest.mark.skipif(DEFERRED, reason="3.14 can share from any thread")
def test_another_thread_cannot_share(together):
    """On 3.13 `share` does nothing where it would not be safe: in a thread that did not make the object, and once
    another thread holds a reference."""
    thing, seen = Thing(), Thing()
    together(lambda: share(thing))
    assert not is_shared(thing)

    holders = [seen]
    together(lambda: holders.append(holders[0]))
    share(seen)
    assert not is_shared(seen)


@pytest.mark.skipif(FREE_THREADED, reason="this build has no GIL")
def test_with_a_gil_nothing_is_shared():
    """On a build with a GIL nothing happens: `is_shared` returns False."""
    assert not is_shared(share(Thing()))
    assert not is_shared(AtomicInt(shared=True))


@free_threaded_only
@pytest.mark.parametrize("type_", [AtomicInt, AtomicReference, StripedCounter, ThreadLocal])
def test_shared_true_is_the_same(type_):
    """`shared=True` shares a new object of ours; without it an object is counted and freed as usual."""
    assert is_shared(type_(shared=True))
    counted = type_()
    assert not is_shared(counted)
    weak = weakref.ref(counted)
    del counted
    gc.collect()
    assert weak() is None


@free_threaded_only
def test_sharing_can_be_switched_off():
    """`set_sharing(False)` makes `share` and `shared=True` do nothing, and returns what was set before; what is shared
    stays so."""
    shared = share(Thing())
    assert set_sharing(False) is True
    try:
        assert not is_shared(share(Thing()))
        assert not is_shared(AtomicInt(shared=True))
        assert is_shared(shared)
        assert set_sharing(False) is False
    finally:
        set_sharing(True)
    assert is_shared(AtomicInt(shared=True))


@free_threaded_only
def test_the_environment_switches_it_off():
    """`RACEPROOF_SHARING=0` in the environment switches it off when the package is imported."""
    code = "import raceproof as r; print(r.is_shared(r.AtomicInt(shared=True)), r.set_sharing(True))"
    assert child(code, RACEPROOF_SHARING="0") == ["False", "False"]
    assert child(code, RACEPROOF_SHARING="1") == ["True", "True"]


@free_threaded_only
def test_the_types_of_the_package_are_always_shared():
    """The types of the package are never counted, whatever is switched off: they live as long as the process."""
    code = "import raceproof as r; print(r.is_shared(r.AtomicInt), r.is_shared(r.ThreadLocal))"
    assert child(code, RACEPROOF_SHARING="0") == ["True", "True"]
    assert is_shared(raceproof.Future)


@free_threaded_only
@pytest.mark.skipif(DEFERRED, reason="on 3.14 the garbage collector frees what is shared")
def test_what_sharing_costs():
    """What is lost is what was shared, and no more: objects that are counted are freed as before."""
    code = """if True:
        import gc, weakref, raceproof
        class Thing: pass
        def make(shared):
            thing = Thing()
            if shared: raceproof.share(thing)
            return weakref.ref(thing)
        for shared in (False, True):
            weak = [make(shared) for _ in range(100)]
            gc.collect()
            print(sum(reference() is not None for reference in weak))
        """
    assert child(code) == ["0", "100"]
    assert child(code, RACEPROOF_SHARING="0") == ["0", "0"]
