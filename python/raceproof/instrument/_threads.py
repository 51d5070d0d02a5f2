"""Threads of the program under control: starting, joining and asking whether they live are steps of a run."""

import functools
import threading
from concurrent.futures.thread import _worker as _pool_worker

from raceproof._native import control
from raceproof.instrument import _real

# What showed lost exceptions when the exploration began. A hook that the program sets itself is called instead.
hook_before = threading.excepthook


class _Ended:
    """What `threading.Thread` keeps of a thread of the system: after the run, that it has ended."""

    def join(self, timeout=None):
        """Does not wait."""

    def is_done(self):
        return True


_ENDED = _Ended()


def start(thread):
    """`threading.Thread.start`."""
    if control.seat() < 0:
        return _real.Thread_start(thread)
    if not thread._initialized:
        raise RuntimeError("thread.__init__() not called")
    if thread._started._flag:
        raise RuntimeError("threads can only be started once")
    thread._started._flag = True
    thread._handle = _ENDED
    thread._raceproof_number = control.spawn(functools.partial(_run, thread), _serves(thread))
    return None


def _serves(thread):
    """Does the thread wait for work until the program ends, which does not wait for it?"""
    return thread.daemon or getattr(thread, "_target", None) is _pool_worker


def _run(thread):
    ident = _real.get_ident()
    before = threading._active.get(ident)
    thread._ident = ident
    thread._native_id = threading.get_native_id()
    threading._active[ident] = thread
    try:
        thread.run()
    except (control.Unwind, SystemExit):
        raise
    except BaseException as error:
        _report(error, thread)
    finally:
        if before is None:
            threading._active.pop(ident, None)
        else:
            threading._active[ident] = before


def _report(error, thread):
    if threading.excepthook is hook_before:
        control.fail(error)
    else:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))


def join(thread, timeout=None):
    """`threading.Thread.join`."""
    number = getattr(thread, "_raceproof_number", None)
    if number is None:
        return _real.Thread_join(thread, timeout)
    if threading._active.get(_real.get_ident()) is thread:
        raise RuntimeError("cannot join current thread")
    control.join(number, None if timeout is None else max(timeout, 0))
    return None


def is_alive(thread):
    """`threading.Thread.is_alive`."""
    number = getattr(thread, "_raceproof_number", None)
    if number is None:
        return _real.Thread_is_alive(thread)
    return not control.join(number, 0)


def start_new_thread(function, args=(), kwargs=None, /):
    """`_thread.start_new_thread`; what it returns is the number of the thread in its run."""
    if control.seat() < 0:
        return _real.start_new_thread(function, args, kwargs or {})
    return control.spawn(functools.partial(_call, function, args, kwargs or {}))


def _call(function, args, kwargs):
    try:
        function(*args, **kwargs)
    except (control.Unwind, SystemExit):
        raise
    except BaseException as error:
        control.fail(error)


def unraisable(before):
    """`sys.unraisablehook`: what dies with its run, and is stopped in that, is worth no word."""

    def hook(seen):
        if seen.exc_type is not control.Unwind:
            before(seen)

    return hook
