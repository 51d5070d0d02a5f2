"""The lock-order watch and the timing. A docstring quotes the sentence of docs/guide/locks.md that the test checks."""

import threading
import time
import warnings

import pytest

from raceproof import (
    DeadlockError,
    Lock,
    LockOrderError,
    LockOrderWarning,
    RaceproofError,
    RLock,
    RWLock,
    lock_report,
    time_locks,
    watch_locks,
)


@pytest.fixture(autouse=True)
def nothing_on():
    yield
    watch_locks(False)
    time_locks(False)


def in_thread(function, name):
    """Calls the function in a thread with this name; returns its result, raises what it raises."""
    result = []

    def call():
        try:
            result.append((function(), None))
        except BaseException as error:
            result.append((None, error))

    thread = threading.Thread(target=call, name=name)
    thread.start()
    thread.join(30)
    assert result, "it hangs"
    if result[0][1] is not None:
        raise result[0][1]
    return result[0][0]


def pays_first(accounts, audit):
    with accounts:
        with audit:
            return True


def audits_first(accounts, audit):
    with audit:
        with accounts:
            return True


def make_locks():
    return Lock("accounts"), Lock("audit")


def test_an_inversion_is_an_error_before_the_wait():
    """Checks "The thread is stopped before it waits, with both stacks, though no other thread is in the way"."""
    watch_locks(on_inversion="raise")
    accounts, audit = make_locks()
    assert in_thread(lambda: pays_first(accounts, audit), "payer")
    with pytest.raises(LockOrderError, match="auditor takes 'accounts' while it holds 'audit'") as caught:
        in_thread(lambda: audits_first(accounts, audit), "auditor")
    assert isinstance(caught.value, RaceproofError)
    report = caught.value.report
    assert report["kind"] == "lock-order-inversion"
    assert report["locks"] == ["accounts", "audit"]
    assert report["threads"] == ["payer", "auditor"]
    assert "in pays_first" in report["stacks"][0]
    assert "in audits_first" in report["stacks"][1]
    assert lock_report()["inversions"] == [report]
    assert not accounts.locked() and not audit.locked(), "the lock was not taken, and the other was given back"


def test_the_error_comes_each_time():
    """Checks "With `raise`, a `LockOrderError` each time"."""
    watch_locks(on_inversion="raise")
    accounts, audit = make_locks()
    pays_first(accounts, audit)
    for _ in range(3):
        with pytest.raises(LockOrderError):
            audits_first(accounts, audit)
    assert len(lock_report()["inversions"]) == 1


def test_a_warning_comes_once_and_the_thread_goes_on():
    """Checks "With `warn`, one `LockOrderWarning` for each order, and the thread goes on"."""
    watch_locks()
    accounts, audit = make_locks()
    pays_first(accounts, audit)
    with pytest.warns(LockOrderWarning, match="'audit'") as caught:
        assert audits_first(accounts, audit)
        assert audits_first(accounts, audit)
    assert len(caught) == 1


def test_a_warning_that_is_an_error_stops_the_thread():
    watch_locks()
    accounts, audit = make_locks()
    pays_first(accounts, audit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LockOrderWarning):
            audits_first(accounts, audit)
    assert not accounts.locked() and not audit.locked()


def test_a_callable_gets_the_report():
    """Checks "A callable gets the report once for each order, outside of every lock of ours; what it raises
    goes to the thread"."""
    reports = []

    def tell(report):
        with Lock("its own"):
            reports.append(report)
        if len(reports) > 1:
            raise KeyError("stop")

    watch_locks(on_inversion=tell)
    accounts, audit = make_locks()
    pays_first(accounts, audit)
    assert audits_first(accounts, audit)
    assert audits_first(accounts, audit)
    assert [report["locks"] for report in reports] == [["accounts", "audit"]]
    third = Lock("third")
    pays_first(accounts, third)
    with pytest.raises(KeyError):
        audits_first(accounts, third)
    assert not third.locked()


@pytest.mark.parametrize("wrong", ["ignore", 1, []])
def test_wrong_reactions_are_refused(wrong):
    with pytest.raises(ValueError, match="on_inversion"):
        watch_locks(on_inversion=wrong)


def test_a_real_deadlock_is_kept_from_happening(together):
    """Checks "The watch finds it without the accident"."""
    watch_locks(on_inversion="raise")
    accounts, audit = make_locks()
    pays_first(accounts, audit)
    inside = threading.Barrier(2)

    def pay():
        with accounts:
            inside.wait(10)
            with audit:
                return "paid"

    def audits():
        with audit:
            inside.wait(10)
            with pytest.raises(LockOrderError):
                accounts.acquire()
            return "told"

    assert together(pay, audits) == ["paid", "told"]


def test_a_self_deadlock_is_told_at_once():
    """Checks "For a `Lock` that is so while the watch is on"."""
    watch_locks()
    lock = Lock("mine")
    with lock:
        with pytest.raises(DeadlockError, match="'mine'"):
            lock.acquire()
        assert lock.acquire(False) is False
        assert lock.acquire(timeout=0.01) is False
    assert lock.acquire(timeout=1)
    lock.release()


def test_a_lock_released_elsewhere_is_no_longer_held(together):
    watch_locks(on_inversion="raise")
    lock = Lock("handed over")
    lock.acquire()
    together(lock.release)
    lock.acquire()
    lock.release()


def test_attempts_without_a_wait_close_no_circle():
    """Checks "An attempt without a wait is no part of an order"."""
    watch_locks(on_inversion="raise")
    accounts, audit = make_locks()
    pays_first(accounts, audit)
    with audit:
        assert accounts.acquire(False)
        accounts.release()
        with pytest.raises(LockOrderError):
            accounts.acquire(timeout=1)


def test_locks_of_one_name_count_as_one_and_apart_among_each_other():
    """Checks "Locks of one name are one to other locks; among each other each is itself"."""
    watch_locks(on_inversion="raise")
    audit = Lock("audit")
    pays_first(Lock("account"), audit)
    with pytest.raises(LockOrderError):
        audits_first(Lock("account"), audit)
    first, second, third = (Lock("row") for _ in range(3))
    pays_first(first, second)
    pays_first(second, third)
    with pytest.raises(LockOrderError):
        pays_first(third, first)


def test_a_common_outer_lock_keeps_orders_apart():
    """Checks "Orders that contradict each other only under a common outer lock are accepted"."""
    watch_locks(on_inversion="raise")
    outer = Lock("outer")
    accounts, audit = make_locks()
    with outer:
        pays_first(accounts, audit)
        audits_first(accounts, audit)


def test_all_kinds_are_watched():
    watch_locks(on_inversion="raise")
    reentrant, rw = RLock("re"), RWLock("rw")
    for side in (rw.read(), rw.write()):
        with reentrant, reentrant, side:
            pass
        with pytest.raises(LockOrderError), side, reentrant:
            pass
    assert not rw.locked() and not reentrant.locked()


def test_a_condition_works_while_watched(together):
    watch_locks(on_inversion="raise")
    time_locks()
    condition, box = threading.Condition(RLock("queue")), []

    def put():
        with condition:
            box.append(1)
            condition.notify()

    def get():
        with condition:
            assert condition.wait_for(lambda: box, timeout=10)
            return box.pop()

    assert together(get, put)[0] == 1


def test_switching():
    """Checks "Both the watch and the timing can be switched at any time, also while locks are held; switching
    on forgets what was found before"."""
    assert watch_locks() is False
    assert time_locks() is False
    lock, other = Lock("switched"), Lock("other")
    lock.acquire()
    assert watch_locks(False) is True
    assert time_locks(False) is True
    lock.release()
    lock.acquire()
    watch_locks(on_inversion="raise")
    lock.release()
    pays_first(lock, other)
    with pytest.raises(LockOrderError):
        audits_first(lock, other)
    assert lock_report()["orders"] == 1 and lock_report()["watching"]
    watch_locks(False)
    watch_locks()
    assert (lock_report()["orders"], lock_report()["inversions"]) == (0, [])


def test_the_memory_of_the_watch_is_bounded():
    """Checks "It keeps at most 4096 orders; then it says that it is full"."""
    watch_locks()
    outer = Lock("outer")
    inner = [Lock() for _ in range(4100)]
    with outer:
        for lock in inner:
            with lock:
                pass
    report = lock_report()
    assert report["orders"] == 4096 and report["is_full"]
    del inner, lock
    assert lock_report()["orders"] == 0, "locks that are gone leave nothing behind"


def test_waits_and_holds_are_timed():
    """Checks "For each name, how often and how long threads waited and held: p50, p99 and the maximum, in
    seconds"."""
    time_locks()
    lock = Lock("timed")
    with lock:
        thread = threading.Thread(target=lambda: lock.acquire() and lock.release())
        thread.start()
        while not lock.waiters:
            time.sleep(0.001)
        time.sleep(0.05)
        assert lock.held_for >= 0.05
    thread.join(10)
    times = {each["name"]: each for each in lock_report()["locks"]}["timed"]
    assert times["wait"]["count"] == times["hold"]["count"] == 2
    assert 0.05 <= times["wait"]["max"] < 30
    assert 0.05 <= times["hold"]["p99"] <= times["hold"]["max"] < 30
    assert times["hold"]["p50"] < times["hold"]["p99"]
    assert lock.held_for is None


def test_every_kind_is_timed():
    time_locks()
    rw = RWLock("timed sides")
    for lock in (RLock("timed reentrant"), rw.read(), rw.write()):
        with lock, pytest.raises(KeyError):
            assert lock.held_for >= 0
            raise KeyError
    counts = {each["name"]: (each["wait"]["count"], each["hold"]["count"]) for each in lock_report()["locks"]}
    assert counts == {"timed reentrant": (1, 1), "timed sides": (2, 2)}


def test_watched_locks_still_exclude(together):
    watch_locks(on_inversion="raise")
    time_locks()
    outer, inner, box = Lock("outer"), RLock("inner"), [0]

    def work():
        for _ in range(500):
            with outer, inner:
                box[0] += 1

    together(work, work, work)
    assert box[0] == 1500
