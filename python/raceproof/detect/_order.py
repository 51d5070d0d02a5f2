"""What orders threads: locks, starts and joins, queues, events, futures, callbacks of other threads' event loops.

The leaves of `threading` are replaced by types that tell the detector; what the standard library builds of locks tells
it by them. Where a value is looked at without a lock, as in `Event.is_set`, a token carries the order.
"""

import _thread
import asyncio.base_events
import concurrent.futures._base
import functools
import queue
import threading

from raceproof._native import detect
from raceproof.instrument import _real

_TOKEN = "_raceproof_token"


def _token(thing):
    token = getattr(thing, _TOKEN, None)
    if token is None:
        # Two threads may be here at once: both get the one that was first.
        token = thing.__dict__.setdefault(_TOKEN, detect.Token())
    return token


class _Item:
    """What lies in a `SimpleQueue`, and what its sender had done."""

    __slots__ = ("token", "value")

    def __init__(self, value):
        self.value = value
        self.token = detect.Token()
        self.token.send()


class SimpleQueue:
    """Stands in for `queue.SimpleQueue`."""

    __slots__ = ("__weakref__", "_real")

    def __init__(self):
        self._real = _real.SimpleQueue()

    def put(self, item, block=True, timeout=None):
        self._real.put(_Item(item))

    def put_nowait(self, item):
        self._real.put(_Item(item))

    def get(self, block=True, timeout=None):
        item = self._real.get(block, timeout)
        item.token.receive()
        return item.value

    def get_nowait(self):
        return self.get(False)

    def empty(self):
        return self._real.empty()

    def qsize(self):
        return self._real.qsize()

    __class_getitem__ = classmethod(type(list[int]))


class _Call:
    """A callback for the event loop of another thread."""

    __slots__ = ("callback", "token")

    def __init__(self, callback):
        self.callback = callback
        self.token = detect.Token()
        self.token.send()

    def __call__(self, *args):
        self.token.receive()
        return self.callback(*args)

    def __repr__(self):
        return repr(self.callback)


def _start(thread):
    token = detect.Token()
    token.send()
    thread._raceproof_begin, thread._raceproof_end = token, detect.Token()
    return _real.Thread_start(thread)


def _bootstrap(real, thread):
    begin = getattr(thread, "_raceproof_begin", None)
    if begin is None:
        return real(thread)
    detect.begin(begin, thread.name)
    try:
        return real(thread)
    finally:
        detect.end(thread._raceproof_end)


def _ended(thread):
    end = getattr(thread, "_raceproof_end", None)
    if end is not None and not _real.Thread_is_alive(thread):
        end.receive()


def _join(thread, timeout=None):
    result = _real.Thread_join(thread, timeout)
    _ended(thread)
    return result


def _is_alive(thread):
    alive = _real.Thread_is_alive(thread)
    if not alive:
        _ended(thread)
    return alive


def _start_new_thread(function, args=(), kwargs=None, /):
    token = detect.Token()
    token.send()

    @functools.wraps(function, updated=())
    def run(*args, **kwargs):
        detect.begin(token, getattr(function, "__name__", "thread"))
        try:
            return function(*args, **kwargs)
        finally:
            detect.end(detect.Token())

    return _real.start_new_thread(run, args, kwargs or {})


def _sends(real):
    """A method after which others come that see its effect."""

    @functools.wraps(real)
    def method(thing, *args, **kwargs):
        _token(thing).send()
        return real(thing, *args, **kwargs)

    return method


def _receives(real, is_seen):
    """A method that sees the effect of another, if `is_seen` says so of its result."""

    @functools.wraps(real)
    def method(thing, *args, **kwargs):
        result = real(thing, *args, **kwargs)
        if is_seen(result):
            _token(thing).receive()
        return result

    return method


def _any(_result):
    return True


def patches():
    """Triples of an owner, a name and what takes its place."""
    real_bootstrap = threading.Thread._bootstrap_inner
    real_call_soon = asyncio.base_events.BaseEventLoop.call_soon_threadsafe

    @functools.wraps(real_bootstrap)
    def bootstrap(thread):
        return _bootstrap(real_bootstrap, thread)

    @functools.wraps(real_call_soon)
    def call_soon_threadsafe(loop, callback, *args, context=None):
        return real_call_soon(loop, _Call(callback), *args, context=context)

    future = concurrent.futures._base.Future
    yield threading, "Lock", detect.lock
    yield threading, "_allocate_lock", detect.lock
    yield _thread, "allocate_lock", detect.lock
    yield threading, "RLock", detect.RLock
    yield queue, "SimpleQueue", SimpleQueue
    yield threading.Thread, "start", _start
    yield threading.Thread, "_bootstrap_inner", bootstrap
    yield threading.Thread, "join", _join
    yield threading.Thread, "is_alive", _is_alive
    yield _thread, "start_new_thread", _start_new_thread
    yield asyncio.base_events.BaseEventLoop, "call_soon_threadsafe", call_soon_threadsafe
    yield threading.Event, "set", _sends(threading.Event.set)
    yield threading.Event, "is_set", _receives(threading.Event.is_set, bool)
    yield threading.Event, "wait", _receives(threading.Event.wait, bool)
    yield threading.Barrier, "wait", _sends(_receives(threading.Barrier.wait, _any))
    yield queue.Queue, "put", _sends(queue.Queue.put)
    yield queue.Queue, "get", _receives(queue.Queue.get, _any)
    yield queue.Queue, "task_done", _sends(queue.Queue.task_done)
    yield queue.Queue, "join", _receives(queue.Queue.join, _any)
    yield future, "set_result", _sends(future.set_result)
    yield future, "set_exception", _sends(future.set_exception)
    yield future, "result", _receives(future.result, _any)
    yield future, "exception", _receives(future.exception, _any)
    yield future, "done", _receives(future.done, bool)
