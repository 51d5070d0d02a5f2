"""Locks: `Lock`, `AsyncLock`, and making them, beside `threading`, `asyncio` and aiologic.

Locks that threads share are `share`d, as a lock is that lives as long as the program; so are those of the rivals where
that is said.
"""

import asyncio
import threading

from harness import Rival, Row
from peers import peer

from raceproof import AsyncLock, Lock, share

aiologic = peer("aiologic")

OPS = 200_000
ASYNC_OPS = 50_000
SHARED_ASYNC_OPS = 10_000
MADE = 50_000


def one(make):
    """A setup: one lock for all threads."""
    return lambda threads: (make(), [None] * threads)


def none(make):
    """A setup that hands the type over: each thread makes what it needs."""
    return lambda threads: (make, [None] * threads)


def enter(lock, _):
    for _ in range(OPS):
        with lock:
            pass


async def enter_async(lock, ops):
    for _ in range(ops):
        async with lock:
            pass


def enter_own(make, _):
    """Each thread has an event loop and a lock of its own."""
    asyncio.run(enter_async(make(), ASYNC_OPS))


def enter_common(lock, _):
    """Each thread has an event loop of its own; the lock is one."""
    asyncio.run(enter_async(lock, SHARED_ASYNC_OPS))


def make_many(make, _):
    for _ in range(MADE):
        make()


def shared(make):
    return one(lambda: share(make()))


def with_aiologic(name, setup, worker, at_most):
    return [Rival(name, setup(aiologic.Lock), worker, at_most)] if aiologic else []


def rows():
    yield Row(
        "22",
        "async with lock, uncontended",
        1,
        ASYNC_OPS,
        (none(AsyncLock), enter_own),
        [
            Rival("asyncio.Lock", none(asyncio.Lock), enter_own, 0.25),
            *with_aiologic("aiologic.Lock", none, enter_own, 0.06),
        ],
    )
    yield Row(
        "23",
        "async with lock, one lock, 2 event loops",
        2,
        SHARED_ASYNC_OPS,
        (shared(AsyncLock), enter_common),
        with_aiologic("aiologic.Lock", one, enter_common, 0.02),
    )
    for threads, at_most in ((1, 0.65), (2, 1.0)):
        yield Row(
            "24",
            "with lock",
            threads,
            OPS,
            (shared(Lock), enter),
            [
                Rival("threading.Lock", one(threading.Lock), enter, at_most),
                Rival("threading.Lock, shared", shared(threading.Lock), enter),
            ],
        )
    yield Row(
        "24",
        "with lock, not shared, in the thread that made it",
        0,
        OPS,
        (one(Lock), enter),
        [Rival("threading.Lock", one(threading.Lock), enter, 0.65)],
    )
    yield Row(
        "25",
        "make a lock",
        2,
        MADE,
        (none(Lock), make_many),
        [
            Rival("threading.Lock", none(threading.Lock), make_many, 0.20),
            *with_aiologic("aiologic.Lock", none, make_many, 1.0),
        ],
    )


ROWS = list(rows())
