"""What testers return: the dict of the guide, with more as attributes."""

from typing import Any


class Result(dict):
    """A dict with exactly the keys of the guide.

    `outcome` is what exploration said, if there was any; `schedule` replays what it found, `explanation` tells it.
    `notes` says what could not be done. Results of performance have `p50_us`, `p99_us` (of one operation), `scaling`
    (operations per second for each number of threads) and `errors`.
    """

    def __init__(self, keys: dict[str, Any], *, outcome: Any = None, notes: Any = (), **more: Any) -> None:
        super().__init__(keys)
        self.outcome = outcome
        self.notes = list(notes)
        self.schedule: str | None = None if outcome is None else outcome.schedule
        self.explanation: str = "" if outcome is None else outcome.explanation
        for name, value in more.items():
            setattr(self, name, value)
