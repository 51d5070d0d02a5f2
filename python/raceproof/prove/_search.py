"""From what a finding says to a scenario that comes to its lines, and to what exploration says of that.

Tried, in this order: the functions on the two paths, from the one with the access outwards; what runs before them;
arguments that are keys of the shared state; equal arguments and different ones. A scenario counts only if its calls
came to both lines of the finding when they ran one after another.
"""

import contextlib
import dataclasses
import difflib
import inspect
import itertools
import re
import signal
import sys
import time
from typing import Any

from raceproof.prove import _fault, _lines, _once
from raceproof.prove._case import Call, Case, Runner
from raceproof.prove._load import CannotImport, Modules, TimeUp
from raceproof.prove._values import CannotBuild

_CASES_MAX = 240
_EXPLORED_MAX = 8
_BEFORE_MAX = 10
_REPEATED_MAX = 9
_ARGUMENTS_FEW = ((False, "program"), (False, "same"), (True, "same"))
_ARGUMENTS = ((False, "program"), (False, "same"), (False, "own"), (True, "same"), (False, "large"))
# Numbers up to this may be limits that calls before have to come to.
_LIMIT_MAX = 128
_RUN_MAX_S = 0.02
# Runs that tell whether the others would come to their end.
_FIRST_RUNS = 20
# Failures of another kind that are set aside to see whether that of the finding is gone.
_OTHERS_MAX = 5
_UNFIT_BEFORE = ("start", "stop", "close", "shutdown", "run", "main", "serve", "join", "wait", "sleep")
_STUCK = ("deadlock", "missed wake-up")
_RAISED = re.compile(r"^T\d+ raises (\w+)")
_UNLIKELY = (TypeError, AttributeError, NameError)


@dataclasses.dataclass
class Side:
    """One path of a finding: functions from the access outwards, and the lines of the access."""

    functions: list[Call]
    lines: list[tuple[str, int, int]]
    is_task: bool

    @classmethod
    def of(cls, data: dict[str, Any], place: str) -> "Side":
        """From plain data."""
        functions = [Call(**call) for call in data["functions"]]
        lines = [(it["file"], it["first"], it["last"]) for it in data["lines"]]
        if not functions:
            functions = [Call(file, name) for file, line, _ in lines for name in _lines.functions_at(file, line)]
        is_made = not data["functions"] and functions and all(it.function.endswith("__init__") for it in functions)
        if is_made:
            # The line only makes a lock: what uses it is asked for.
            found = _lines.users_of(functions[0].file, functions[0].function, place.rpartition(".")[2])
            lines = [(functions[0].file, first, last) for _, first, last in found]
            functions = [Call(functions[0].file, name) for name, _, _ in found]
        return cls(list(dict.fromkeys(functions)), lines, data["is_task"])


@dataclasses.dataclass
class Found:
    """What came of a finding."""

    verdict: str
    reason: str | None = None
    case: Case | None = None
    outcome: Any = None
    runner: Runner | None = None
    is_elsewhere: bool = False
    n_scenarios: int = 0
    n_runs: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    def is_it(self) -> bool:
        """Is it the failure that the finding speaks of?"""
        return self.verdict == "failed" and not self.is_elsewhere


class Search:
    """Looks for a scenario of a finding."""

    def __init__(self, request: dict[str, Any], modules: Modules):
        self.sides = [Side.of(side, request["place"]) for side in request["sides"]]
        self.alone = [Side.of(side, request["place"]) for side in request["alone"]]
        self.fault = request["fault"]
        self.used = request["used"].rpartition(".")[2]
        self.place = request["place"]
        self.place_file = request["place_file"]
        self.expected = request["expects"]
        self.expects = self.expected[0]
        self.max_runs = request["max_runs"]
        self.modules = modules
        self.time_limit = request["time_limit"]
        # The last exploration has to begin some time before the end.
        self.ends_at = time.monotonic() + self.time_limit * 0.8
        self.kept = {}
        self.reasons = []
        self.is_endless = False
        self.known = set()
        self.aims = [span for side in self.sides + self.alone for span in side.lines]
        self.watch = _lines.Watch([])

    def run(self) -> Found:
        """Searches."""
        for side in self.sides + self.alone:
            for call in side.functions:
                self.modules.get(call.file)
        explored = []
        with self.watch:
            for expects, calls in itertools.product(self.expected, list(self._calls())):
                self.expects = expects
                self.watch.look_for(self._wanted(calls))
                explored += self._explored_of(calls)
                if time.monotonic() > self.ends_at or any(it.is_it() for it in explored):
                    break
        return self._best(explored)

    def _wanted(self, calls):
        """The lines that the calls have to come to."""
        if self.expects in ("own", "ready"):
            # What is wrong shows in what they return, or in what another thread raises.
            return []
        if len(calls) == 1:
            return [side.lines for side in self.alone if side.lines and calls[0] in side.functions][:1]
        return [side.lines for side in self.sides]

    def _explored_of(self, calls):
        """What came of the scenarios with these calls, up to the first that fails."""
        explored = []
        for case in itertools.islice(self._cases(calls), _CASES_MAX):
            runner = self._fits(case)
            if runner is not None:
                explored.append(self._explored(runner))
            if len(explored) == _EXPLORED_MAX or time.monotonic() > self.ends_at:
                break
            if explored and explored[-1].is_it():
                break
        return explored

    def _best(self, explored):
        if not explored:
            return Found("gave_up", self._why_none())
        order = ["failed", "nothing_found", "proved", "gave_up"]
        best = min(explored, key=lambda found: (found.is_elsewhere, order.index(found.verdict)))
        best.n_scenarios = len(explored)
        best.notes = self.notes(best.runner)
        best.n_runs = sum(found.n_runs for found in explored)
        if best.verdict == "proved" and time.monotonic() > self.ends_at:
            # There are scenarios that were not come to.
            best.verdict, best.reason = "nothing_found", f"the time limit of {self.time_limit} s was reached"
        return best

    def notes(self, runner):
        notes = []
        if self.modules.stubbed:
            notes.append("stubbed: " + ", ".join(self.modules.stubbed))
        if runner.started:
            notes.append("threads that do not run: " + ", ".join(sorted(set(runner.started))))
        if self.modules.starts.names:
            names = ", ".join(sorted(set(self.modules.starts.names)))
            notes.append(f"started by the import, and left out: {names}")
        return notes

    def _why_none(self):
        if time.monotonic() > self.ends_at:
            return "the time limit was reached before a scenario was found"
        if not self.reasons:
            return "no function on its paths can be called from outside"
        # What was tried first is the likeliest, so its reason says most.
        return self.reasons[0]

    # --- one scenario

    def _fits(self, case):
        """A runner of the scenario if its calls come to the lines of the finding; else notes why not."""
        if time.monotonic() > self.ends_at:
            return None
        try:
            runner = Runner(case, self.modules, self.kept)
            self.watch.clear()
            begun = time.monotonic()
            runner.run_serially(self.watch.end_order)
            if (time.monotonic() - begun) / max(1, runner.n_begun) > _RUN_MAX_S and self._can_pass(case):
                # One pass of a loop shows what a thousand do, in a thousandth of the steps.
                self.is_endless = True
                return self._note("a run takes too long")
        except (CannotBuild, CannotImport) as cause:
            return self._note(str(cause))
        except RuntimeError as cause:
            return self._note(f"{cause}")
        if (
            self.expects == "end"
            and not self._is_iterated()
            and runner.stuck is not None
            and runner.stuck.kind in _STUCK
        ):
            return runner if runner.case.background else self._note("it waits for a thread that does not run")
        if runner.stuck is not None and not runner.serial:
            stuck = runner.stuck
            self.is_endless = True
            return self._note(f"calls one after another do not come to their end: {stuck.reason}")
        if not runner.serial:
            self.is_endless = True
            return self._note("calls one after another do not come to their end")
        errors = [text for (_, kind), text in runner.expected.items() if issubclass(kind, _UNLIKELY)]
        if errors:
            return self._note(f"the calls fail when they run one after another: {errors[0]}")
        missing = self.watch.missing(in_one_order=self.expects == "place")
        if missing:
            lines = " and ".join(str(lines[0][1]) for lines in missing)
            errors = sorted(
                {f"`{case.calls[number].function}` raises {text}" for (number, _), text in runner.expected.items()}
            )
            why = f": {errors[0]}" if errors else ""
            return self._note(f"no call came to line {lines}{why}")
        kind = (case.expects, case.calls, case.loops, case.background, runner.character())
        if kind in self.known:
            return self._note("it was explored")
        self.known.add(kind)
        return runner

    def _is_iterated(self):
        """Is the end only what is looked at first, and are the outcomes looked at then?"""
        return "serial" in self.expected

    def _note(self, reason):
        self.reasons.append(reason)

    def _explored(self, runner):
        with self.watch.paused():
            try:
                outcome = runner.explore(_FIRST_RUNS, self.aims) if self._can_pass(runner.case) else None
                if outcome is not None and outcome.verdict != "failed" and outcome.certificate["unfinished"]:
                    self.is_endless = True
                    return Found("gave_up", "the runs are too long", runner.case, None, runner, n_runs=runner.n_begun)
                other, n_runs = None, 0
                if outcome is None or outcome.verdict != "failed" or not self.is_here(outcome):
                    outcome, other, n_runs = self._past_others(runner)
            except TimeUp as cause:
                return Found("nothing_found", str(cause), runner.case, None, runner, n_runs=runner.n_begun)
        found = _found(runner, outcome, other, n_runs or outcome.runs)
        outcome = found.outcome
        if found.is_elsewhere and not any(decides for *_, decides in outcome.steps):
            # Tasks in the background, say, that come further or less far.
            found.verdict, found.outcome, found.is_elsewhere = "gave_up", None, False
            found.reason = "what the calls come to depends on more than their order"
        if not runner.case.background and outcome.kind == "missed wake-up":
            # What it waits for may come from a thread that was not started.
            found.verdict, found.reason, found.outcome = "gave_up", "it waits for a thread that does not run", None
        if outcome.verdict == "gave_up" or outcome.kind == "livelock":
            self.is_endless = True
        return found

    def _past_others(self, runner):
        """What comes of the scenario, another failure that was met on the way, and the runs. Another failure stops the
        search for that of the finding: it cannot happen where no thread is switched."""
        other, n_runs, mutes = None, 0, []
        for _ in range(_OTHERS_MAX):
            outcome = runner.explore(self.max_runs, self.aims, mutes)
            n_runs += outcome.runs
            deciding = [(file, line, line) for _, file, line, _, decides in outcome.steps if decides]
            if outcome.verdict != "failed" or self.is_here(outcome):
                return outcome, other, n_runs
            other = other or outcome
            mutes += deciding
            if not deciding:
                break
        return other, other, n_runs

    def is_here(self, outcome):
        """Does the failure have to do with the lines or the place of the finding?"""
        if self.expected == ["end"] and not self.place:
            # Nobody waits for a lock: what is waited for may be made elsewhere in the program.
            return outcome.kind != "missed wake-up"
        if self.expected == ["ready"]:
            # Threads may raise something else, since their arguments are made.
            return _names(outcome.reason or "", self.place)
        if not self.place or self.expected in (["end"], ["own"]):
            return True
        deciding = [(file, line, text) for _, file, line, text, decides in outcome.steps if decides]
        if any(_names(text, self.place) or self._is_aim(file, line, text) for file, line, text in deciding):
            return True
        if not deciding and _names(outcome.reason or "", self.place):
            return True
        if outcome.kind in _STUCK or outcome.kind == "livelock":
            return False
        places = {(file, line) for _, file, line, _, _ in outcome.steps}
        return all(
            any(file == known and first <= line <= last for file, line in places for known, first, last in side.lines)
            for side in self.sides
        )

    def _is_aim(self, file, line, text):
        if any(known == file and first <= line <= last for known, first, last in self.aims):
            return True
        # Who takes the lock first decides on what is done with it, in the same function.
        around = {(known, name) for known, first, _ in self.aims for name in _lines.functions_at(known, first)[:1]}
        return "the lock" in text and any((file, name) in around for name in _lines.functions_at(file, line)[:1])

    # --- which scenarios there are

    def _cases(self, calls):
        modes = ["each"]
        if all(self._is_async(call) for call in calls):
            modes = ["one", "each"] if any(side.is_task for side in self.sides) else ["each", "one"]
        is_endless = any(self._is_endless(call) for call in calls)
        for before in self._before(calls):
            for loops, (keyed, arguments) in itertools.product(
                modes, _ARGUMENTS if len(before) < 2 else _ARGUMENTS_FEW
            ):
                for once, background in ((False, True), (False, False), (True, True)):
                    if (once or not background) and not (self.is_endless or is_endless):
                        continue
                    if (is_endless and not once) or (len(calls) == 1 and not background):
                        continue
                    if arguments == "program" and not self._has_starts(calls):
                        continue
                    at_once = tuple(dataclasses.replace(call, once=once) for call in calls)
                    yield Case(
                        at_once,
                        before,
                        self.place,
                        self.place_file,
                        loops,
                        arguments,
                        keyed,
                        background,
                        self.expects,
                        *self._fault(),
                    )

    def _fault(self):
        if self.fault is None:
            return "", ""
        return self.fault["file"], _fault.text_at(self.fault["file"], self.fault["first"])

    def _has_starts(self, calls):
        found = [self._function(call) for call in calls]
        return any(function is not None and self.modules.starts.of(function) for function in found)

    def _is_endless(self, call):
        function = self._function(call)
        return inspect.isfunction(function) and _once.is_endless(function)

    def _can_pass(self, case):
        functions = [self._function(call) for call in case.calls]
        loops = [_once.has_loop(function) for function in functions if inspect.isfunction(function)]
        return any(loops) and not any(call.once for call in case.calls)

    def _function(self, call):
        found = self.modules.get(call.file)
        for part in call.function.split("."):
            found = inspect.getattr_static(found, part, None)
        return getattr(found, "__func__", found)

    def _calls(self):
        yield from dict.fromkeys(self._pairs())

    def _pairs(self):
        if self.expected == ["own"]:
            yield from self._heirs()
            return
        if self.expected[0] == "raise":
            yield from ((call, *others) for call in self.sides[0].functions for others in self._others_of(call))
        yield from self._at_once()
        for side in self.alone:
            for call in side.functions:
                yield (call,)
                yield from ((heir,) for heir in self._made_by_heirs(call))
        if self.used:
            for call in self.sides[0].functions:
                yield from ((call, other) for other in self._users(call))
                if self.expected == ["serial"]:
                    yield from ((other, other) for other in self._users(call))

    def _heirs(self):
        """A method of a class, and the same method of one that inherits it."""
        method, heir = self.sides
        name = next((_lines.class_at(file, line) for file, line, _ in heir.lines), None)
        for call in method.functions if name is not None else ():
            yield call, Call(heir.lines[0][0], f"{name}.{call.function.rpartition('.')[2]}")

    def _others_of(self, call):
        """Two that wait for a condition, and what else uses it."""
        return [(call, other) for other in self._users(call)]

    def _users(self, call):
        """What else uses the lock."""
        found = _lines.users_of(call.file, call.function, self.used)
        return [Call(call.file, name) for name, _, _ in found if not name.endswith("__init__")]

    def _made_by_heirs(self, call):
        """The constructors of the classes that inherit one."""
        owner = call.function.rpartition(".")[0]
        kind = inspect.getattr_static(self.modules.get(call.file), owner, None) if owner else None
        heirs = kind.__subclasses__() if isinstance(kind, type) and call.function.endswith("__init__") else []
        return [
            Call(call.file, f"{heir.__qualname__}.__init__") for heir in heirs if heir.__module__ == kind.__module__
        ]

    def _at_once(self):
        choices = []
        if not self.sides:
            return
        for side in self.sides:
            public = [call for call in side.functions if not call.function.rpartition(".")[2].startswith("_")]
            rest = [call for call in side.functions if call not in public]
            choices.append([*public, *rest])
        pairs = list(itertools.product(*choices))
        # Near the access first, on both sides.
        pairs.sort(key=lambda calls: sum(choices[idx].index(call) for idx, call in enumerate(calls)))
        for calls in pairs:
            yield tuple(calls) if len(calls) > 1 else (calls[0], calls[0])
        for call in dict.fromkeys(call for calls in pairs[:1] for call in calls):
            yield call, call

    def _before(self, calls):
        yield ()
        if any(self._is_endless(call) for call in calls):
            calls = [call for call in calls if not self._is_endless(call)]
        for call in dict.fromkeys(calls):
            yield (call,)
        others = [other for other in self._others(calls) if other not in calls]
        for other in others[:_BEFORE_MAX]:
            yield (other,)
        if len(set(calls)) > 1:
            yield tuple(dict.fromkeys(calls))
        for other, call in itertools.islice(itertools.product(others, dict.fromkeys(calls)), _BEFORE_MAX):
            yield other, call
        for n_times, call in itertools.product(range(2, _REPEATED_MAX), dict.fromkeys(calls)):
            yield (call,) * n_times
        for n_times in self._limits(calls):
            for call in dict.fromkeys(calls):
                yield (call,) * n_times
        yield from itertools.islice(itertools.permutations(others[:5], 2), _BEFORE_MAX)

    def _limits(self, calls):
        """How often something may have to be done before a limit is near: numbers in the code, and one less."""
        found = set()
        for function in filter(inspect.isfunction, map(self._function, calls)):
            code = inspect.unwrap(function).__code__
            values = [*code.co_consts, *(function.__globals__.get(name) for name in code.co_names)]
            found |= {it for it in values if type(it) is int and _REPEATED_MAX <= it <= _LIMIT_MAX}
        return sorted({n for it in found for n in (it - 1, it)})[:_BEFORE_MAX]

    def _others(self, calls):
        """Public methods of the classes, and functions of the modules, that may bring about the state."""
        found = []
        for call in dict.fromkeys(calls):
            module = self.modules.get(call.file)
            owner = call.function.rpartition(".")[0]
            kind = inspect.getattr_static(module, owner, None) if owner and "." not in owner else None
            if isinstance(kind, type):
                names = [f"{owner}.{name}" for name, value in vars(kind).items() if inspect.isfunction(value)]
            else:
                names = [
                    name
                    for name, value in vars(module).items()
                    if inspect.isfunction(value) and value.__module__ == module.__name__
                ]
            found += [Call(call.file, name) for name in names if _may_come_before(name)]
        return [call for call in dict.fromkeys(found) if not self._is_endless(call)]

    def _is_async(self, call):
        try:
            return Runner(Case((call,)), self.modules, self.kept).is_async(call)
        except (CannotBuild, CannotImport):
            return False


def _may_come_before(name):
    last = name.rpartition(".")[2]
    return not last.startswith("_") and not last.startswith(_UNFIT_BEFORE)


class Again(Search):
    """Explores the scenario of an earlier answer, of a program that was changed since."""

    def __init__(self, request: dict[str, Any], modules: Modules):
        super().__init__(request, modules)
        moved = [_moved(span, modules.overlay) for side in self.sides + self.alone for span in side.lines]
        self.aims = [span for span in moved if span is not None]
        self.case = Case.of(request["case"])
        self.reason = request["reason"]

    def run(self) -> Found:
        runner = Runner(self.case, self.modules, self.kept)
        runner.run_serially()
        outcome, other, n_runs = self._past_others(runner)
        found = _found(runner, outcome, other, n_runs)
        if not found.is_elsewhere and self.case.expects != "end" and not runner.serial:
            found.verdict, found.reason = "gave_up", "calls one after another do not come to their end"
        found.notes = self.notes(runner)
        return found

    def is_here(self, outcome):
        """Is it the failure of before? It is where the order of the same lines decides, or that of the same place."""
        if not self.place or outcome.kind in _STUCK:
            return True
        before, now = (_RAISED.search(reason or "") for reason in (self.reason, outcome.reason))
        if (before and before[1]) != (now and now[1]):
            # An exception and an outcome that is wrong, or two exceptions, are two failures.
            return False
        deciding = [(file, line, text) for _, file, line, text, decides in outcome.steps if decides]
        if not deciding:
            return True
        return any(_names(text, self.place) or self._is_aim(file, line, text) for file, line, text in deciding)


def _found(runner, outcome, other, n_runs):
    """The failure of the finding if it came; else another one if there was any."""
    if other is not None and (outcome is other or outcome.verdict != "failed"):
        found = Found("failed", other.reason, runner.case, other, runner, is_elsewhere=True)
    else:
        found = Found(outcome.verdict, outcome.reason, runner.case, outcome, runner)
    return dataclasses.replace(found, n_scenarios=1, n_runs=n_runs)


def _names(text, place):
    """Does a text speak of a place, and not only of something that has its name in its own?"""
    name = place.rpartition(".")[2]
    return bool(name) and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _moved(span, overlay):
    """Where lines of the disk are in the text that takes its place; None if they are gone."""
    file, first, last = span
    if file not in overlay:
        return span
    with open(file, encoding="utf-8") as text:
        before = [line.strip() for line in text]
    after = [line.strip() for line in overlay[file].splitlines()]
    kept = {}
    for block in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        kept |= {block.a + idx + 1: block.b + idx + 1 for idx in range(block.size)}
    lines = [kept[line] for line in range(first, last + 1) if line in kept]
    return (file, min(lines), max(lines)) if lines else None


@contextlib.contextmanager
def within(seconds: float):
    """Ends what takes longer by `TimeUp`. In the main thread only, since signals go there."""

    def end(*_):
        raise TimeUp(f"the time limit of {seconds} s was reached")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def search(request: dict[str, Any], modules: Modules) -> Found:
    """Searches for a scenario of the finding in `request`, and explores it; or explores the one that was found before,
    of a program that may have changed since."""
    try:
        with within(request["time_limit"]):
            if request["case"] is not None:
                return Again(request, modules).run()
            return Search(request, modules).run()
    except (CannotBuild, CannotImport, TimeUp) as cause:
        return Found("gave_up", str(cause))
    except RecursionError:
        return Found("gave_up", f"too deep a recursion (limit {sys.getrecursionlimit()})")
