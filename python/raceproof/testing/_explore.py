"""`explore` and `replay`: a scenario under control."""

import functools
import gc
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raceproof._native import control
from raceproof.instrument import INSTRUMENT, _loop
from raceproof.testing import _serial

_COLLECT_EVERY = 500


@dataclass(frozen=True)
class Outcome:
    """What an exploration says.

    `verdict` is `"failed"` (there is a schedule that fails), `"proved"` (every schedule was walked through, up to
    equality, and nothing was left untracked), `"nothing_found"` (what was walked through does not fail) or
    `"gave_up"` (nothing can be said; `reason` says why). `schedule` is a text for `replay`, `explanation` the failure
    in words, `certificate` says how far the verdict reaches.
    """

    verdict: str
    runs: int
    schedule: str | None
    explanation: str
    certificate: dict[str, Any]
    reason: str | None = None
    kind: str | None = None
    pattern: str | None = None
    steps: list[tuple[int, str, int, str, bool]] = field(default_factory=list)
    report: Any = field(default=None, repr=False, compare=False)

    def assert_holds(self) -> None:
        """Raises `AssertionError` with the explanation unless the verdict is `proved` or `nothing_found`."""
        if self.verdict == "failed":
            raise AssertionError(self.explanation)
        if self.verdict == "gave_up":
            raise AssertionError(f"nothing was shown: {self.reason}")

    def render(self, format: str = "text") -> str:
        """The failure as `text`, `json`, `sarif`, `github` or `html`; empty if there is none."""
        return self.report.render(format)


def explore(
    setup: Callable[[], Any],
    threads: list[Callable[[Any], Any]],
    invariant: Callable[[Any], Any] | None = None,
    *,
    spec: Callable[[], Any] | None = None,
    strategy: str = "auto",
    max_runs: int | None = None,
    bound: int | None = None,
    seed: int = 0,
    runtime: str | None = None,
    max_steps: int | None = None,
) -> Outcome:
    """Runs a scenario under control, schedule after schedule, until one fails or all have been walked through.

    `setup()` returns the state. Each of `threads` is called with it in a thread of its own; the coroutine functions
    among them are tasks of one event loop in one thread (for more loops, call `asyncio.run` in threads). At the end of
    a run `invariant(state)` returns False or raises if something is wrong. A thread that raises, a deadlock, a
    notification that is missed and a livelock are failures too.

    `spec` asks for more: `spec()` gives a state to run the threads on one after the other (`setup` itself, or a plain
    class with the same methods), and every run has to come to what some order of these comes to: what threads return or
    raise, which of them wait for ever, and, where both states are of one type, what the state holds at the end.
    Exceptions are no failures then.

    `strategy` is `auto`, `random`, `pct2`, `pct3`, `pos`, `dfs`, `dfs0`, `dfs1`, ..., or `dpor`; `bound` is the most
    preemptions of a run (then the strategy is `dfs` with that bound). `max_runs` limits the runs (100,000),
    `max_steps` the steps of each (10,000). `runtime` is `free-threaded`, where C code that goes over a container reads
    item by item, or `gil`; the standard is that of this interpreter.

    The code runs for real, many times: its effects outside of the state are its own.
    """
    run = functools.partial(
        _run, strategy=strategy, max_runs=max_runs, bound=bound, seed=seed, runtime=runtime, max_steps=max_steps
    )
    if spec is None:
        return run(setup, threads, invariant)
    return _serial.against(_serial.Scenario(setup, [[it] for it in threads], spec, runtime=runtime), invariant, run)


def replay(
    setup: Callable[[], Any],
    threads: list[Callable[[Any], Any]],
    invariant: Callable[[Any], Any] | None = None,
    *,
    schedule: str,
    spec: Callable[[], Any] | None = None,
    runtime: str | None = None,
) -> Outcome:
    """Runs a scenario once, by a schedule that `explore` gave. The verdict is `failed` if it fails again, `gave_up` if
    the program no longer comes to where the schedule switches, and `nothing_found` otherwise."""
    run = functools.partial(_run, runtime=runtime, schedule=schedule)
    if spec is None:
        return run(setup, threads, invariant)
    return _serial.against(_serial.Scenario(setup, [[it] for it in threads], spec, runtime=runtime), invariant, run)


def _run(
    setup,
    threads,
    invariant,
    *,
    strategy="auto",
    max_runs=None,
    bound=None,
    seed=0,
    runtime=None,
    max_steps=None,
    schedule=None,
    blocked_is_outcome=False,
    aims=(),
    mutes=(),
):
    if bound is not None:
        if strategy not in ("auto", "dfs"):
            raise ValueError("`bound` goes with the strategies auto and dfs")
        strategy = f"dfs{bound}"
    with INSTRUMENT.within(setup, threads, invariant):
        report = control.run_exploration(
            request(
                setup,
                threads,
                _checked(invariant),
                strategy=strategy,
                max_runs=max_runs,
                max_steps=max_steps,
                seed=seed,
                schedule=schedule,
                runtime=runtime,
                blocked_is_outcome=blocked_is_outcome,
                aims=aims,
                mutes=mutes,
            )
        )
    return Outcome(
        verdict=report.verdict,
        runs=report.runs,
        schedule=report.schedule,
        explanation=report.render() if report.verdict == "failed" else "",
        certificate=report.certificate
        | {"granularity": INSTRUMENT.granularity(*report.coarse), "visible": sorted(INSTRUMENT.files(report.entered))},
        reason=report.reason,
        kind=report.kind,
        pattern=report.pattern,
        steps=report.steps,
        report=report,
    )


def _checked(invariant):
    n_runs = 0

    def checked(state):
        nonlocal n_runs
        n_runs += 1
        if n_runs % _COLLECT_EVERY == 0:
            gc.collect()
        while INSTRUMENT.met:
            control.untracked(INSTRUMENT.met.pop())
        if invariant is None:
            return None
        holds = invariant(state)
        return None if holds or holds is None else ""

    return checked


def request(
    setup,
    threads,
    invariant,
    *,
    strategy="auto",
    max_runs=None,
    max_steps=None,
    seed=0,
    schedule=None,
    runtime=None,
    blocked_is_outcome=False,
    aims=(),
    mutes=(),
):
    """What the native explorer is told. `aims` and `mutes` are files with a first and a last line, around which it
    switches first, or never."""
    if runtime is None:
        is_free = not getattr(sys, "_is_gil_enabled", lambda: True)()
        runtime = "free-threaded" if is_free else "gil"
    if runtime not in ("free-threaded", "gil"):
        raise ValueError(f"no runtime `{runtime}`; the runtimes are free-threaded and gil")
    return {
        "setup": setup,
        "threads": _in_threads(threads),
        "invariant": invariant,
        "roots": INSTRUMENT.roots,
        "strategy": strategy,
        "max_runs": max_runs,
        "max_steps": max_steps,
        "seed": seed,
        "schedule": schedule,
        "is_iteration_atomic": runtime == "gil",
        "semantics": runtime,
        "reads_frames": not INSTRUMENT.is_portable,
        "blocked_is_outcome": blocked_is_outcome,
        "aims": list(aims),
        "mutes": list(mutes),
    }


def _in_threads(threads):
    """The callables of the threads: the coroutine functions together are one."""
    tasks = [it for it in threads if inspect.iscoroutinefunction(it)]
    plain = [it for it in threads if not inspect.iscoroutinefunction(it)]
    return [*plain, functools.partial(_loop.run_together, tasks)] if tasks else plain
