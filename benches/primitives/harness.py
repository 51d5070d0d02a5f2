"""Measures one operation of ours beside the same operation of others, in one run, and prints ratios.

What is promised: in each round every contestant runs once, in an order that rotates; a ratio is formed inside a round,
and the median over the rounds is reported. Threads of one sample are released together on CPUs of their own. Time that
a thread waited for a CPU (run-queue delay) is taken off; time that it waited for a lock is not. A sample that waited
too long for a CPU, or whose threads hardly ran at the same time, is taken again.

What is not promised: absolute times mean nothing beyond the run that they come from.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable

DELAY_SHARE_MAX = 0.10
TRIES = 4
CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]

Setup = Callable[[int], tuple[object, list[object]]]
Worker = Callable[[object, object], object]


@dataclasses.dataclass
class Rival:
    """Another way to do the operation. `at_most` is the target: our time divided by the rival's."""

    name: str
    setup: Setup
    worker: Worker
    at_most: float | None = None


@dataclasses.dataclass
class Row:
    """One operation. `setup(threads)` returns the shared object and one argument for each thread; `worker(shared,
    argument)` does the operation `ops` times. With `threads=0` the thread that made the object uses it alone."""

    number: str
    operation: str
    threads: int
    ops: int
    ours: tuple[Setup, Worker]
    rivals: list[Rival]
    scale_at_least: float | None = None


def _delay_ns() -> int:
    try:
        with open("/proc/thread-self/schedstat") as file:
            return int(file.read().split()[1])
    except OSError:
        return 0


def _timed(worker: Worker, shared: object, argument: object) -> tuple[int, int, int]:
    delayed = _delay_ns()
    start = time.perf_counter_ns()
    worker(shared, argument)
    end = time.perf_counter_ns()
    return start, end, _delay_ns() - delayed


def _sample_alone(worker: Worker, shared: object, arguments: list[object]) -> tuple[float, float]:
    start, end, delay = _timed(worker, shared, arguments[0])
    return end - start - delay, delay / (end - start)


def _sample_together(worker: Worker, shared: object, arguments: list[object]) -> tuple[float, float]:
    """Nanoseconds per thread, and how far the sample is from one that nothing disturbed (0 is best)."""
    barrier = threading.Barrier(len(arguments))
    times: list[tuple[int, int, int]] = [(0, 1, 0)] * len(arguments)
    errors: list[BaseException] = []

    def body(idx: int) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {CPUS[idx % len(CPUS)]})
        barrier.wait()
        try:
            times[idx] = _timed(worker, shared, arguments[idx])
        except BaseException as error:  # a rival that fails is a result too
            errors.append(error)

    threads = [threading.Thread(target=body, args=(idx,)) for idx in range(len(arguments))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    longest = max(end - start for start, end, _ in times)
    overlap = min(end for _, end, _ in times) - max(start for start, _, _ in times)
    disturbed = max(delay / (end - start) for start, end, delay in times)
    if len(times) > 1:
        disturbed = max(disturbed, 1 - overlap / longest - 0.25)
    return sum(end - start - delay for start, end, delay in times) / len(times), disturbed


def _sample(setup: Setup, worker: Worker, threads: int) -> float:
    """The least disturbed of a few samples, in nanoseconds per thread."""
    best: tuple[float, float] | None = None
    for _ in range(TRIES):
        shared, arguments = setup(max(threads, 1))
        gc.collect()
        gc.disable()
        try:
            took, disturbed = (_sample_together if threads else _sample_alone)(worker, shared, arguments)
        finally:
            gc.enable()
        if best is None or disturbed < best[1]:
            best = (took, disturbed)
        if disturbed <= DELAY_SHARE_MAX:
            break
    assert best is not None
    return best[0]


def measure(row: Row, rounds: int = 7) -> dict:
    """The result of a row: nanoseconds of each contestant, and our ratio to each rival."""
    contestants = [("raceproof", *row.ours), *((rival.name, rival.setup, rival.worker) for rival in row.rivals)]
    samples: dict[str, list[float]] = {name: [] for name, _, _ in contestants}
    failed: dict[str, str] = {}
    for turn in range(rounds + 1):
        idx = turn % len(contestants)
        for name, setup, worker in contestants[idx:] + contestants[:idx]:
            if name in failed:
                continue
            try:
                took = _sample(setup, worker, row.threads)
            except Exception as error:
                if name == "raceproof":
                    raise
                failed[name] = f"{type(error).__name__}: {error}"[:80]
                continue
            if turn:  # the first round warms up
                samples[name].append(took / row.ops)
    ours = samples["raceproof"]
    result = {
        "number": row.number,
        "operation": row.operation,
        "threads": row.threads,
        "ns": statistics.median(ours),
        "rivals": [],
    }
    if row.scale_at_least is not None:
        alone = [_sample(*row.ours, 1) / row.ops for _ in range(rounds)]
        scale = statistics.median(one * row.threads / many for one, many in zip(alone, ours, strict=True))
        result["scale"] = scale
        result["scale_at_least"] = row.scale_at_least
    for rival in row.rivals:
        if rival.name in failed:
            entry = {"name": rival.name, "failed": failed[rival.name]}
        else:
            theirs = samples[rival.name]
            entry = {
                "name": rival.name,
                "ns": statistics.median(theirs),
                "ratio": statistics.median(our / their for our, their in zip(ours, theirs, strict=True)),
            }
        entry["at_most"] = rival.at_most
        result["rivals"].append(entry)
    return result


def lines(result: dict) -> list[str]:
    """The result as rows of a Markdown table."""
    threads = str(result["threads"]) if result["threads"] else "owner"
    head = f"| {result['number']} | {result['operation']} | {threads} | {result['ns']:.1f} |"
    shown = []
    for rival in result["rivals"]:
        if "failed" in rival:
            shown.append(f"{head} {rival['name']} | - | {rival['failed']} | | |")
            continue
        target, verdict = "", ""
        if rival["at_most"] is not None:
            target = f"{rival['at_most']:.3g}"
            verdict = "reached" if rival["ratio"] <= rival["at_most"] else "**not reached**"
        shown.append(f"{head} {rival['name']} | {rival['ns']:.1f} | {rival['ratio']:.3f} | {target} | {verdict} |")
    if "scale" in result:
        verdict = "reached" if result["scale"] >= result["scale_at_least"] else "**not reached**"
        scale, least = f"{result['scale']:.2f}", f">= {result['scale_at_least']}"
        shown.append(f"{head} itself, 1 thread (scale) | | {scale} | {least} | {verdict} |")
    return shown


HEAD = "| # | operation | threads | ns | against | ns | ratio | target | |\n|---|---|---|---|---|---|---|---|---|"


def without_gil() -> bool:
    """Does this interpreter run without a GIL now, after the peers were imported?"""
    return not getattr(sys, "_is_gil_enabled", lambda: True)()
