"""The detector: on, off, and what it found."""

import atexit
import sys
import threading

from raceproof._native import control, detect
from raceproof.detect import _code, _order
from raceproof.instrument import _known, _layout, _real, _tools


class _Locks:
    """What stands in for locks that were made before the detector began; each is kept as long as the process."""

    def __init__(self):
        self._proxies = {}
        self._makers = {
            id(_real.allocate_lock): detect.lock,
            id(_real.Lock): detect.lock,
            id(_real.make_rlock): detect.RLock,
            id(_real.RLock): detect.RLock,
            id(_real.start_new_thread): _order._start_new_thread,
            id(_real.SimpleQueue): _order.SimpleQueue,
        }

    def known(self):
        makers = [_real.allocate_lock, _real.Lock, _real.make_rlock, _real.RLock, _real.start_new_thread]
        return _known.known([*makers, _real.SimpleQueue], [_real.Lock, _real.RLock])

    def stand_in(self, thing):
        maker = self._makers.get(id(thing))
        if maker is not None:
            return maker
        found = self._proxies.get(id(thing))
        if found is None:
            kind = detect.RLock if isinstance(thing, _real.RLock) else detect.lock
            found = self._proxies.setdefault(id(thing), (thing, kind(thing)))
        return found[1]


class Detector:
    """Watches all threads that start after it, and the one that starts it; one for the process, and once."""

    _tool = None
    _has_begun = False

    def start(self):
        """Begins to watch. Raises `RuntimeError` where this interpreter cannot be watched."""
        if Detector._has_begun:
            raise RuntimeError("the race detector can be started once in a process")
        _tools.require("the race detector")
        self._tool = _tools.take()
        locks, describer = _Locks(), _code.Describer()
        detect.install(
            locks.known(),
            sys.monitoring.DISABLE,
            describer.describe,
            locks.stand_in,
            _real.allocate_lock,
            _real.make_rlock,
        )
        if not (_layout.check(self._tool) and _calibrate(self._tool)):
            raise _tools.refuse(self._tool, "the race detector")
        Detector._has_begun = True
        self._patched = []
        for owner, name, value in list(_order.patches()):
            self._patched.append((owner, name, getattr(owner, name)))
            setattr(owner, name, value)
        if not detect.switch(True):
            raise RuntimeError("this interpreter does not tell which objects die: the race detector refuses to run")
        detect.begin(None, threading.current_thread().name)
        events = sys.monitoring.events
        sys.monitoring.register_callback(self._tool, events.INSTRUCTION, detect.on_instruction)
        sys.monitoring.set_events(self._tool, events.INSTRUCTION)
        # Whoever forgets to stop it must not have it called while the interpreter goes down.
        atexit.register(self._leave)

    def _leave(self):
        if self._tool is not None:
            sys.monitoring.set_events(self._tool, 0)
            detect.switch(False)

    def stop(self):
        """Watches no longer, and says what was found."""
        sys.monitoring.set_events(self._tool, 0)
        report = detect.conclude(_code.tell, _code.branches)
        detect.switch(False)
        for owner, name, value in reversed(self._patched):
            setattr(owner, name, value)
        sys.monitoring.free_tool_id(self._tool)
        self._tool = None
        return report


def _sample(first, second):
    pair = [first, second]
    return len(pair) + first


def _calibrate(tool):
    """Do instructions lie where the native side looks for them?"""
    events = sys.monitoring.events.INSTRUCTION
    sys.monitoring.register_callback(tool, events, detect.on_test)
    for code in (_sample.__code__, _code.branches.__code__):
        sys.monitoring.set_local_events(tool, code, events)
    try:
        _sample(1, 2)
        _code.branches(_sample.__code__, 0, 0)
    finally:
        for code in (_sample.__code__, _code.branches.__code__):
            sys.monitoring.set_local_events(tool, code, 0)
        sys.monitoring.register_callback(tool, events, None)
    return control.can_observe() and detect.agrees()
