"""Where the state of locks and pools is told from."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Source:
    """Where a part of the program tells its state from: `read()` returns a list of mappings, one for each object.

    Of a lock: `name`, `holder` (text or None), `waiters` (int), `held_s`, `wait_p50_s`, `wait_p99_s`, `hold_p50_s`,
    `hold_p99_s`, `hold_max_s`. Of a pool: `name`, `queued`, `limit`, `workers`, `active`. What is missing is not shown.
    """

    def __init__(self, kind: str, read: Callable[[], Iterable[Mapping[str, Any]]]):
        self.kind = kind
        self.read = read
