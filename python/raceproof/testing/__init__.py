"""Testing programs with threads: exploration of all schedules, replay, stress, and the testers of the guide."""

from raceproof.testing._explore import Outcome, explore, replay
from raceproof.testing._leaks import LeakReport, check_leaks
from raceproof.testing._linearizable import LinearOutcome, linearizable
from raceproof.testing._performance import Measured, ThreadSafetyPerformanceTester, measure, scaling
from raceproof.testing._results import Result
from raceproof.testing._serial import Blocks
from raceproof.testing._stress import Hung, StressOutcome, stress
from raceproof.testing._testers import ThreadSafetyTester, ThreadSafetyTestSuite

__all__ = [
    "Blocks",
    "Hung",
    "LeakReport",
    "LinearOutcome",
    "Measured",
    "Outcome",
    "Result",
    "StressOutcome",
    "ThreadSafetyPerformanceTester",
    "ThreadSafetyTestSuite",
    "ThreadSafetyTester",
    "check_leaks",
    "explore",
    "linearizable",
    "measure",
    "replay",
    "scaling",
    "stress",
]
