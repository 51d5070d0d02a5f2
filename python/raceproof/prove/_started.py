"""What a module starts while it is imported: threads, jobs of executors, event loops. None of it runs, so that the
state is what the module defines; and what it would have been called with is kept, since nobody knows better how the
program calls its functions."""

import asyncio
import contextlib
import inspect
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

_KEPT_MAX = 8


class Start(NamedTuple):
    """A call that a thread or a job would have made."""

    receiver: Any
    arguments: tuple
    named: dict[str, Any]


class Starts:
    """The calls that were left out, by the code of what is called."""

    def __init__(self):
        self._kept = {}
        self.names = []

    def of(self, function):
        """The calls of a function or method."""
        return self._kept.get(_code(function), [])

    def values(self):
        """All that they would have worked on."""
        for start in (start for starts in self._kept.values() for start in starts):
            yield from (start.receiver, *start.arguments, *start.named.values())

    def _keep(self, function, arguments, named):
        if function is None:
            return
        self.names.append(getattr(function, "__qualname__", type(function).__name__))
        known = self._kept.setdefault(_code(function), [])
        if len(known) < _KEPT_MAX:
            receiver = getattr(function, "__self__", None)
            known.append(Start(None if isinstance(receiver, type) else receiver, tuple(arguments), dict(named)))

    @contextlib.contextmanager
    def left_out(self):
        """Nothing that is started in here runs."""
        real = (threading.Thread.start, ThreadPoolExecutor.submit, asyncio.run, asyncio.Runner.run)

        def start(thread):
            self._keep(getattr(thread, "_target", None), thread._args, thread._kwargs)
            thread._started._flag = True
            thread.join = lambda timeout=None: None
            thread.is_alive = lambda: False

        def submit(pool, function, /, *arguments, **named):
            self._keep(function, arguments, named)
            future = Future()
            future.set_result(None)
            return future

        def run(*arguments, **named):
            for value in (*arguments, *named.values()):
                if inspect.iscoroutine(value):
                    self.names.append(value.__qualname__)
                    value.close()

        threading.Thread.start, ThreadPoolExecutor.submit, asyncio.run, asyncio.Runner.run = start, submit, run, run
        try:
            yield
        finally:
            threading.Thread.start, ThreadPoolExecutor.submit, asyncio.run, asyncio.Runner.run = real


def _code(function):
    function = getattr(function, "__func__", function)
    return getattr(inspect.unwrap(function) if callable(function) else function, "__code__", function)
