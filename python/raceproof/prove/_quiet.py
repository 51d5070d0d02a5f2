"""What surrounds the calls of a scenario: chance that does not depend on the order of threads, clocks that stand still
while objects are made, and threads that wait to be asked for."""

import contextlib
import random
import re
import threading
import uuid

from raceproof.instrument import _clock

_call = threading.local()
_FUNCTIONS = ("random", "uniform", "randint", "randrange", "choice", "choices", "sample", "shuffle", "gauss")
_patched = []


def begin_call(number):
    """The next call of this thread: its chance begins anew, and is its own."""
    _call.chance = random.Random(number)
    _call.number = number


def end_call():
    """What this thread draws from now on is real chance again."""
    _call.chance = None
    _call.number = None


def number_of_call():
    """Which call of the scenario this thread makes; None if it makes none."""
    return getattr(_call, "number", None)


def _drawing(name, real):
    def draw(*arguments, **named):
        chance = getattr(_call, "chance", None)
        return real(*arguments, **named) if chance is None else getattr(chance, name)(*arguments, **named)

    return draw


def _uuid4(real=uuid.uuid4):
    chance = getattr(_call, "chance", None)
    return real() if chance is None else uuid.UUID(int=chance.getrandbits(128), version=4)


def prepare():
    """Replaces the functions of `random` and `uuid` once, before modules take them."""
    if not _patched:
        for name in _FUNCTIONS:
            setattr(random, name, _drawing(name, getattr(random, name)))
        uuid.uuid4 = _uuid4
        _patched.append(True)


def leave_out(started):
    """What stands in for `Thread.start` where threads that are started do not run; they are noted in `started`."""

    def start(thread):
        thread._started._flag = True
        thread.join = lambda timeout=None: None
        thread.is_alive = lambda: True
        # Names that count threads differ from run to run.
        name = re.sub(r"^Thread-\d+", "Thread", thread.name)
        if name not in started:
            started.append(name)

    return start


@contextlib.contextmanager
def setting_up(started):
    """Clocks stand where runs begin; threads that are started do not run, and are noted in `started`."""
    patched = threading.Thread.start
    threading.Thread.start = leave_out(started)
    _clock.is_standing = True
    begin_call(-1)
    try:
        yield
    finally:
        threading.Thread.start = patched
        _clock.is_standing = False
        end_call()
