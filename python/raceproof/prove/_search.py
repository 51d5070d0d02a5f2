"""From what a finding says to a scenario that comes to its lines, and to what exploration says of that.

Tried, in this order: the functions on the two paths, from the one with the access outwards; what runs before them;
arguments that are keys of the shared state; equal arguments and different ones. A scenario counts only if its calls
came to both lines of the finding when they ran one after another.
"""

import dataclasses
import inspect
import itertools
import sys
import time
from typing import Any

from raceproof.prove import _lines
from raceproof.prove._case import Call, Case, Runner
from raceproof.prove._load import CannotImport, Modules
from raceproof.prove._values import CannotBuild

_CASES_MAX = 160
_EXPLORED_MAX = 8
_BEFORE_MAX = 10
_REPEATED_MAX = 9
_ARGUMENTS_FEW = ((False, "same"), (True, "same"))
_ARGUMENTS = ((False, "same"), (False, "own"), (True, "same"), (False, "large"))
_UNFIT_BEFORE = ("start", "stop", "close", "shutdown", "run", "main", "serve", "join", "wait", "sleep")
_STUCK = ("deadlock", "missed wake-up")
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
        if functions and all(call.function.endswith("__init__") for call in functions):
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
        self.place = request["place"]
        self.place_file = request["place_file"]
        self.expects = request["expects"]
        self.max_runs = request["max_runs"]
        self.modules = modules
        self.ends_at = time.monotonic() + request["time_limit"] * 0.8
        self.kept = {}
        self.reasons = []
        self.is_endless = False
        self.known = set()
        self.watch = _lines.Watch([side.lines for side in self.sides])

    def run(self) -> Found:
        """Searches."""
        for side in self.sides:
            for call in side.functions:
                self.modules.get(call.file)
        explored = []
        with self.watch:
            for calls in self._calls():
                explored += self._explored_of(calls)
                if time.monotonic() > self.ends_at or any(it.is_it() for it in explored):
                    break
        return self._best(explored)

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
        return best

    def notes(self, runner):
        notes = []
        if self.modules.stubbed:
            notes.append("stubbed: " + ", ".join(self.modules.stubbed))
        if runner.started:
            notes.append("threads that do not run: " + ", ".join(sorted(set(runner.started))))
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
            runner.run_serially(self.watch.end_order)
        except (CannotBuild, CannotImport) as cause:
            return self._note(str(cause))
        except RuntimeError as cause:
            return self._note(f"{cause}")
        if self.expects == "end" and runner.stuck is not None and runner.stuck.kind in _STUCK:
            return runner
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
            return self._note(f"no call came to line {lines}")
        kind = (case.calls, case.loops, case.background, runner.character())
        if kind in self.known:
            return self._note("it was explored")
        self.known.add(kind)
        return runner

    def _note(self, reason):
        self.reasons.append(reason)

    def _explored(self, runner):
        with self.watch.paused():
            outcome = runner.explore(self.max_runs)
        found = Found(outcome.verdict, outcome.reason, runner.case, outcome, runner, n_runs=outcome.runs)
        found.is_elsewhere = outcome.verdict == "failed" and not self.is_here(outcome)
        if outcome.verdict == "gave_up":
            self.is_endless = True
        return found

    def is_here(self, outcome):
        """Does the failure have to do with the lines or the place of the finding?"""
        if self.expects == "end":
            return True
        if outcome.kind in _STUCK or outcome.kind == "livelock":
            return False
        name = self.place.rpartition(".")[2]
        if name and name in (outcome.reason or ""):
            return True
        for _, file, line, text, decides in outcome.steps:
            if decides and (self._is_line(file, line) or (name and name in text)):
                return True
        places = {(file, line) for _, file, line, _, _ in outcome.steps}
        return all(
            any(file == known and first <= line <= last for file, line in places for known, first, last in side.lines)
            for side in self.sides
        )

    def _is_line(self, file, line):
        lines = [it for side in self.sides for it in side.lines]
        return any(known == file and first <= line <= last for known, first, last in lines)

    # --- which scenarios there are

    def _cases(self, calls):
        modes = ["each"]
        if all(self._is_async(call) for call in calls):
            modes = ["one", "each"] if any(side.is_task for side in self.sides) else ["each", "one"]
        for before in self._before(calls):
            for loops, (keyed, arguments) in itertools.product(modes, _ARGUMENTS if len(before) < 2 else _ARGUMENTS_FEW):
                for once, background in ((False, True), (False, False), (True, True)):
                    if (once or not background) and not self.is_endless:
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
                    )

    def _calls(self):
        yield from dict.fromkeys(self._pairs())

    def _pairs(self):
        choices = []
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
        for call in dict.fromkeys(calls):
            yield (call,)
        others = [other for other in self._others(calls) if other not in calls]
        for other in others[:_BEFORE_MAX]:
            yield (other,)
        for n_times, call in itertools.product(range(2, _REPEATED_MAX), dict.fromkeys(calls)):
            yield (call,) * n_times
        if len(set(calls)) > 1:
            yield tuple(dict.fromkeys(calls))
        for other, call in itertools.islice(itertools.product(others, dict.fromkeys(calls)), _BEFORE_MAX):
            yield other, call
        for pair in itertools.islice(itertools.permutations(others[:5], 2), _BEFORE_MAX):
            yield pair

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
        return list(dict.fromkeys(found))

    def _is_async(self, call):
        try:
            return Runner(Case((call,)), self.modules, self.kept).is_async(call)
        except (CannotBuild, CannotImport):
            return False


def _may_come_before(name):
    last = name.rpartition(".")[2]
    return not last.startswith("_") and not last.startswith(_UNFIT_BEFORE)


def explored_again(request: dict[str, Any], data: dict[str, Any]) -> Found:
    """Explores a scenario that was found before, of a program that may have changed."""
    search = Search(request, Modules(request["overlay"]))
    case = Case.of(data)
    try:
        runner = Runner(case, search.modules, search.kept)
        runner.run_serially()
        outcome = runner.explore(search.max_runs)
    except (CannotBuild, CannotImport) as cause:
        return Found("gave_up", str(cause))
    found = Found(outcome.verdict, outcome.reason, case, outcome, runner, n_scenarios=1, n_runs=outcome.runs)
    if case.expects != "end" and not runner.serial:
        found.verdict, found.reason = "gave_up", "calls one after another do not come to their end"
    found.is_elsewhere = outcome.verdict == "failed" and not search.is_here(outcome)
    found.notes = search.notes(runner)
    return found


def search(request: dict[str, Any]) -> Found:
    """Searches for a scenario of the finding in `request`, and explores it."""
    modules = Modules(request["overlay"])
    try:
        return Search(request, modules).run()
    except CannotImport as cause:
        return Found("gave_up", str(cause))
    except RecursionError:
        return Found("gave_up", f"too deep a recursion (limit {sys.getrecursionlimit()})")
