"""`linearizable`: does an object that threads share behave as one that is used by one thread at a time?

It makes the scenarios itself: a few threads, each with a few calls, small ones first. Each is explored, and every run
has to come to what some serial order of the calls comes to, true to the times of the calls.
"""

import asyncio
import functools
import inspect
import itertools
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from raceproof.instrument import _words
from raceproof.testing import _serial
from raceproof.testing._explore import Outcome, _run

_RUNS_OF_ONE = 2_000
# More scenarios of one shape are not listed but drawn.
_LISTED_MAX = 20_000
_VACUOUS = "no run had two threads that touch the same thing"


@dataclass(frozen=True)
class LinearOutcome(Outcome):
    """An `Outcome` of many scenarios.

    `scenario` is the smallest that failed: for each thread its calls, in words. `scenarios` counts those explored;
    `runs` are the runs of all of them. `proved` means: of all scenarios of the size that was asked for, none was left
    out and each was proved.
    """

    scenario: tuple[tuple[str, ...], ...] | None = None
    scenarios: int = 0


class _Call(NamedTuple):
    """One call that a thread may make."""

    name: str
    function: Callable[[Any], Any]
    operation: Any


def linearizable(
    make: Callable[[], Any],
    operations: Mapping[Any, Iterable[Any]] | Iterable[Any],
    *,
    spec: Callable[[], Any] | None = None,
    threads: int = 2,
    calls_per_thread: int = 2,
    max_scenarios: int = 200,
    max_runs: int | None = None,
    seed: int = 0,
    observe: Callable[[Any], Any] | None = None,
    strategy: str = "dpor",
    runtime: str | None = None,
) -> LinearOutcome:
    """Looks for calls that come to something that no serial order of them comes to.

    `make()` gives the object. `operations` names its methods: `["push", "pop"]`, or with the arguments to try,
    `{"put": [1, 2], "move": [("a", "b")]}`; a tuple holds several arguments, an empty list means none. A callable
    instead of a name is called with the object and the arguments; it may be a coroutine function, and so may a method.

    The object is compared with itself, used serially, or with `spec()`: a plain object with the same methods, in which
    a method raises `Blocks` where the real one would wait. A call comes to what it returns, raises, or to waiting for
    ever. What the object holds at the end counts where both are of one type; `observe(object)` says what counts
    instead.

    Scenarios of up to `threads` threads with up to `calls_per_thread` calls are explored, the small ones all, beyond
    `max_scenarios` (at least the number of shapes) a sample by `seed`; each in at most `max_runs` runs (2,000). The
    first that fails is made smaller.
    """
    if threads < 2 or calls_per_thread < 1 or max_scenarios < 1:
        raise ValueError("a scenario has at least two threads and a call for each; ask for at least one scenario")
    calls = _calls(operations)
    search = _Search(make, spec, observe, strategy, max_runs or _RUNS_OF_ONE, seed, runtime)
    chosen, is_all = _chosen(calls, threads, calls_per_thread, max_scenarios, seed)
    for scenario in chosen:
        outcome = search.explore(scenario)
        if outcome.verdict == "failed":
            return search.smallest(scenario, outcome)
    return search.conclude(is_all)


def _calls(operations):
    pools = operations.items() if isinstance(operations, Mapping) else ((it, ()) for it in operations)
    calls = [_call(operation, arguments) for operation, pool in pools for arguments in _pool(pool)]
    if not calls:
        raise ValueError("there is no operation to call")
    return calls


def _pool(pool):
    pool = list(pool if pool is not None else ())
    return [it if isinstance(it, tuple) else (it,) for it in pool] or [()]


def _call(operation, arguments):
    name = getattr(operation, "__name__", "call") if callable(operation) else operation
    shown = f"{name}({', '.join(map(_words.shown, arguments))})"
    return _Call(shown, functools.partial(_called, operation, arguments), operation)


def _called(operation, arguments, target):
    if callable(operation):
        operation, arguments = operation, (target, *arguments)
    else:
        operation = getattr(target, operation)
    if inspect.iscoroutinefunction(operation):
        return asyncio.run(operation(*arguments))
    return operation(*arguments)


def _place(target, operation):
    """Where what is called stands: file and line."""
    function = operation if callable(operation) else getattr(type(target), operation, None)
    code = getattr(inspect.unwrap(function) if function is not None else None, "__code__", None)
    return ("", 0) if code is None else (code.co_filename, code.co_firstlineno)


def _chosen(calls, n_threads, n_calls, n_max, seed):
    """Scenarios, small ones first, and whether these are all."""
    shapes = [shape for n in range(2, n_threads + 1) for shape in _shapes(n, n_calls)]
    shapes.sort(key=lambda shape: (sum(shape), len(shape)))
    chance = random.Random(seed)
    chosen, is_all = [], True
    for idx, shape in enumerate(shapes):
        # What smaller ones leave over is for the larger ones.
        share = max((n_max - len(chosen)) // (len(shapes) - idx), 0)
        if len(calls) ** sum(shape) <= _LISTED_MAX:
            all_ = _distinct(_scenario(shape, picked) for picked in itertools.product(calls, repeat=sum(shape)))
            part = all_ if len(all_) <= share else _sorted(chance.sample(all_, share))
            is_all = is_all and len(part) == len(all_)
        else:
            picks = (tuple(chance.choice(calls) for _ in range(sum(shape))) for _ in range(4 * share))
            part, is_all = _sorted(_distinct(_scenario(shape, picked) for picked in picks)[:share]), False
        chosen += part
    return chosen, is_all


def _shapes(n_threads, n_calls):
    return list(itertools.combinations_with_replacement(range(n_calls, 0, -1), n_threads))


def _scenario(shape, picked):
    picked = iter(picked)
    return tuple(tuple(itertools.islice(picked, n)) for n in shape)


def _distinct(scenarios):
    """Each scenario once: threads have no order."""
    found = {}
    for scenario in scenarios:
        found.setdefault(tuple(sorted(tuple(call.name for call in own) for own in scenario)), scenario)
    return list(found.values())


def _sorted(scenarios):
    return sorted(scenarios, key=lambda scenario: [sorted(call.name for call in own) for own in scenario])


class _Search:
    """Explores scenarios and adds up what came of them."""

    def __init__(self, make, spec, observe, strategy, max_runs, seed, runtime):
        self.make = make
        self.spec = spec
        self.observe = observe
        self.runtime = runtime
        self.run = functools.partial(_run, strategy=strategy, max_runs=max_runs, seed=seed, runtime=runtime)
        self.outcomes = []
        self.n_runs = 0

    def explore(self, scenario):
        """The outcome of one scenario."""
        names = [[call.name for call in own] for own in scenario]
        functions = [[call.function for call in own] for own in scenario]
        learned = _serial.Scenario(
            self.make,
            functions,
            self.spec,
            observe=self.observe,
            keeps_time=True,
            names=names,
            runtime=self.runtime,
            locate=lambda state, call: _place(state, scenario[call[0]][call[1]].operation),
        )
        outcome = _serial.against(learned, None, self.run)
        self.outcomes.append(outcome)
        self.n_runs += outcome.runs
        return outcome

    def smallest(self, scenario, outcome):
        """Makes a scenario that fails smaller as long as it fails: calls and threads out, earlier arguments in."""
        is_smaller = True
        while is_smaller:
            is_smaller = False
            for candidate in _smaller(scenario):
                tried = self.explore(candidate)
                if tried.verdict == "failed" and tried.kind == outcome.kind:
                    scenario, outcome, is_smaller = candidate, tried, True
                    break
        names = tuple(tuple(call.name for call in own) for own in scenario)
        return self._made(outcome, scenario=names)

    def conclude(self, is_all):
        """Nothing has failed."""
        told = [it for it in self.outcomes if it.certificate]
        substantial = [it for it in told if it.verdict in ("proved", "nothing_found")]
        if not substantial:
            return self._made(self.outcomes[0])
        # A scenario in which no two threads touch the same thing shows nothing, and cannot fail either.
        is_proved = is_all and len(told) == len(self.outcomes)
        is_proved = is_proved and all(it.verdict == "proved" or _is_vacuous(it) for it in told)
        first = next((it for it in substantial if it.verdict != "proved"), substantial[0])
        reasons = sorted({it.reason for it in self.outcomes if it.verdict == "gave_up" and not _is_vacuous(it)})
        certificate = {
            **first.certificate,
            "executions": sum(it.certificate["executions"] for it in told),
            "untracked": sorted({what for it in told for what in it.certificate["untracked"]} | set(reasons)),
        }
        if not is_all:
            certificate["bound"] = "a sample of the scenarios"
        outcome = self._made(first)
        changed = {"verdict": "proved" if is_proved else "nothing_found", "certificate": certificate, "schedule": None}
        return _replaced(outcome, **changed)

    def _made(self, outcome, scenario=None):
        values = {field.name: getattr(outcome, field.name) for field in fields(Outcome)}
        values["runs"] = self.n_runs
        return LinearOutcome(**values, scenario=scenario, scenarios=len(self.outcomes))


def _replaced(outcome, **changed):
    values = {field.name: getattr(outcome, field.name) for field in fields(LinearOutcome)}
    return LinearOutcome(**{**values, **changed})


def _is_vacuous(outcome):
    return outcome.reason == _VACUOUS


def _smaller(scenario):
    for thread, own in enumerate(scenario):
        for idx in range(len(own)):
            rest = (*own[:idx], *own[idx + 1 :])
            changed = (*scenario[:thread], *([rest] if rest else []), *scenario[thread + 1 :])
            if len(changed) >= 2:
                yield changed
