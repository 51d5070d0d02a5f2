"""`Lock`, `RLock` and `RWLock`. A docstring quotes the sentence of docs/guide/locks.md that the test checks."""

import copy
import gc
import pickle
import signal
import sys
import threading
import time
import weakref

import pytest
from conftest import Holder, in_child, needs_fork, run_python, until

from raceproof import DeadlockError, Lock, RLock, RWLock, WaitTimeout

SIDES = [lambda name=None: RWLock(name).read(), lambda name=None: RWLock(name).write()]
KINDS = pytest.mark.parametrize("make", [Lock, RLock, *SIDES], ids=["Lock", "RLock", "read", "write"])
EXCLUSIVE = pytest.mark.parametrize("make", [Lock, RLock, SIDES[1]], ids=["Lock", "RLock", "write"])


# What is atomic


@EXCLUSIVE
def test_it_excludes(make, together):
    """Checks "One thread at a time holds a `Lock`, an `RLock` or the side of a writer"."""
    lock, n = make(), 3000
    box = [0]

    def work():
        for _ in range(n):
            with lock:
                seen = box[0]
                if seen % 50 == 0:
                    time.sleep(0)
                box[0] = seen + 1

    together(work, work, work, work)
    assert box[0] == 4 * n
    assert not lock.locked()
    assert lock.waiters == 0


def test_it_can_be_released_elsewhere(together):
    """Checks "Any thread may release a `Lock`"."""
    lock = Lock()
    lock.acquire()
    together(lock.release)
    assert not lock.locked()


def test_release_of_a_lock_that_is_not_held():
    """Checks "releasing one that is not held is a `RuntimeError`"."""
    with pytest.raises(RuntimeError, match="unlocked"):
        Lock().release()


@pytest.mark.parametrize("make", [RLock, *SIDES], ids=["RLock", "read", "write"])
def test_release_by_another_thread(make, together):
    """Checks "Releasing an `RLock` or a side of an `RWLock` that the thread does not hold is a
    `RuntimeError`, and changes nothing"."""
    lock = make()
    with pytest.raises(RuntimeError):
        lock.release()
    with lock:
        with pytest.raises(RuntimeError):
            together(lock.release)
        assert lock.locked()


def test_an_rlock_is_reentrant(together):
    """Checks "An `RLock` is free when it was released as often as it was taken"."""
    lock = RLock()
    with lock, lock:
        pass
    lock.acquire()
    lock.acquire()
    lock.release()
    assert together(lambda: lock.acquire(False)) == [False]
    lock.release()
    assert together(lambda: lock.acquire(False)) == [True]


# What blocks, and for how long


@EXCLUSIVE
def test_a_wait_with_a_limit(make):
    """Checks "`acquire(timeout=s)` returns False after `s` seconds"."""
    lock = make()
    with Holder(lock):
        begin = time.monotonic()
        assert lock.acquire(timeout=0.05) is False
        assert time.monotonic() - begin >= 0.05
        assert lock.acquire(False) is False
        assert lock.acquire(True, 0) is False
        assert lock.waiters == 0
    assert lock.acquire(timeout=5)


@EXCLUSIVE
def test_within_says_who_was_in_the_way(make):
    """Checks "`within` raises `WaitTimeout` (a `TimeoutError`), with the name of the lock, its holder, and
    how long was waited"."""
    lock = make("accounts")
    with Holder(lock) as holder:
        with pytest.raises(WaitTimeout, match="'accounts'.*held by the holder") as caught:
            with lock.within(0.05):
                pytest.fail("it is held")
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.name == "accounts"
        assert caught.value.holder == (holder.thread.ident, "the holder")
        assert 0.05 <= caught.value.waited < 10
    guard = lock.within(5)
    for _ in range(2):
        with guard:
            assert lock.locked()
    assert not lock.locked()


@KINDS
def test_wrong_timeouts_are_errors_whether_or_not_the_lock_is_free(make):
    lock = make()
    for error, arguments in [
        (ValueError, (False, 1)),
        (ValueError, (True, -2)),
        (ValueError, (True, float("nan"))),
        (OverflowError, (True, 1e100)),
        (TypeError, (True, "soon")),
        (TypeError, (True, 1, 2)),
    ]:
        with pytest.raises(error):
            lock.acquire(*arguments)
    with pytest.raises(TypeError):
        lock.acquire(patience=1)
    for error, timeout in [(ValueError, -1), (ValueError, float("nan")), (OverflowError, 1e100), (TypeError, "soon")]:
        with pytest.raises(error):
            lock.within(timeout)
    assert not lock.locked()
    assert lock.acquire(timeout=threading.TIMEOUT_MAX)


@KINDS
def test_an_exception_releases(make):
    """Checks "An exception in the block releases the lock and goes on"."""
    lock = make()
    with pytest.raises(KeyError), lock:
        raise KeyError
    with pytest.raises(KeyError), lock.within(1):
        raise KeyError
    assert not lock.locked()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals here")
@EXCLUSIVE
def test_a_signal_handler_that_raises_ends_the_wait(make):
    """Checks "What a signal handler raises, such as `KeyboardInterrupt`, ends a wait of the main thread; a
    handler that returns does not"."""
    lock, seen = make(), []

    def handler(*_):
        seen.append(lock.waiters)
        if len(seen) > 1:
            raise InterruptedError

    def send():
        for _ in range(2):
            until(lambda: lock.waiters == 1)
            n = len(seen)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            until(lambda: len(seen) > n)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with Holder(lock):
            sender = threading.Thread(target=send)
            sender.start()
            with pytest.raises(InterruptedError):
                lock.acquire(timeout=30)
            sender.join()
            assert lock.waiters == 0
        assert len(seen) == 2
        assert lock.acquire(timeout=5)
    finally:
        signal.signal(signal.SIGUSR1, before)


@EXCLUSIVE
def test_a_wait_does_not_stop_others(make):
    """Checks "A thread that waits is detached from the interpreter: other threads run, and the garbage
    collector too"."""
    lock = make()
    with Holder(lock):
        waiter = threading.Thread(target=lambda: lock.acquire(timeout=30) and lock.release())
        waiter.start()
        until(lambda: lock.waiters == 1)
        gc.collect()
    waiter.join(10)
    assert not waiter.is_alive()


# What can be seen


@EXCLUSIVE
def test_holder_and_waiters(make):
    lock = make("db")
    assert (lock.name, lock.holder, lock.waiters, lock.locked()) == ("db", None, 0, False)
    with Holder(lock) as holder:
        assert lock.holder == (holder.thread.ident, "the holder")
        assert lock.locked()
        waiter = threading.Thread(target=lambda: lock.acquire(timeout=30) and lock.release())
        waiter.start()
        until(lambda: lock.waiters == 1)
    waiter.join(10)
    assert lock.holder is None


@KINDS
def test_representation(make):
    assert repr(make("db")).startswith("<unlocked raceproof.")
    lock = make("db")
    with lock:
        assert repr(lock).startswith("<locked raceproof.")
        assert " object 'db' " in repr(lock)


@pytest.mark.parametrize("make", [Lock, RLock, RWLock])
def test_names_are_text(make):
    assert make().name is None
    assert make(None).name is None
    assert make(name="x").name == "x"
    for wrong in (1, b"x"):
        with pytest.raises(TypeError):
            make(wrong)
    with pytest.raises(TypeError):
        make("x", "y")


@pytest.mark.parametrize("make", [Lock, RLock, RWLock, *SIDES])
def test_a_lock_is_itself_only(make):
    """Checks "A lock cannot be copied or pickled; it equals itself only, can be hashed, and can be referred
    to weakly"."""
    lock = make()
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="pickle"):
            duplicate(lock)
    assert lock == lock and lock != make()
    assert len({lock, lock}) == 1
    lock = make()
    reference = weakref.ref(lock)
    del lock
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("base", [Lock, RLock])
def test_a_subclass_works_and_goes_away(base):
    class Mine(base):
        def __enter__(self):
            self.n_entered = getattr(self, "n_entered", 0) + 1
            return super().__enter__()

    lock = Mine("mine")
    with lock:
        assert lock.locked()
    assert (lock.n_entered, lock.name) == (1, "mine")
    lock.itself = lock
    reference = weakref.ref(lock)
    del lock
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("make", [Lock, RLock, RWLock])
def test_memory_stays_flat(make):
    def blocks():
        gc.collect()
        return sys.getallocatedblocks()

    def work():
        for _ in range(2000):
            lock = make("a name that is not interned")
            side = lock.write() if make is RWLock else lock
            with side, pytest.raises(RuntimeError):
                raise RuntimeError
            with side.within(1):
                side.holder

    work()
    before = blocks()
    work()
    assert blocks() - before < 500


# RWLock


def test_readers_share(together):
    """Checks "Any number of threads read at once, and none while a thread writes"."""
    rw = RWLock()
    inside = threading.Barrier(3)

    def read():
        with rw.read():
            inside.wait(10)
            assert not rw.write().acquire(False)
            n_readers = len(rw.readers)
            inside.wait(10)
            return n_readers

    assert together(read, read, read) == [3, 3, 3]
    with Holder(rw.write()):
        assert not rw.read().acquire(False)
        assert rw.writer[1] == "the holder"


def test_readers_never_see_half_a_write(together):
    rw, pair = RWLock(), [0, 0]
    over = threading.Event()

    def write():
        for n in range(500):
            with rw.write():
                pair[0] = n
                time.sleep(0)
                pair[1] = n
        over.set()

    def read():
        n_torn = 0
        while not over.is_set():
            with rw.read():
                n_torn += pair[0] != pair[1]
        return n_torn

    assert together(write, read, read, read)[1:] == [0, 0, 0]


def test_a_waiting_writer_goes_first():
    """Checks "A writer that waits goes before readers that come later"."""
    rw, order = RWLock(), []

    def write():
        with rw.write():
            order.append("write")

    def read():
        with rw.read():
            order.append("read")

    with Holder(rw.read()):
        writer = threading.Thread(target=write)
        writer.start()
        until(lambda: rw.write().waiters == 1)
        reader = threading.Thread(target=read)
        reader.start()
        until(lambda: rw.read().waiters == 1)
        assert rw.waiters == 2
    writer.join(10)
    reader.join(10)
    assert order == ["write", "read"]


def test_readers_that_wait_go_before_the_next_writer():
    """Checks "When a writer leaves, the readers that wait then go next"."""
    rw, order = RWLock(), []

    def enter(side, word):
        with side:
            order.append(word)

    with Holder(rw.write()):
        threads = [threading.Thread(target=enter, args=(rw.write(), "write"))]
        threads[0].start()
        until(lambda: rw.write().waiters == 1)
        for n in (1, 2):
            threads.append(threading.Thread(target=enter, args=(rw.read(), "read")))
            threads[-1].start()
            until(lambda n=n: rw.read().waiters == n)
    for thread in threads:
        thread.join(10)
    assert order == ["read", "read", "write"]


def test_a_reader_that_becomes_a_writer_is_told(together):
    """Checks "A thread that reads or writes and waits for the right to write gets a `DeadlockError` at once"."""
    rw = RWLock("table")
    with rw.read():
        with pytest.raises(DeadlockError, match="'table'"):
            rw.write().acquire()
        assert not rw.write().acquire(False)
    with rw.write():
        with pytest.raises(DeadlockError):
            rw.write().acquire(timeout=5)
    assert not rw.locked()


def test_reading_again_and_reading_while_writing():
    """Checks "A thread that reads may read again, also while a writer waits; one that writes may read, and
    may keep reading"."""
    rw = RWLock()
    with rw.read():
        writer = threading.Thread(target=lambda: rw.write().acquire() and rw.write().release())
        writer.start()
        until(lambda: rw.write().waiters == 1)
        with rw.read():
            pass
    writer.join(10)
    rw.write().acquire()
    rw.read().acquire()
    rw.write().release()
    assert rw.writer is None and len(rw.readers) == 1
    rw.read().release()
    assert not rw.locked()


def test_a_reader_in_the_way_is_named():
    rw = RWLock("table")
    with Holder(rw.read()):
        with pytest.raises(WaitTimeout, match="the holder"), rw.write().within(0.02):
            pytest.fail("it is read")


# Fork, and the end of the interpreter


@needs_fork
@KINDS
def test_a_child_has_what_the_forking_thread_had(make):
    """Checks "In a forked child a lock that another thread held is free, and nobody waits for it; one that
    the forking thread held is still held"."""
    theirs, mine = make(), make()
    with Holder(theirs), mine:
        me = threading.get_ident()

        def check():
            free = theirs.acquire(timeout=10) and theirs.holder[0] == me
            return free and mine.locked() and mine.release() is None and not mine.locked()

        assert in_child(check)
        assert theirs.locked() and mine.locked()


@needs_fork
def test_forks_under_contention(together):
    """Checks "A fork finds no lock half-changed"."""
    locks = [Lock(), RLock(), RWLock().read(), RWLock().write()]
    over = threading.Event()

    def work():
        while not over.is_set():
            for lock in locks:
                with lock:
                    pass

    def fork():
        try:
            return [in_child(lambda: all(lock.acquire(timeout=10) for lock in locks)) for _ in range(15)]
        finally:
            over.set()

    assert all(together(fork, work, work, timeout=100)[0])


@pytest.mark.parametrize("wait", ["acquire()", "acquire(timeout=60)"])
@pytest.mark.parametrize("make", ["Lock()", "RLock()", "RWLock().write()"])
def test_the_interpreter_ends_while_threads_wait(make, wait):
    """Checks "The interpreter can end while daemon threads and tasks wait"."""
    text = f"""
        import threading, time, raceproof
        lock = raceproof.{make}
        lock.acquire()
        for _ in range(3):
            threading.Thread(target=lambda: lock.{wait}, daemon=True).start()
        while lock.waiters < 3:
            time.sleep(0.001)
        print("done")
        """
    assert run_python(text) == "done"


def test_subinterpreters_are_refused():
    """Checks "A subinterpreter cannot import the package: it says so with an `ImportError`"."""
    pytest.importorskip("_interpreters")
    text = """
        import _interpreters
        made = _interpreters.create()
        error = _interpreters.exec(made, "import raceproof")
        print(error.type.__name__)
        """
    assert run_python(text) == "ImportError"
