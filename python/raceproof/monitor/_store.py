"""The store of this process, and how Python waits for it: never on an event loop, never holding the interpreter."""

import asyncio
import atexit
import os
import sys
import threading
import time

from raceproof import _native
from raceproof._native import StoreBusy, WaitTimeout

# Between two tries of a coroutine to get a place in a full queue, in seconds.
_RETRY = 0.005


class _Held:
    """The open store. Replaced in the child of a fork, where neither its thread nor its connection may be used."""

    def __init__(self):
        self.guard = threading.Lock()
        self.path = None
        self.native = None
        # The interpreter ends: from now on nobody would wait for what is written.
        self.ends = False


_held = _Held()
# The store that rests while the process forks.
_resting = []


def process_name() -> str:
    """This process for people: the name of the program and the process id."""
    program = os.path.basename(sys.argv[0] if sys.argv and sys.argv[0] else "python") or "python"
    return f"{program}:{os.getpid()}"


def use_store(path) -> None:
    """From now on incidents, the audit log and samples are kept in the file `path`.

    `":memory:"` keeps them in this process only. What was asked of the store before is done first. Without a call the
    file is `$RACEPROOF_STORE`, or `raceproof/monitor.db` in the folder for the state of programs of this user.
    Several processes can use one file at the same time.
    """
    fresh = _native.MonitorStore(os.fspath(path))
    with _held.guard:
        old, _held.native, _held.path = _held.native, fresh, os.fspath(path)
    if old is not None:
        old.close()


def store() -> "_native.MonitorStore":
    """The store that is in use; the first call chooses the file."""
    native = _held.native
    if native is None:
        with _held.guard:
            if _held.native is None:
                _held.path = _held.path or _native.monitor_default_store()
                _held.native = _native.MonitorStore(_held.path)
            native = _held.native
    return native


def store_path() -> str:
    """The file that incidents are kept in."""
    return os.fspath(store().path)


async def ask(method: str, *arguments, timeout: float, apply=None):
    """Asks the store for a job and awaits its end; `apply` is called with the result in the order of the commits.

    Raises WaitTimeout after `timeout` seconds; the job may still be done then, as it may after a cancellation.
    """
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    deadline = time.monotonic() + timeout

    def done(result, error):
        result, error = _applied(apply, result, error)
        try:
            loop.call_soon_threadsafe(_settle, future, result, error)
        except RuntimeError:
            pass  # The loop was closed: nobody waits any more.

    while not _is_asked(method, arguments, timeout, done, deadline):
        await asyncio.sleep(_RETRY)
    late = loop.call_later(max(0.0, deadline - time.monotonic()), _settle, future, None, _late(timeout))
    try:
        return await future
    finally:
        late.cancel()


def ask_now(method: str, *arguments, timeout: float, apply=None):
    """Asks the store for a job and blocks this thread until its end, at most `timeout` seconds (WaitTimeout)."""
    ended = threading.Event()
    answer = []

    def done(result, error):
        answer.append(_applied(apply, result, error))
        ended.set()

    deadline = time.monotonic() + timeout
    while not _is_asked(method, arguments, timeout, done, deadline):
        time.sleep(_RETRY)
    if not ended.wait(max(0.0, deadline - time.monotonic())):
        raise _late(timeout)
    result, error = answer[0]
    if error is not None:
        raise error
    return result


def ask_soon(method: str, *arguments, timeout: float, apply=None) -> None:
    """Asks the store for a job and does not wait. Raises StoreBusy if there is no room; a failure later is printed."""

    def done(result, error):
        _, error = _applied(apply, result, error)
        if error is not None:
            complain(f"{method}: {error}")

    if _held.ends:
        ask_now(method, *arguments, timeout=timeout, apply=apply)
    else:
        getattr(store(), method)(*arguments, timeout, done)


def _is_asked(method, arguments, timeout, done, deadline) -> bool:
    """Asks if there is room; raises StoreBusy after the deadline."""
    try:
        getattr(store(), method)(*arguments, timeout, done)
    except StoreBusy:
        if time.monotonic() >= deadline:
            raise
        return False
    return True


def complain(text: str) -> None:
    """Says on stderr what cannot be said to a caller."""
    try:
        print(f"raceproof.monitor: {text}", file=sys.stderr)
    except (OSError, ValueError, AttributeError):
        pass  # There is no stderr.


def _applied(apply, result, error):
    if error is None and apply is not None:
        try:
            result = apply(result)
        except Exception as raised:
            return None, raised
    return result, error


def _late(timeout):
    return WaitTimeout(f"the store took longer than {timeout:g} s")


def _settle(future, result, error):
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def close_store() -> None:
    """Does what was asked of the store and closes the file; the next use opens it again."""
    with _held.guard:
        old, _held.native = _held.native, None
    if old is not None:
        old.close()


def _end():
    _held.ends = True
    close_store()


def before_fork():
    # What SQLite knows of a file that is open must not come into the child, so the file is closed meanwhile.
    # The guard is held until after the fork, so that nobody opens another store meanwhile.
    _held.guard.acquire()
    native = _held.native
    if native is not None:
        native.pause()
        _resting.append(native)


def after_fork_in_parent():
    while _resting:
        _resting.pop().resume()
    _held.guard.release()


def after_fork_in_child():
    global _held
    while _resting:
        _resting.pop().abandon()
    path, _held = _held.path, _Held()
    _held.path = path


atexit.register(_end)
