"""One pass of a loop that has no end: the call ends where it would go round again."""

import contextlib
import dis
import inspect
import sys
import threading

from raceproof.instrument import _tools

_active = threading.local()
_starts = {}


class PassEnds(BaseException):
    """The outermost loop of the call has made a pass."""


@contextlib.contextmanager
def passing(function, is_once):
    """Ends the function after a pass, if so wanted."""
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    if not is_once or code is None or not _watch(code):
        yield
        return
    _active.code = code
    try:
        yield
    finally:
        _active.code = None


def has_loop(function):
    """Has it a loop?"""
    code = inspect.unwrap(function).__code__
    return any(it.opname == "JUMP_BACKWARD" for it in dis.get_instructions(code))


def is_endless(function):
    """Has it a loop that nothing leaves?"""
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    if code is None:
        return False
    names = {it.opname for it in dis.get_instructions(code)}
    return "JUMP_BACKWARD" in names and not any(
        name.startswith("RETURN_") and name != "RETURN_GENERATOR" for name in names
    )


@contextlib.contextmanager
def threads_end(is_once):
    """Threads whose function never returns make a pass and end; with `is_once` those of any loop."""
    run = threading.Thread.run

    def once(thread):
        target = getattr(thread, "_target", None)
        ends = target is not None and (is_once or is_endless(target))
        with contextlib.suppress(PassEnds), passing(target, ends):
            run(thread)

    threading.Thread.run = once
    try:
        yield
    finally:
        threading.Thread.run = run


def _watch(code):
    """Has the jumps of a function noted. False if it has no loop."""
    if code not in _starts:
        backwards = [it.argval for it in dis.get_instructions(code) if it.opname.startswith("JUMP_BACKWARD")]
        if not backwards:
            return False
        _starts[code] = min(backwards)
        monitoring = sys.monitoring
        tool = _tools.kept("raceproof-passes")
        monitoring.register_callback(tool, monitoring.events.JUMP, _at)
        monitoring.set_local_events(tool, code, monitoring.events.JUMP)
    return True


def _at(code, _, destination):
    if getattr(_active, "code", None) is code and destination <= _starts[code]:
        raise PassEnds
