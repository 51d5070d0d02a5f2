"""Testing programs with threads: exploration of all schedules, replay, stress, and the testers of the guide."""

from raceproof.testing._explore import Outcome, explore, replay
from raceproof.testing._linearizable import LinearOutcome, linearizable
from raceproof.testing._serial import Blocks
from raceproof.testing._stress import Hung, StressOutcome, stress

__all__ = [
    "Blocks",
    "Hung",
    "LinearOutcome",
    "Outcome",
    "StressOutcome",
    "explore",
    "linearizable",
    "replay",
    "stress",
]
