"""A scenario that was made from a finding: which calls run at once, on what, after what, and what may come of it.

It is plain data, so that it can be written into a test and run again after the program was changed.
"""

import asyncio
import contextlib
import dataclasses
import inspect
import itertools
import os
import threading
from pathlib import Path
from typing import Any

from raceproof.prove import _caller, _fault, _missing, _once, _quiet
from raceproof.prove._globals import Globals
from raceproof.prove._load import Modules
from raceproof.prove._outcomes import Form
from raceproof.prove._values import Builder, CannotBuild
from raceproof.testing import Outcome
from raceproof.testing._explore import _run as run

_SERIAL_RUNS_MAX = 60
_STEPS_MAX = 3_000
_WORDS_MAX = 120
_GENERATED_MAX = 100
_PROGRAM = "what the program starts"


@dataclasses.dataclass(frozen=True)
class Call:
    """One call: a function or method of a file; with `once`, one pass of its outermost loop."""

    file: str
    function: str
    once: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
    """A scenario.

    `calls` run at once, one thread each (or, with `loops="one"`, coroutine functions as tasks of one event loop);
    `before` ran before them, in order. `place` is the state of the finding, as it is spelled in `place_file`.
    `arguments` are the `same` for all calls, their `own`, `large` numbers, or those that the `program` itself would
    have passed; with `keyed` the first argument is a key that `place` holds. Without `background`, threads that the
    calls start do not run. The first call raises at the line of `fault_file` that says `fault`. `expects` is `serial`
    (each outcome has to be one of calls that run one after another), `whole` (and results are whole when they are
    returned), `place` (what is left in the place has to be that), `end` (the calls have to come to their end), `raise`
    (they may wait for ever, but raise nothing new), `own` (each comes to what it comes to alone) or `ready` (nobody
    misses the attribute that the place names).
    """

    calls: tuple[Call, ...]
    before: tuple[Call, ...] = ()
    place: str = ""
    place_file: str = ""
    loops: str = "each"
    arguments: str = "same"
    keyed: bool = False
    background: bool = True
    expects: str = "serial"
    fault_file: str = ""
    fault: str = ""

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Case":
        """From plain data."""
        known = dict(data)
        for name in ("calls", "before"):
            known[name] = tuple(Call(**call) for call in known.get(name, ()))
        return cls(**known)

    def data(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self)

    def words(self) -> str:
        """In one line, for people."""
        at_once = " and ".join(map(_call_words, self.calls))
        if len(set(self.calls)) == 1 and len(self.calls) == 2:
            at_once = f"{_call_words(self.calls[0])} twice"
        how = "as tasks of one event loop" if self.loops == "one" else "at once"
        if len(self.calls) == 1:
            how = "with the threads that it starts"
        where = f", the first of which raises at `{self.fault}`" if self.fault else ""
        after = ", then ".join(
            _repeated(call.function, len(list(group))) for call, group in itertools.groupby(self.before)
        )
        return f"{at_once} {how}{where}" + (f", after {after}" if after else "")

    def below(self, root: Path) -> "Case":
        """With paths that are relative to a folder made absolute."""
        return self._with_paths(lambda file: str((root / file).resolve()))

    def relative(self, root: Path) -> "Case":
        """With paths relative to a folder."""
        return self._with_paths(lambda file: os.path.relpath(file, root))

    def _with_paths(self, path):
        def moved(calls):
            return tuple(dataclasses.replace(call, file=path(call.file)) for call in calls)

        return dataclasses.replace(
            self,
            calls=moved(self.calls),
            before=moved(self.before),
            place_file=path(self.place_file) if self.place_file else "",
            fault_file=path(self.fault_file) if self.fault_file else "",
        )


def _call_words(call):
    return f"one pass of `{call.function}`" if call.once else f"`{call.function}`"


def _repeated(name, n_times):
    return f"`{name}`" if n_times == 1 else f"{n_times} calls of `{name}`"


class NotSerial(AssertionError):
    """An outcome that no order of the calls explains."""


class _State:
    """What one run works on."""

    def __init__(self):
        self.objects = {}
        self.bound = []
        self.results = []
        self.whole = []
        # The calls that are under way, and whether two ever were at once.
        self.under_way = set()
        self.has_overlapped = False

    def enter(self, number):
        """A call begins."""
        self.under_way.add(number)
        self.has_overlapped |= len(self.under_way) > 1


class Runner:
    """Runs a scenario."""

    def __init__(self, case: Case, modules: Modules, kept: dict[str, Globals]):
        self.case = case
        self.modules = modules
        self.started = []
        self.expected = {}
        self.serial = {}
        self.stuck = None
        self.begins = ()
        self.n_begun = 0
        self._alone = {}
        self._kept = kept
        self._files = sorted({call.file for call in (*case.calls, *case.before)} | {case.place_file} - {""})
        for file in self._files:
            modules.get(file)
        for module in modules.imported():
            if module.__file__ not in kept:
                kept[module.__file__] = Globals([module])
        if _PROGRAM not in kept:
            kept[_PROGRAM] = Globals([], modules.starts.values())
        self._resolved = {call: self._resolve(call) for call in (*case.calls, *case.before)}

    # --- what is called

    def _resolve(self, call):
        """`(class or None, name, function)`."""
        owner, found = None, self.modules.get(call.file)
        for part in call.function.split("."):
            owner, found = found, inspect.getattr_static(found, part, None)
            if found is None:
                raise CannotBuild(f"`{call.function}` is not there: it is made inside of a function")
        return (owner if isinstance(owner, type) else None), part, found

    def is_async(self, call):
        found = self._resolved[call][2]
        found = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
        return inspect.iscoroutinefunction(inspect.unwrap(found) if callable(found) else found)

    def _bind(self, call, state, builder):
        owner, name, found = self._resolved[call]
        if owner is None:
            return found if callable(found) else _value_of(found)
        start = self._start(call, 0)
        if start is not None and isinstance(start.receiver, owner):
            state.objects.setdefault(type(start.receiver), start.receiver)
        if isinstance(found, (staticmethod, classmethod)):
            return getattr(owner, name)
        if name in ("__init__", "__new__"):
            return owner
        receiver = self._receiver(owner, state, builder)
        if isinstance(found, property):
            return found.fget.__get__(receiver)
        return getattr(receiver, name)

    def _receiver(self, owner, state, builder):
        for kind, known in state.objects.items():
            if issubclass(kind, owner):
                return known
        kinds = [kind for kind, _, _ in self._resolved.values() if kind is not None and issubclass(kind, owner)]
        kind = max(kinds, key=lambda it: len(it.__mro__))
        shared = self._shared(kind)
        builder = Builder(known=lambda kind: self._known(kind, state))
        state.objects[kind] = builder.instance(kind) if shared is None else shared
        return state.objects[kind]

    def _known(self, kind, state):
        """The object of a class that the calls work on: who is given another one would not meet them."""
        return next((known for made, known in state.objects.items() if issubclass(made, kind)), None)

    def _start(self, call, number):
        """What the program itself would have called it with, the next for each call."""
        if self.case.arguments != "program":
            return None
        starts = self.modules.starts.of(self._resolved[call][2])
        return starts[number % len(starts)] if starts else None

    def _shared(self, kind):
        """The object of a class that a module keeps, where functions of the module work on it."""
        owners = {owner for owner, _, _ in self._resolved.values()}
        if None not in owners and len(owners) == 1:
            return None
        values = [value for file in self._files for value in vars(self.modules.get(file)).values()]
        return next((value for value in values if type(value) is kind), None)

    # --- a run

    def setup(self):
        """Puts globals back, makes the objects, makes the calls that come before."""
        for kept in self._kept.values():
            kept.restore()
        state = _State()
        self.n_begun += 1
        with _quiet.setting_up(self.started):
            for call in self.case.before:
                self._run_before(call, state)
            for number, call in enumerate(self.case.calls):
                builder = Builder(*_numbers(self.case.arguments, number), lambda kind: self._known(kind, state))
                function = self._bind(call, state, builder)
                start = self._start(call, self.case.calls[:number].count(call))
                if start is not None:
                    state.bound.append((function, start.arguments, start.named))
                else:
                    state.bound.append((function, *builder.arguments(function, self._given(function, state))))
            state.results = [None] * len(self.case.calls)
            state.whole = [None] * len(self.case.calls)
        self.begins = tuple(map(_amount, map(Form().of, self.places(state))))
        if not self.case.background:
            # Until the exploration puts back what stands there otherwise.
            threading.Thread.start = _quiet.leave_out(self.started)
        return state

    def _explore(self, threads, invariant, **options):
        """An exploration in which threads without an end make one pass, and the line of the fault raises."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_once.threads_end(any(call.once for call in self.case.calls)))
            if self.case.fault:
                found = self._resolved[self.case.calls[0]][2]
                function = inspect.unwrap(getattr(found, "__func__", found))
                if not stack.enter_context(_fault.raising(function, self.case.fault_file, self.case.fault)):
                    raise CannotBuild(f"the line that raises is not there any more: `{self.case.fault}`")
            if self.case.expects == "ready":
                self._missing = stack.enter_context(_missing.Missing(self.case.place.rpartition(".")[2]))
            waits = self.case.expects == "raise"
            return run(self.setup, threads, invariant, max_steps=_STEPS_MAX, blocked_is_outcome=waits, **options)

    def _run_before(self, call, state):
        function = self._bind(call, state, Builder())
        try:
            result = Builder().call(function, self._given(function, state, is_needed=False))
            if inspect.iscoroutine(result):
                asyncio.run(result)
            elif inspect.isgenerator(result):
                list(itertools.islice(result, _GENERATED_MAX))
        except Exception as error:
            raise CannotBuild(f"`{call.function}` fails when it runs alone: {type(error).__name__}: {error}") from None

    def _given(self, function, state, is_needed=True):
        if not self.case.keyed:
            return {}
        values = self.places(state) if self.case.place else self._values_of_modules()
        values = [value for value in values if isinstance(value, (dict, set)) and value]
        names = [it.name for it in inspect.signature(function).parameters.values() if it.default is it.empty]
        if not values and is_needed:
            raise CannotBuild(f"`{self.case.place}` has no keys")
        return {names[0]: next(iter(values[0]))} if names and values else {}

    def _values_of_modules(self):
        found = [vars(module).items() for module in self.modules.imported()]
        return [value for items in found for name, value in items if not name.startswith("__")]

    def places(self, state):
        """The values of the place; none if it cannot be found."""
        head, *rest = self.case.place.split(".")
        if head == "self":
            values = list(state.objects.values())
        elif head == "cls":
            values = [owner for owner, _, _ in self._resolved.values() if owner is not None][:1]
        else:
            values, rest = [self.modules.get(self.case.place_file)] if self.case.place_file else [], [head, *rest]
        for name in rest:
            values = [vars(type(it)).get(name) if not _has(it, name) else getattr(it, name) for it in values]
        return [value for value in values if value is not None]

    def _perform(self, number, state, is_serial):
        function, arguments, named = state.bound[number]
        state.enter(number)
        _quiet.begin_call(number)
        try:
            with _once.passing(function, self.case.calls[number].once):
                result = function(*arguments, **named)
                if inspect.isgenerator(result):
                    result = list(itertools.islice(result, _GENERATED_MAX))
                elif isinstance(result, contextlib._GeneratorContextManager):
                    with result as entered:
                        result = entered
        except _once.PassEnds:
            result = None
        except Exception as error:
            result = self._raised(number, error, is_serial)
        finally:
            _quiet.end_call()
        self._keep(number, state, result)

    def _keep(self, number, state, result):
        state.results[number] = result
        state.under_way.discard(number)
        if self.case.expects == "whole":
            state.whole[number] = Form().of(_caller.look(result))

    async def _perform_async(self, number, state, is_serial):
        function, arguments, named = state.bound[number]
        state.enter(number)
        _quiet.begin_call(number)
        try:
            with _once.passing(function, self.case.calls[number].once):
                result = await function(*arguments, **named)
        except _once.PassEnds:
            result = None
        except Exception as error:
            result = self._raised(number, error, is_serial)
        self._keep(number, state, result)

    def _raised(self, number, error, is_serial):
        """An exception is a result if it comes of an order of calls too."""
        if is_serial:
            self.expected.setdefault((number, type(error)), f"{type(error).__name__}: {error}")
        elif (number, type(error)) not in self.expected:
            raise error
        return error.with_traceback(None)

    def outcome(self, state):
        """What came of a run, comparable."""
        if self.case.expects == "own":
            return tuple(Form().of(result) for result in state.results), ()
        form = Form()
        places = self.places(state)
        if self.case.expects == "place" and places:
            return tuple(None for _ in state.results), tuple(map(form.of, places))
        results = tuple((form.of(result), whole) for result, whole in zip(state.results, state.whole, strict=True))
        left = places if places else [*state.objects.values(), *self._module_values()]
        return results, tuple(form.of(value) for value in left)

    def _module_values(self):
        modules = [self.modules.get(file) for file in self._files]
        return [
            value
            for module in modules
            for name, value in sorted(vars(module).items())
            if not name.startswith("__") and not callable(value) and not inspect.ismodule(value)
        ]

    # --- calls one after another

    def run_serially(self, after_order=lambda: None):
        """Learns which outcomes the orders of calls have. `serial` maps outcomes to orders, in words; `stuck` says why
        an order does not come to its end. `after_order` is called after each order."""
        numbers = range(len(self.case.calls))
        if self.case.expects == "ready":
            # There is but one call, and what it comes to is of no matter.
            self.serial[(), ()] = ""
            return
        for order in (
            [(number,) for number in numbers] if self.case.expects == "own" else itertools.permutations(numbers)
        ):
            words = ", then ".join(f"`{self.case.calls[number].function}`" for number in order)
            outcome = self._explore(
                [self._in_order(order)],
                lambda state, words=words: self.serial.setdefault(self.outcome(state), words) or True,
                max_runs=_SERIAL_RUNS_MAX,
            )
            if outcome.verdict == "failed":
                self.stuck = outcome
            after_order()

    def character(self):
        """What scenarios that need not both be explored have in common: results, and how much the place holds."""
        ends = frozenset((results, tuple(map(_amount, left))) for results, left in self.serial)
        return self.begins, ends

    def _in_order(self, order):
        if self.case.loops == "one":

            async def tasks(state):
                for number in order:
                    await self._perform_async(number, state, True)

            return tasks

        def calls(state):
            for number in order:
                if self.is_async(self.case.calls[number]):
                    asyncio.run(self._perform_async(number, state, True))
                else:
                    self._perform(number, state, True)

        return calls

    # --- calls at once

    def explore(self, max_runs: int | None = None, aims: Any = (), mutes: Any = ()) -> Outcome:
        """Explores the calls at once, switching around the lines of `aims` first, and never at those of `mutes`."""
        return self._explore(self._threads(), self._invariant(), max_runs=max_runs, aims=aims, mutes=mutes)

    def replay(self, schedule: str) -> Outcome:
        """Runs one schedule."""
        return self._explore(self._threads(), self._invariant(), schedule=schedule)

    def _threads(self):
        return [self._thread(number, call) for number, call in enumerate(self.case.calls)]

    def _thread(self, number, call):
        if not self.is_async(call):
            return lambda state: self._perform(number, state, False)
        if self.case.loops == "one":

            async def task(state):
                await self._perform_async(number, state, False)

            return task
        return lambda state: asyncio.run(self._perform_async(number, state, False))

    def _invariant(self):
        if self.case.expects in ("end", "raise"):
            return None

        def is_ready(state):
            who, self._missing.at = self._missing.at, None
            if who is not None:
                raise NotSerial(f"`{who}` looks for `{self.case.place}`, which is not there yet")

        def is_own(state):
            for number, (call, form) in enumerate(zip(self.case.calls, self.outcome(state)[0], strict=True)):
                known = {serial[0][number] for serial, words in self.serial.items() if words == f"`{call.function}`"}
                if form not in known:
                    raise NotSerial(
                        f"`{call.function}` returns {_words(form)}, and when it runs alone {_either(known)}"
                    )

        def is_serial(state):
            found = self.outcome(state)
            if not state.has_overlapped:
                # One after another: an order of the calls that has more outcomes than were seen before.
                self.serial.setdefault(found, "one after another")
            if found not in self.serial:
                raise NotSerial(self._difference(found))

        return {"ready": is_ready, "own": is_own}.get(self.case.expects, is_serial)

    def _difference(self, found):
        """What of an outcome no order of calls has."""
        results, left = found
        for number, result in enumerate(results):
            known = {serial[0][number] for serial in self.serial}
            if result not in known:
                result, known = result[0], {it[0] for it in known}
                if result in known:
                    return f"`{self.case.calls[number].function}` returns something that is not whole yet"
                name = self.case.calls[number].function
                return f"`{name}` returns {_words(result)}, and one call after another {_either(known)}"
        known = {serial[1] for serial in self.serial}
        if left not in known:
            place = self.case.place or "the state"
            if len(known) == 1 and len(left) == 1:
                path, now, serial = _apart(left[0], next(iter(known))[0])
                return f"`{place}{path}` is {_words(now)} at the end, and after one call after another {_words(serial)}"
            return f"`{place}` is {_words(left)} at the end, and after one call after another {_either(known)}"
        return "the results are those of calls that run one after another, but not together"


def _numbers(arguments, number):
    """What a builder of values begins with: those that come before have the first."""
    return {"own": (number + 1, 0), "large": (0, 1_000_000)}.get(arguments, (0, 0))


def _has(thing, name):
    return name in getattr(thing, "__dict__", {}) or inspect.getattr_static(type(thing), name, None) is not None


def _value_of(found):
    raise CannotBuild(f"`{found!r}` cannot be called")


def _amount(form):
    """Nothing, one or more."""
    if isinstance(form, tuple) and len(form) == 2 and form[0] in ("int", "float"):
        return form[0], max(0, min(form[1], 2))
    if isinstance(form, tuple) and form and form[0].startswith(("builtins.", "collections.")):
        return form[0], min(len(form), 4)
    return form[:1] if isinstance(form, tuple) else form


def _apart(one, other):
    """Where two forms differ, as far inside as they are alike: how to get there, and what stands there."""
    path = ""
    while _is_object(one) and _is_object(other) and one[:2] == other[:2] and len(one) == len(other):
        apart = [(a, b) for a, b in zip(one[2:], other[2:], strict=True) if a != b]
        (a, b), *_ = apart
        if len(apart) > 1 or not isinstance(a, tuple) or not isinstance(b, tuple) or a[0] != b[0] or len(a) != 2:
            break
        # An item of a dict, or an attribute; an item of a list has no key to name it by.
        if one[0].lower().endswith("dict"):
            path += f"[{_words(a[0])}]"
        elif isinstance(a[0], str) and isinstance(a[1], tuple) and a[0].isidentifier() and not _is_plain(a):
            path += f".{a[0]}"
        else:
            break
        one, other = a[1], b[1]
    return path, one, other


def _is_plain(form):
    return len(form) == 2 and form[0] in ("int", "float", "bool", "NoneType", "bytes", "complex")


def _is_object(form):
    return isinstance(form, tuple) and len(form) > 2 and isinstance(form[0], str) and isinstance(form[1], int)


def _words(form):
    """A comparable form for people, short."""
    if isinstance(form, tuple) and len(form) == 1 and isinstance(form[0], tuple):
        return _words(form[0])
    if not isinstance(form, tuple):
        text = repr(form)
    elif _is_plain(form):
        text = repr(form[1])
    elif len(form) == 2 and form[0] == "same":
        text = f"object {form[1] + 1} again"
    elif form and isinstance(form[0], str) and len(form) > 1 and isinstance(form[1], int):
        text = _object_words(form[0], form[1], form[2:])
    else:
        text = f"({', '.join(map(_words, form))})" if form else "nothing"
    return text if len(text) <= _WORDS_MAX else text[: _WORDS_MAX - 3] + "..."


def _object_words(kind, number, parts):
    name = kind.rpartition(".")[2]
    if name == "dict":
        return "{" + ", ".join(f"{_words(key)}: {_words(value)}" for key, value in parts) + "}"
    if name in ("list", "set", "deque", "frozenset"):
        return f"{name}({', '.join(map(_words, parts))})"
    return f"a `{name}` (object {number + 1})"


def _either(known):
    words = sorted(map(_words, known))
    return " or ".join(words[:3]) if words else "nothing"
