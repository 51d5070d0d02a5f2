"""Puts Python code under control: sees what it touches, and stands in for what it waits on.

While an exploration is active, locks, conditions, thread starts and joins, sleeps and clocks of `threading` and `time`
are steps of a run; everything in the standard library that is built of them works unchanged. Locks that were made
before are replaced where code that is seen uses them. What code touches is seen by one of two observers: the native one
reads the frames of CPython 3.13, the portable one takes what any interpreter with `sys.monitoring` shows.

Code that is seen is what `is_seen` says: everything but the interpreter's own library, and of that the modules that
hold shared state.
"""

import _thread
import asyncio
import builtins
import collections
import gc
import logging
import queue
import sys
import threading
import time

from raceproof import _native
from raceproof._native import control
from raceproof.instrument import (
    _clock,
    _code,
    _early,
    _known,
    _layout,
    _locks,
    _loop,
    _models,
    _ours,
    _places,
    _real,
    _threads,
    _tools,
    _words,
)

# Modules of the library that hold state which threads share. The others are taken to be right.
_SEEN_MODULES = {
    "queue.py",
    "functools.py",
    "contextlib.py",
    "collections/__init__.py",
    "weakref.py",
    "sched.py",
    "asyncio/locks.py",
    "asyncio/mixins.py",
    "asyncio/queues.py",
}
_SEEN_FOLDERS = ("concurrent/futures/",)
_SEEN_CLASSES = ("Event.", "Semaphore.", "BoundedSemaphore.", "Barrier.", "Condition.", "Timer.")


def is_seen(code) -> bool:
    """Is what this code touches seen?"""
    origin, below = _places.place(code.co_filename)
    match origin:
        case "library" if below == "threading.py":
            return code.co_qualname.startswith(_SEEN_CLASSES)
        case "library":
            return below in _SEEN_MODULES or below.startswith(_SEEN_FOLDERS)
        case "raceproof":
            return code.co_filename == _models.__file__
    return origin != "runner"


# Of these types are locks that were made before an exploration.
_LOCKS = (_real.Lock, _real.RLock, _real.Condition, _native.Lock, _native.RLock, _native.RWLock)


def _is_free(lock):
    """Could the lock be taken without a wait?"""
    if not lock.acquire(False):
        return False
    lock.release()
    return True


class _Instrument:
    """One for the process: what is seen, and what stands in for what."""

    def __init__(self):
        self.tool = None
        self.is_portable = False
        self.codes = []
        self.proxies = {}
        self.met = []
        self._roots = (0, [])
        self._patched = []
        self._early = None
        self._callables_of_scenario = ()
        self._callables = {
            id(real): (real, stand_in)
            for real, stand_in in (
                (_real.Lock, _locks.Lock),
                (_real.allocate_lock, _locks.Lock),
                (_real.RLock, _locks.RLock),
                (_real.make_rlock, _locks.RLock),
                (_real.Condition, _locks.Condition),
                (_native.Lock, _ours.Lock),
                (_native.RLock, _ours.RLock),
                (_native.RWLock, _ours.RWLock),
                (_real.SimpleQueue, queue._PySimpleQueue),
                (_real.start_new_thread, _threads.start_new_thread),
                (_real.sleep, _clock.sleep),
                (collections._count_elements, _models.count_elements),
                *((real, _clock.CLOCKS[name]) for name, real in _real.clocks.items()),
            )
        }

    def install(self):
        """Takes a tool number, tests the layout of the interpreter, and tells the native side what is known."""
        if self.tool is not None:
            return
        _tools.require_monitoring("exploration")
        self.is_portable = _tools.is_portable_asked()
        tool = _tools.take()
        try:
            if not self.is_portable and not self._can_read_frames(tool):
                self.is_portable = True
            if self.is_portable:
                self._tell(True)
        except BaseException:
            sys.monitoring.free_tool_id(tool)
            raise
        self.tool = tool
        events = sys.monitoring.events
        self._events = events.INSTRUCTION
        sys.monitoring.register_callback(tool, events.PY_START, control.on_start)
        if not self.is_portable:
            sys.monitoring.register_callback(tool, events.INSTRUCTION, control.on_instruction)
            return
        self._events |= events.CALL | events.PY_RETURN
        sys.monitoring.register_callback(tool, events.INSTRUCTION, control.on_instruction_shown)
        sys.monitoring.register_callback(tool, events.CALL, control.on_call_shown)
        sys.monitoring.register_callback(tool, events.PY_RETURN, control.on_return_shown)

    def _can_read_frames(self, tool):
        """Are frames and objects as expected? If so the native side has been told what is known."""
        if not _layout.check(tool):
            return False
        try:
            self._tell(False)
        except RuntimeError:
            return False
        return True

    def _tell(self, is_portable):
        table = _known.known(
            [real for real, _ in self._callables.values()],
            _LOCKS,
            is_portable,
        )
        describers = {
            "describe": self._describe,
            "is_seen": is_seen,
            "stand_in": self._stand_in,
            "is_free": _is_free,
            "missing": sys.monitoring.MISSING,
            "shown": _words.shown,
            "loaded": _words.loaded,
        }
        control.install(table, sys.monitoring.DISABLE, describers)

    def granularity(self, names=(), is_any_container=False):
        """What one step is, in words; `names` and `is_any_container` say what was not told apart."""
        text = "one access to one object, of those that race"
        if not self.is_portable:
            return text
        text += "; seen without reading frames: slower"
        closures = [it.removesuffix(_code.OF_CLOSURE) for it in names if it.endswith(_code.OF_CLOSURE)]
        attributes = [it for it in names if not it.endswith(_code.OF_CLOSURE)]
        if closures:
            text += f"; a variable of a closure is one place for all functions: {', '.join(closures)}"
        if attributes:
            text += f"; an attribute is one place for all objects: {', '.join(attributes)}"
        if is_any_container:
            text += "; all containers are one place"
        return text

    def _describe(self, code):
        if not is_seen(code):
            return None
        self.codes.append(code)
        describe = _code.description_with_sources if self.is_portable else _code.description
        n_locals, file, instructions = describe(code)
        sys.monitoring.set_local_events(self.tool, code, self._events)
        return n_locals, file, _places.place(file)[0] == "own", instructions

    def _stand_in(self, thing):
        known = self._callables.get(id(thing))
        if known is not None:
            return known[1]
        proxy = self.proxies.get(id(thing))
        if proxy is None:
            proxy = (thing, self._proxy(thing))
            self.proxies[id(thing)] = proxy
        return proxy[1]

    def instead_of(self, thing):
        """What is to stand where this stood before the exploration that is under way, if one is: mostly the same."""
        stand_in = self._early_stand_in(thing) if self._early is not None else None
        return thing if stand_in is None else stand_in

    def _early_stand_in(self, thing):
        """What stands in for a thing that was there before the exploration; None if nothing does."""
        if id(thing) in self._callables or type(thing) in _LOCKS:
            return self._stand_in(thing)
        return None

    def _proxy(self, thing):
        if isinstance(thing, _real.Condition):
            return _locks.of_the_run(_locks.Condition, self._stand_in(thing._lock))
        is_reentrant = isinstance(thing, (_real.RLock, _native.RLock))
        if thing._is_owned() if isinstance(thing, _real.RLock) else thing.locked():
            self.met.append("a lock that was held when the run began")
        if isinstance(thing, _native.RWLock):
            return _ours.RWLock(thing.name)
        if isinstance(thing, (_native.Lock, _native.RLock)):
            return (_ours.RLock if is_reentrant else _ours.Lock)(thing.name)
        return _locks.of_the_run(_locks.RLock if is_reentrant else _locks.Lock)

    def files(self, entered):
        """The files of code objects, by their numbers."""
        return {self.codes[number].co_filename for number in entered}

    def roots(self, entered):
        """The globals of the modules to whose code the exploration has come, and the attributes of their classes.

        Only of these: what other explorations of the process have seen would make each run as slow as all of it.
        """
        n_known, known = self._roots
        if n_known != len(entered):
            files, known = self.files(entered), []
            for module in list(sys.modules.values()):
                file = getattr(module, "__file__", None)
                if file in files and _places.place(file)[0] in ("own", "raceproof"):
                    values = vars(module)
                    known.append(values)
                    name = module.__name__
                    known += [vars(it) for it in values.values() if isinstance(it, type) and it.__module__ == name]
            self._roots = (len(entered), known)
        return known

    def _patch(self, owner, name, value):
        self._patched.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def within(self, *callables):
        """For a scenario of these callables: they may hold locks that were made before."""
        self._callables_of_scenario = callables
        return self

    def __enter__(self):
        self.install()
        self.met = []
        self._roots = (0, [])
        if self.is_portable:
            self._early = _early.Early(self._early_stand_in)
            self._early.replace(self._callables_of_scenario)
            for name in ("Lock", "RLock", "RWLock"):
                self._patch(sys.modules["raceproof"], name, getattr(_ours, name))
            for real in _known.STEPWISE:
                self._patch(builtins, real.__name__, _models.stepwise(real))
        _threads.hook_before = threading.excepthook
        self._patch(threading, "Lock", _locks.Lock)
        self._patch(threading, "_allocate_lock", _locks.Lock)
        self._patch(_thread, "allocate_lock", _locks.Lock)
        self._patch(threading, "RLock", _locks.RLock)
        self._patch(threading, "Condition", _locks.Condition)
        self._patch(queue, "SimpleQueue", queue._PySimpleQueue)
        self._patch(_thread, "start_new_thread", _threads.start_new_thread)
        self._patch(threading.Thread, "start", _threads.start)
        self._patch(threading.Thread, "join", _threads.join)
        self._patch(threading.Thread, "is_alive", _threads.is_alive)
        self._patch(time, "sleep", _clock.sleep)
        for name, clock in _clock.CLOCKS.items():
            self._patch(time, name, clock)
        self._patch(threading, "_time", _clock.CLOCKS["monotonic"])
        self._patch(queue, "time", _clock.CLOCKS["monotonic"])
        self._patch(sys, "unraisablehook", _threads.unraisable(sys.unraisablehook))
        # It would tell of each thread that is unwound.
        self._patch(logging.getLogger("concurrent.futures"), "disabled", True)
        self._patch(asyncio, "new_event_loop", _loop.new_event_loop)
        self._patch(asyncio.events, "new_event_loop", _loop.new_event_loop)
        for code in self.codes:
            sys.monitoring.set_local_events(self.tool, code, self._events)
        sys.monitoring.set_events(self.tool, sys.monitoring.events.PY_START)
        self._collects = gc.isenabled()
        gc.disable()
        return self

    def __exit__(self, *error):
        # What runs outside of explorations must not pay for them.
        sys.monitoring.set_events(self.tool, 0)
        for code in self.codes:
            sys.monitoring.set_local_events(self.tool, code, 0)
        while self._patched:
            owner, name, value = self._patched.pop()
            setattr(owner, name, value)
        if self._early is not None:
            self._early.put_back()
            self._early = None
        self._callables_of_scenario = ()
        self.proxies.clear()
        if self._collects:
            gc.enable()


INSTRUMENT = _Instrument()
