"""The clock of a run: it stands still while threads work, and moves on when a wait with a limit ends."""

from raceproof._native import control
from raceproof.instrument import _real

# Where the virtual clock begins: any fixed time does.
BEGIN_NS = 1_700_000_000_000_000_000

# Do clocks stand where runs begin, in threads that are not under control? So that what is made for a run does not hold
# the time of day.
is_standing = False


def _now_ns():
    return BEGIN_NS if control.seat() < 0 else BEGIN_NS + control.clock_ns()


def _is_real():
    return control.seat() < 0 and not is_standing


def _in_seconds(real):
    def clock():
        return real() if _is_real() else _now_ns() / 1e9

    return clock


def _in_nanoseconds(real):
    def clock():
        return real() if _is_real() else _now_ns()

    return clock


CLOCKS = {name: (_in_nanoseconds if name.endswith("_ns") else _in_seconds)(real) for name, real in _real.clocks.items()}


def sleep(seconds):
    """`time.sleep`."""
    if control.seat() < 0:
        return None if is_standing else _real.sleep(seconds)
    return control.sleep(seconds)
