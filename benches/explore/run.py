"""Executions per second of CPU time: raceproof beside frontrun and interleave-test, on the same small programs.

`python run.py [--seconds S] [KERNEL ...]`. Each tool and kernel has a process of its own; a tool that is not installed
is left out. Nothing is checked at the end of a run, so that no tool stops at a failure; a deadlock ends the exploration
of a tool, which then begins anew. raceproof samples at random, frontrun and interleave-test do what they do by default.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import kernels

TOOLS = ("raceproof", "frontrun", "interleave-test")


def raceproof(kernel, seconds):
    from raceproof.testing import explore

    runs, seed = 0, 0
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        seed += 1
        runs += explore(kernel.setup, kernel.threads, lambda s: True, strategy="random", max_runs=10_000, seed=seed).runs
    return runs, time.process_time() - begin


def frontrun(kernel, seconds):
    from frontrun import explore

    runs = 0
    begin = time.process_time()
    while time.process_time() - begin < seconds:
        result = explore(
            kernel.setup, kernel.threads, lambda s: True, preemption_bound=None, stop_on_first=False, detect_io=False
        )
        runs += result.num_explored
    return runs, time.process_time() - begin


def interleave(kernel, seconds):
    import interleave_test

    runs = 0

    def model():
        state = kernel.setup()
        tasks = [interleave_test.spawn(thread, state) for thread in kernel.threads]
        for task in tasks:
            task.join()

    begin, seed = time.process_time(), 0
    while time.process_time() - begin < seconds:
        seed += 1
        result = interleave_test.explore(model, iterations=50, seed=seed, raise_on_failure=False)
        runs += result.schedules_run
    return runs, time.process_time() - begin


def one(tool, name, seconds):
    kernel = kernels.KERNELS[name]()
    with contextlib.redirect_stdout(io.StringIO()):
        measure = {"raceproof": raceproof, "frontrun": frontrun, "interleave-test": interleave}[tool]
        runs, cpu = measure(kernel, seconds)
    print(runs / cpu)


def measured(tool, name, seconds):
    # frontrun works only below its own command.
    before = [str(Path(sys.executable).parent / "frontrun")] if tool == "frontrun" else []
    command = [*before, sys.executable, __file__, "--one", tool, "--seconds", str(seconds), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20 * seconds + 60)
    except subprocess.TimeoutExpired:
        return None
    lines = done.stdout.split()
    if done.returncode or not lines:
        print(f"{tool} on {name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return float(lines[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("kernels", nargs="*")
    chosen = parser.parse_args()
    names = chosen.kernels or list(kernels.KERNELS)
    if chosen.one:
        return one(chosen.one, names[0], chosen.seconds)
    print("| kernel | " + " | ".join(f"{tool} (/s)" for tool in TOOLS) + " | against frontrun | against interleave-test |")
    print("|---" * (len(TOOLS) + 3) + "|")
    for name in names:
        rates = [measured(tool, name, chosen.seconds) for tool in TOOLS]
        shown = [f"{rate:,.0f}" if rate else "" for rate in rates]
        ratios = [f"{rates[0] / rate:.0f}" if rates[0] and rate else "" for rate in rates[1:]]
        print(f"| {name} | " + " | ".join(shown + ratios) + " |", flush=True)
    return None


if __name__ == "__main__":
    main()
