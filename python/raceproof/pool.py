"""`Pool`: threads that Python makes, asyncio, and the report at the end. Queue, futures and counts are native."""

import atexit
import concurrent.futures
import contextvars
import functools
import sys
import threading
import traceback
from typing import NamedTuple

from raceproof import _native


class Future(_native.FutureBase, concurrent.futures.Future):
    """The result of a call that a `Pool` was given: a `concurrent.futures.Future`.

    `result(timeout)` waits for the end and returns what the call returned, or raises what it raised. A wait that takes
    longer than `timeout` seconds raises `WaitTimeout`. What the call raised is reported if nobody asks for it.
    """

    __slots__ = ()

    def __init__(self):
        raise TypeError("futures are made by Pool.submit")


_native.set_future_class(Future)


class _Failure(_native.FailureBase):
    """What a task raised. Its `__del__` runs while the exception is still whole, also when it is part of a cycle."""

    __slots__ = ("__weakref__",)

    def __del__(self):
        self._report()


class RunningTask(NamedTuple):
    """A task that had not ended when `Pool.shutdown` returned."""

    name: str
    """Module and qualified name of the function."""
    thread: str
    """The name of its thread."""
    seconds: float
    """For how long it had run."""
    stack: str
    """Where its thread was, as in a traceback."""


class ShutdownReport(NamedTuple):
    """What `Pool.shutdown` left behind."""

    running: tuple[RunningTask, ...]
    """Tasks that still ran."""
    queued: int
    """Tasks that still waited: they will run."""
    cancelled: int
    """Tasks that waited and were cancelled."""

    @property
    def is_complete(self):
        """Has everything ended?"""
        return not self.running and not self.queued


class Pool(_native.PoolBase, concurrent.futures.Executor):
    """At most `max_workers` threads that run the calls they are given, of which at most `max_queue` wait.

    Pool(max_workers=None, *, max_queue=1000, submit_timeout=None, name=None, on_lost=None)

    max_workers: by default the number of CPUs and 4 more, at most 32. submit_timeout: how many seconds `submit` waits
    for room in the queue; None waits for ever, 0 raises QueueFull at once, and a wait that ends in vain raises
    WaitTimeout. name: what its threads are called. on_lost(task, exception): called when a task raised and nobody has
    asked for it until its future was collected or the interpreter ended; by default sys.unraisablehook is told.

    A `concurrent.futures.Executor`. Tasks begin in the order of their submission. `with Pool(4) as pool:` waits at the
    end for all tasks. A pool that is dropped, and the end of the interpreter, let what was submitted run to its end. In
    a forked child a pool begins anew and empty.
    """

    async def run(self, fn, /, *args, **kwargs):
        """Runs fn(*args, **kwargs) in a thread, in a copy of the current context, and returns its result.

        While the queue is full it waits for room without blocking the event loop. Cancelling it cancels the call if no
        thread has begun it.
        """
        import asyncio  # programs without asyncio shall not pay for it

        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        while (future := self._submit_in(context, fn, args, kwargs)) is None:
            room = loop.create_future()
            ticket = self._when_room(functools.partial(loop.call_soon_threadsafe, _wake, room))
            try:
                await room
            except BaseException:
                self._forget_room(ticket)
                raise
        return await asyncio.wrap_future(future)

    def shutdown(self, wait=True, *, deadline=None, cancel_pending=False, cancel_futures=False):
        """Takes no more calls, waits for those it has, and returns a `ShutdownReport`.

        wait: False returns at once. deadline: wait so many seconds at most; the report says what still ran then.
        cancel_pending: calls that wait are cancelled; cancel_futures is the same in the words of the standard library.
        May be called again. RuntimeError: a task of this pool waits for it.
        """
        if wait and threading.current_thread() in self._started():
            raise RuntimeError("a task cannot wait until its own pool is shut down")
        cancelled = self._close(cancel_pending or cancel_futures)
        if self._wait_ended(deadline if wait else 0.0) and wait:
            for thread in self._started():
                thread.join()
        frames = sys._current_frames()
        tasks = []
        for name, thread, seconds in self._running_tasks():
            frame = frames.get(thread.ident) if thread is not None else None
            stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
            tasks.append(RunningTask(name, thread.name if thread is not None else "", seconds, stack))
        return ShutdownReport(tuple(tasks), self.queued, cancelled)


def _wake(room):
    if not room.done():
        room.set_result(None)


def _work(worker):
    # The interpreter looks between the turns of this loop for what it has to do: collecting, stopping for others.
    try:
        worker.begin(threading.current_thread())
        while worker.run_next():
            pass
    finally:
        worker.retire()


def _start(worker, name):
    options = {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}
    threading.Thread(target=_work, args=(worker,), name=name, **options).start()


# Before the interpreter waits for its threads they must learn that they can end.
getattr(threading, "_register_atexit", atexit.register)(_native.close_pools)
atexit.register(_native.report_lost)
