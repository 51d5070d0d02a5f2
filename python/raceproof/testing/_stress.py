"""`stress`: a scenario on real threads, in parallel, disturbed.

The complement of `explore`: it sees what happens inside of C code and what no schedule of ours can reach, and proves
nothing. Threads are kept from run to run and released together; while they run, native code stops them here and there
at instructions of code that is seen.
"""

import asyncio
import functools
import gc
import inspect
import random
import sys
import threading
import traceback
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from raceproof._native import AtomicInt, control
from raceproof.instrument import _places, _real, _tools, is_seen

_RUNS = 1_000
# A thread stops at one in about so many instructions; what a run takes of these is chance. 0 is an undisturbed run.
_RATES = (2, 6, 20, 60, 200, 1_000, 0)
# How many eighths of the stops are sleeps; the others give the processor up or spin. On a busy machine only sleeps let
# another thread of ours go first.
_SLEEPS = (1, 4, 8)
_SPINS_MAX = 500
_NAP_S = 1e-5
_SWITCH_S = 1e-5


@dataclass(frozen=True)
class Hung:
    """A thread that did not come back: its number in the scenario, and where it stands."""

    thread: int
    stack: str


@dataclass(frozen=True)
class StressOutcome:
    """What real runs have shown: `"failed"`, `"nothing_found"`, or `"gave_up"` with a `reason`.

    `runs` is how many were made, `failing_run` the number of the first that failed, `errors` what went wrong in it:
    exceptions of threads, or the invariant. `hung` lists threads that did not come back within the patience asked for;
    that alone is never called a failure: slow and stuck look alike from outside. `notes` says what was not done.
    """

    verdict: str
    runs: int
    errors: list[str] = field(default_factory=list)
    failing_run: int | None = None
    explanation: str = ""
    reason: str | None = None
    hung: list[Hung] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def assert_holds(self) -> None:
        """Raises `AssertionError` with the explanation unless nothing was found."""
        if self.verdict == "failed":
            raise AssertionError(self.explanation)
        if self.verdict == "gave_up":
            raise AssertionError(f"nothing was shown: {self.reason}\n{self.explanation}")


def stress(
    setup: Callable[[], Any],
    threads: Sequence[Callable[[Any], Any]],
    invariant: Callable[[Any], Any] | None = None,
    *,
    runs: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    preempt: bool = True,
    patience: float = 20.0,
) -> StressOutcome:
    """Runs a scenario again and again on real threads, until a run fails or the budget is spent.

    `setup`, `threads` and `invariant` are those of `explore`; a coroutine function runs in an event loop of its own in
    its thread. The budget is `runs` (1,000 if neither is given) or `seconds`: no run begins after that. `preempt` stops
    threads for some microseconds at random instructions; on a build with a GIL it also switches threads more often.
    `seed` varies where; real threads follow no seed exactly. A run whose threads do not all come back within `patience`
    seconds ends the whole, as `gave_up`, with their stacks: the threads cannot be ended and stay.
    """
    if not threads:
        raise ValueError("a scenario needs at least one thread")
    if patience <= 0:
        raise ValueError("`patience` is a number of seconds above 0")
    if runs is None and seconds is None:
        runs = _RUNS
    end = None if seconds is None else _real.clocks["monotonic"]() + seconds
    chance = random.Random(seed)
    with _Disturbed(threads, preempt) as disturbed, _Crew(threads) as crew:
        n = 0
        while (runs is None or n < runs) and (end is None or n == 0 or _real.clocks["monotonic"]() < end):
            state = setup()
            disturbed.begin(chance)
            hung = crew.run(state, patience)
            disturbed.pause()
            n += 1
            errors = crew.take_errors()
            if hung:
                return _gave_up(n, hung, errors, patience, disturbed.notes)
            if not errors:
                errors = _broken(invariant, state)
            if errors:
                return _failed(n, errors, disturbed.notes)
    return StressOutcome("nothing_found", n, notes=disturbed.notes)


def _broken(invariant, state):
    if invariant is None:
        return []
    try:
        holds = invariant(state)
    except Exception as error:
        return [f"the invariant does not hold: {_in_words(error)}"]
    return [] if holds or holds is None else ["the invariant does not hold"]


def _in_words(error):
    return traceback.format_exception_only(error)[-1].strip()


def _failed(n, errors, notes):
    told = "\n".join(errors)
    text = f"run {n} of real threads failed:\n{told}\nNo schedule is known of it; `explore` finds one that replays."
    heads = [error.splitlines()[0] for error in errors]
    return StressOutcome("failed", n, heads, n, text, notes=notes)


def _gave_up(n, hung, errors, patience, notes):
    names = ", ".join(f"T{it.thread}" for it in hung)
    reason = f"in run {n}, {names} did not come back within {patience:g} s"
    told = "\n".join([*errors, *(f"T{it.thread} stands here:\n{it.stack}" for it in hung)])
    return StressOutcome("gave_up", n, errors, None, told, reason, hung, notes)


_HERE = threading.local()


def awaited(awaitable):
    """What an awaitable gives, in an event loop of this thread. If it hangs, its task is cancelled by `stress`."""
    return asyncio.run(_in_loop(awaitable))


async def _in_loop(awaitable):
    crew, number = getattr(_HERE, "seat", (None, None))
    if crew is None:
        return await awaitable
    crew.loops[number] = (asyncio.get_running_loop(), asyncio.current_task())
    try:
        return await awaitable
    finally:
        crew.loops.pop(number, None)


class _Crew:
    """The threads of a scenario, kept from run to run."""

    def __init__(self, callables):
        self.callables = list(callables)
        self.errors = []
        self.state = None
        self.is_over = False
        self.loops = {}
        n = len(self.callables)
        self.gates = [_real.allocate_lock() for _ in range(n)]
        self.left = [_real.allocate_lock() for _ in range(n)]
        for lock in (*self.gates, *self.left):
            lock.acquire()
        self.arrived = AtomicInt(0)
        self.threads = [
            threading.Thread(target=self._live, args=(number,), name=f"stress-T{number}", daemon=True)
            for number in range(n)
        ]

    def __enter__(self):
        self.excepthook = threading.excepthook
        # Threads that the code under test starts: what they raise is a failure too.
        threading.excepthook = self._note
        for thread in self.threads:
            thread.start()
        return self

    def _note(self, args):
        if args.exc_type is not SystemExit:
            self.errors.append(self._told(f"a thread {getattr(args.thread, 'name', '')}", args.exc_value))

    @staticmethod
    def _told(who, error):
        where = "".join(traceback.format_exception(error)).rstrip()
        return f"{who} raises {_in_words(error)}\n{where}"

    def _live(self, number):
        while True:
            self.gates[number].acquire()
            if self.is_over:
                return
            try:
                self._meet()
                self._call(number)
            except SystemExit:
                pass
            except BaseException as error:
                self.errors.append(self._told(f"T{number}", error))
            finally:
                self.left[number].release()

    def _meet(self):
        """Waits until all are here. At first it spins: a wake-up would take longer than most races."""
        n = len(self.threads)
        self.arrived.fetch_add(1)
        for _ in range(_SPINS_MAX):
            if self.arrived.get() >= n:
                return
        while self.arrived.get() < n:
            _real.sleep(_NAP_S)

    def _call(self, number):
        _HERE.seat = (self, number)
        result = self.callables[number](self.state)
        if inspect.iscoroutine(result):
            awaited(result)

    def run(self, state, patience):
        """One run; the threads that did not come back."""
        self.state = state
        self.arrived.set(0)
        for gate in self.gates:
            gate.release()
        end = _real.clocks["monotonic"]() + patience
        hung = []
        for number, left in enumerate(self.left):
            if not left.acquire(timeout=max(end - _real.clocks["monotonic"](), 0.001)):
                hung.append(number)
        return self._look_at(hung) if hung else []

    def _look_at(self, numbers):
        frames = sys._current_frames()
        found = []
        for number in numbers:
            frame = frames.get(self.threads[number].ident)
            lines = traceback.format_stack(frame) if frame is not None else []
            found.append(Hung(number, "".join(lines).rstrip()))
        for loop, task in list(self.loops.values()):
            # A task that waits for a loop that never wakes it can at least be ended.
            loop.call_soon_threadsafe(task.cancel)
        return found

    def take_errors(self):
        """What went wrong since the last time."""
        errors, self.errors = self.errors, []
        self.state = None
        return errors

    def __exit__(self, *error):
        self.is_over = True
        for gate in self.gates:
            if gate.locked():
                gate.release()
        for thread in self.threads:
            thread.join(0.1)
        threading.excepthook = self.excepthook


class _Disturbed:
    """While this lives, threads are stopped here and there in code that is seen."""

    def __init__(self, threads, is_wanted):
        self.threads = threads
        self.is_wanted = is_wanted
        self.tool = None
        self.codes = []
        self.notes = []

    def __enter__(self):
        self.interval = sys.getswitchinterval()
        if not self.is_wanted:
            return self
        sys.setswitchinterval(_SWITCH_S)
        if not hasattr(sys, "monitoring"):
            self.notes.append("no thread was stopped on purpose: sys.monitoring came with Python 3.12")
            return self
        try:
            self.tool = _tools.take("raceproof stress")
        except RuntimeError:
            self.notes.append("no thread was stopped on purpose: no number is free in sys.monitoring")
            return self
        # All events are set before any thread runs: switching them on beside running threads is not safe everywhere.
        events = sys.monitoring.events.INSTRUCTION
        self.codes = _codes(self.threads)
        for code in self.codes:
            sys.monitoring.set_local_events(self.tool, code, events)
        sys.monitoring.register_callback(self.tool, events, control.on_preempt)
        return self

    def begin(self, chance):
        """A run begins."""
        if self.tool is not None:
            control.preempt(chance.choice(_RATES), chance.choice(_SLEEPS), chance.getrandbits(63))

    def pause(self):
        """A run has ended."""
        if self.tool is not None:
            control.preempt(0, 0, 0)

    def __exit__(self, *error):
        sys.setswitchinterval(self.interval)
        if self.tool is None:
            return
        control.preempt(0, 0, 0)
        for code in self.codes:
            sys.monitoring.set_local_events(self.tool, code, 0)
        sys.monitoring.register_callback(self.tool, sys.monitoring.events.INSTRUCTION, None)
        sys.monitoring.free_tool_id(self.tool)


def _codes(threads):
    """The code that is seen: of the project, and of the packages that the threads come from."""
    packages = {_package(getattr(it, "__module__", None) or "") for it in threads}
    found = {}
    for function in _functions(threads):
        is_installed = function.__code__.co_filename.startswith(_places.SITE)
        if is_seen(function.__code__) and (not is_installed or _package(function.__module__ or "") in packages):
            _nest(function.__code__, found)
    return list(found.values())


def _functions(threads):
    """The functions that the threads are made of, and those of all modules. The garbage collector cannot be asked: on
    3.13t it no longer knows of functions that are older than the first thread."""
    known = {}
    work = [*threads, *gc.get_objects()]
    work += [value for module in list(sys.modules.values()) for value in list(getattr(module, "__dict__", {}).values())]
    while work:
        thing = work.pop()
        kind = type(thing)
        if kind is types.FunctionType:
            if id(thing) not in known:
                known[id(thing)] = thing
                work += _inner(thing)
        elif kind in (staticmethod, classmethod, types.MethodType):
            work.append(thing.__func__)
        elif kind is functools.partial:
            work.append(thing.func)
        elif kind is property:
            work += (thing.fget, thing.fset, thing.fdel)
        elif issubclass(kind, type) and id(thing) not in known:
            known[id(thing)] = thing
            work += list(vars(thing).values())
    return [it for it in known.values() if type(it) is types.FunctionType]


def _inner(function):
    """What a function holds in its closure, and what it wraps."""
    yield getattr(function, "__wrapped__", None)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue


def _package(module):
    return module.partition(".")[0]


def _nest(code, found):
    work = [code]
    while work:
        code = work.pop()
        if id(code) not in found:
            found[id(code)] = code
            work += [it for it in code.co_consts if isinstance(it, types.CodeType)]
