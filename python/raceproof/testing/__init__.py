"""Testing programs with threads: exploration of all schedules, replay, stress, and the testers of the guide."""

from raceproof.testing._explore import Outcome, explore, replay

__all__ = ["Outcome", "explore", "replay"]
