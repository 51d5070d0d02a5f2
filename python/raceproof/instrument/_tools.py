"""What every part that reads frames asks of the interpreter first: its version, and a number in `sys.monitoring`."""

import functools
import os
import sys

# Those that no tool of the standard library or coverage takes by itself.
NUMBERS = (4, 3, 2)
# The variable that asks for one of the two ways to see what a program touches: `native` or `portable`.
OBSERVER = "RACEPROOF_OBSERVER"


def require(what: str) -> None:
    """Raises `RuntimeError` unless this is CPython 3.13, whose frames are known."""
    if not has_known_frames():
        raise RuntimeError(
            f"{what} reads the frames of CPython 3.13 and this is {sys.version.split()[0]}: run it with python3.13t, "
            "or with python3.13 for programs that run with a GIL"
        )


def has_known_frames() -> bool:
    """Is this CPython 3.13?"""
    return sys.implementation.name == "cpython" and sys.version_info[:2] == (3, 13)


def require_monitoring(what: str) -> None:
    """Raises `RuntimeError` unless the interpreter says what it runs."""
    if not hasattr(sys, "monitoring"):
        raise RuntimeError(
            f"{what} needs sys.monitoring, which this Python ({sys.version.split()[0]}) does not have: run it with "
            "Python 3.12 or later, best with python3.13t"
        )


def is_portable_asked() -> bool:
    """Is the observer to be the one that reads no frames? `RuntimeError` if the other is asked for and cannot be."""
    asked = os.environ.get(OBSERVER, "")
    if asked not in ("", "native", "portable"):
        raise RuntimeError(f"no observer `{asked}` in {OBSERVER}: it is native or portable")
    if asked == "native":
        require("the native observer")
    return asked == "portable" or not has_known_frames()


def take(name: str = "raceproof", numbers=NUMBERS) -> int:
    """Takes the first number that is free, under a name; `RuntimeError` if none is."""
    free = [number for number in numbers if sys.monitoring.get_tool(number) is None]
    if not free:
        raise RuntimeError("no number is free in sys.monitoring: switch off coverage or the debugger")
    sys.monitoring.use_tool_id(free[0], name)
    return free[0]


@functools.cache
def kept(name: str) -> int:
    """The number that a part of `prove` takes and keeps: none of those that an exploration takes meanwhile."""
    return take(name, (0, 1, 5))


def refuse(number: int, what: str) -> RuntimeError:
    """Gives the number back after the self-test has failed: the error to raise."""
    sys.monitoring.free_tool_id(number)
    return RuntimeError(
        f"frames of this interpreter do not look like those of CPython 3.13: {what} would read garbage "
        "and refuses to run"
    )
