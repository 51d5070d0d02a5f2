"""Singletons: getting what has been made, in code that is not async and in code that is."""

import asyncio
import functools
import threading

from harness import Rival, Row
from peers import peer

import raceproof

OPS = 100_000


class Monitor(raceproof.ThreadSafeSingleton):
    """Ours."""


class LockedMonitor:
    """Double-checked locking, as one writes it by hand."""

    _instance = None
    _lock = threading.Lock()

    @classmethod
    def instance(cls):
        if cls._instance is None:
            with cls._lock:
                if cls._instance is None:
                    cls._instance = cls()
        return cls._instance


class GuideMonitor:
    """The usual async singleton: it fails as soon as two event loops ask at once, but its hit is right."""

    _instance = None
    _lock = asyncio.Lock()

    @classmethod
    async def get_instance(cls):
        if cls._instance is None:
            async with cls._lock:
                if cls._instance is None:
                    cls._instance = cls()
        return cls._instance


@functools.cache
def from_functools():
    return object()


SHARED = object()


async def bare():
    return SHARED


def nothing(threads):
    return None, [OPS] * threads


def call(function):
    def worker(_, ops):
        for _ in range(ops):
            function()

    function()
    return worker


@raceproof.once(shared=True)
def from_once():
    return object()


def ours_sync(_, ops):
    for _ in range(ops):
        Monitor.instance()


def locked(_, ops):
    for _ in range(ops):
        LockedMonitor.instance()


def drive(coroutine_function):
    def worker(_, ops):
        try:
            coroutine_function(ops).send(None)
        except StopIteration:
            pass

    worker(None, 1)
    return worker


async def ours_async(ops):
    for _ in range(ops):
        await Monitor.get_instance()


async def guide(ops):
    for _ in range(ops):
        await GuideMonitor.get_instance()


async def coroutine(ops):
    for _ in range(ops):
        await bare()


Monitor.instance()
LockedMonitor.instance()


def function_rivals():
    rivals = [Rival("functools.cache", nothing, call(from_functools), 0.11)]
    cereggii = peer("cereggii")
    if cereggii is not None:
        rivals.append(Rival("cereggii.call_once", nothing, call(cereggii.call_once(object)), 0.05))
    return rivals


def class_rivals():
    return [Rival("double-checked locking", nothing, locked, 0.10)]


def async_rivals(at_most, bare_at_most):
    return [
        Rival("the usual async singleton", nothing, drive(guide), at_most),
        Rival("a bare coroutine call", nothing, drive(coroutine), bare_at_most),
    ]


ROWS = [
    Row(
        "19", "a function that has run once", 2, OPS, (nothing, call(from_once)), function_rivals(), scale_at_least=1.9
    ),
    Row("19", "Cls.instance() hit", 2, OPS, (nothing, ours_sync), class_rivals(), scale_at_least=1.9),
    Row("20", "await Cls.get_instance() hit", 1, OPS, (nothing, drive(ours_async)), async_rivals(0.37, 0.70)),
    Row("20", "await Cls.get_instance() hit", 2, OPS, (nothing, drive(ours_async)), async_rivals(0.24, None)),
]
