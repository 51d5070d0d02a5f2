"""How much slower programs run under the race detector, beside other detectors, in one run.

`python benches/detector/run.py [--rounds N] [--limit SECONDS] [NAME=PYTHON ...]`. Each program measures its own loop, so
that start-up does not count. In each round every contestant runs once; the best of the rounds is compared. NAME is a
tool that is started as `PYTHON -m NAME run SCRIPT`, such as `threadcheck=/path/to/python`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TIMED = """
import threading, time
def timed(n, work):
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print("TIMED", (time.perf_counter() - wall) / n * 1e9, (time.process_time() - cpu) / n * 1e9)
def together(n, function, *args):
    threads = [threading.Thread(target=function, args=args) for _ in range(n)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
class S:
    def __init__(self):
        self.n = 0
        self.items = [0] * 8
        self.table = {"a": 0}
"""

PROGRAMS = {
    "1 thread, accesses": (
        """
N = 200_000
def loop(s):
    for i in range(N):
        s.n = s.n + 1
        s.items[i & 7] = s.n
        s.table["a"] = s.items[i & 7]
s = S()
timed(N, lambda: loop(s))
""",
        5.0,
    ),
    "4 threads, a lock": (
        """
N = 25_000
lock = threading.Lock()
def loop(s):
    for i in range(N):
        with lock:
            s.n += 1
s = S()
timed(4 * N, lambda: together(4, loop, s))
""",
        5.0,
    ),
    "1 thread, a global": (
        """
N = 100_000
n = 0
def loop():
    global n
    for i in range(N):
        n = n + 1
timed(N, loop)
""",
        5.0,
    ),
    "4 threads, a lock, a global": (
        """
N = 25_000
n = 0
lock = threading.Lock()
def loop():
    global n
    for i in range(N):
        with lock:
            n += 1
timed(4 * N, lambda: together(4, loop))
""",
        5.0,
    ),
    "4 threads, each its own": (
        """
N = 100_000
def loop():
    s = S()
    for i in range(N):
        s.n = s.n + 1
        s.items[i & 7] = s.n
        s.table["a"] = s.items[i & 7]
timed(4 * N, lambda: together(4, loop))
""",
        5.0,
    ),
    "1 thread, new objects": (
        """
N = 50_000
def loop():
    for i in range(N):
        s = S()
        s.n += 1
        s.items[0] = i
timed(N, loop)
""",
        None,
    ),
    "1 thread, calls": (
        """
N = 100_000
class Deep:
    def __init__(self): self.x = 1
    def a(self, i): return self.b(i) + self.x
    def b(self, i): return self.c(i) + 1
    def c(self, i): return i * 2
def loop(d):
    for i in range(N):
        d.a(i)
d = Deep()
timed(N, lambda: loop(d))
""",
        None,
    ),
}


def measured(command: list[str], limit_s: float) -> tuple[float, float] | None:
    """Nanoseconds for one turn of the loop, of the wall clock and of the processors; nothing if it took too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return None
    for line in done.stdout.splitlines():
        if line.startswith("TIMED"):
            wall, cpu = line.split()[1:]
            return float(wall), float(cpu)
    raise RuntimeError(f"{command} measured nothing:\n{done.stdout}\n{done.stderr}")


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=120.0)
    parser.add_argument("others", nargs="*", metavar="NAME=PYTHON")
    args = parser.parse_args()
    contestants = {"plain": [sys.executable], "raceproof": [sys.executable, "-m", "raceproof", "run"]}
    for other in args.others:
        name, python = other.split("=", 1)
        contestants[name] = [python, "-m", name, "run"]
    print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}, the best of {args.rounds}")
    print("| program | tool | wall (ns a turn) | CPU (ns a turn) | wall against plain | CPU against plain |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for title, (program, at_most) in PROGRAMS.items():
            script = Path(folder) / "program.py"
            script.write_text(TIMED + program)
            best: dict[str, tuple[float, float] | None] = {}
            for _ in range(args.rounds):
                for name, command in contestants.items():
                    if name in best and best[name] is None:
                        continue
                    now, before = measured([*command, str(script)], args.limit), best.get(name)
                    best[name] = now if before is None or now is None else (min(now[0], before[0]), min(now[1], before[1]))
            plain = best["plain"]
            for name, times in best.items():
                if times is None or plain is None:
                    print(f"| {title} | {name} | more than {args.limit:.0f} s | | | |")
                    continue
                ratios = [mine / theirs for mine, theirs in zip(times, plain, strict=True)]
                missed = " (missed)" if name == "raceproof" and at_most is not None and ratios[1] > at_most else ""
                print(
                    f"| {title} | {name} | {times[0]:.0f} | {times[1]:.0f} | {ratios[0]:.2f} | {ratios[1]:.2f}{missed} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
