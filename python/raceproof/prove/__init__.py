"""Scenarios made from findings: `raceproof prove` looks for them, and the tests that it writes run them.

A scenario is plain data. Running it imports and calls the code of the program.
"""

from pathlib import Path

from raceproof.prove import _quiet
from raceproof.prove._case import Call, Case, NotSerial, Runner
from raceproof.prove._load import CannotImport, Modules
from raceproof.prove._values import CannotBuild
from raceproof.testing import Outcome

__all__ = ["Call", "CannotBuild", "CannotImport", "Case", "NotSerial", "explore", "replay"]

_MODULES = Modules()
_KEPT = {}


def explore(case: Case, root: str | Path = "", max_runs: int | None = None) -> Outcome:
    """Explores a scenario whose paths are relative to `root`."""
    return _runner(case, root).explore(max_runs)


def replay(case: Case, schedule: str, root: str | Path = "") -> Outcome:
    """Runs one schedule of a scenario whose paths are relative to `root`."""
    return _runner(case, root).replay(schedule)


def _runner(case, root):
    _quiet.prepare()
    runner = Runner(case.below(Path(root).resolve()), _MODULES, _KEPT)
    runner.run_serially()
    return runner
