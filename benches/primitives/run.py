"""Runs the rows of every `rows_*.py` beside this file, each file in a process of its own, and prints one table.

`python run.py [--rounds N] [NAME or row number ...]`: all rows, or those of `rows_NAME.py`, or those with a number.
A peer that is not installed is named once, and its columns are left out.
"""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


def rows_of(name):
    return importlib.import_module(f"rows_{name}").ROWS


def run_one(name, numbers, rounds):
    import harness

    rows = [row for row in rows_of(name) if not numbers or row.number in numbers]
    if not harness.without_gil():
        sys.exit(f"rows_{name}: the GIL is enabled, so nothing runs in parallel; use a free-threaded Python")
    for row in rows:
        print("\n".join(harness.lines(harness.measure(row, rounds))), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("only", nargs="*")
    chosen = parser.parse_args()
    names = sorted(path.stem.removeprefix("rows_") for path in HERE.glob("rows_*.py"))
    numbers = {word for word in chosen.only if word not in names}
    if chosen.one:
        return run_one(chosen.one, numbers, chosen.rounds)
    import harness

    print(harness.HEAD, flush=True)
    wanted = [name for name in names if name in chosen.only] or names
    status = 0
    for name in wanted:
        command = [sys.executable, __file__, "--rounds", str(chosen.rounds), "--one", name, *sorted(numbers)]
        ended = subprocess.run(command, check=False).returncode
        if ended:
            print(f"rows_{name}.py ended with {ended}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
