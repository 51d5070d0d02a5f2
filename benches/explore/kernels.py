"""Small programs with threads, correct ones and broken ones, for measuring explorers: each has `setup`, `threads`, `check`."""

import threading
from types import SimpleNamespace


class Kernel(SimpleNamespace):
    """A scenario; `is_broken` says whether some schedule of it fails."""


def _state(**values):
    return SimpleNamespace(**values)


def unlocked_counter():
    def add(s):
        held = s.n
        s.n = held + 1

    return Kernel(is_broken=True, setup=lambda: _state(n=0), threads=[add, add], check=lambda s: s.n == 2)


def locked_counter():
    def add(s):
        with s.lock:
            s.n += 1

    setup = lambda: _state(n=0, lock=threading.Lock())  # noqa: E731
    return Kernel(is_broken=False, setup=setup, threads=[add, add], check=lambda s: s.n == 2)


def lazy_singleton():
    def get(s):
        if s.only is None:
            s.made += 1
            s.only = object()

    return Kernel(
        is_broken=True, setup=lambda: _state(only=None, made=0), threads=[get, get], check=lambda s: s.made == 1
    )


def double_checked():
    def get(s):
        if s.only is None:
            with s.lock:
                if s.only is None:
                    s.made += 1
                    s.only = object()

    setup = lambda: _state(only=None, made=0, lock=threading.Lock())  # noqa: E731
    return Kernel(is_broken=False, setup=setup, threads=[get, get], check=lambda s: s.made == 1)


def opposite_locks():
    def take(first, second):
        def run(s):
            with getattr(s, first), getattr(s, second):
                s.n += 1

        return run

    setup = lambda: _state(n=0, a=threading.Lock(), b=threading.Lock())  # noqa: E731
    return Kernel(is_broken=True, setup=setup, threads=[take("a", "b"), take("b", "a")], check=lambda s: s.n == 2)


def transfers():
    def move(source, target):
        def run(s):
            for _ in range(2):
                with s.lock:
                    s.accounts[source] -= 1
                    s.accounts[target] += 1

        return run

    setup = lambda: _state(accounts=[5, 5], lock=threading.Lock())  # noqa: E731
    return Kernel(
        is_broken=False, setup=setup, threads=[move(0, 1), move(1, 0)], check=lambda s: s.accounts == [5, 5]
    )


KERNELS = {
    made.__name__: made
    for made in (unlocked_counter, locked_counter, lazy_singleton, double_checked, opposite_locks, transfers)
}
