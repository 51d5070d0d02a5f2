"""The race detector for whole programs: `raceproof run script.py` and `pytest --raceproof-detect`.

Threads run in parallel, as they do without it. What they touch is seen by a callback of `sys.monitoring`, what orders
them by locks that stand in for those of `threading`; in the end both sides of each conflict are told. Code that is seen
is everything but the interpreter's own library and the tools that run tests.
"""

from raceproof.detect._detector import Detector

__all__ = ["Detector"]
