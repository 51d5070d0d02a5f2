"""The settings of the monitor: numbers with bounds, changed all at once."""

import threading
from collections.abc import Callable

from raceproof import _native
from raceproof._once import ThreadSafeSingleton
from raceproof.monitor._fork import renew_after_fork


@renew_after_fork
class Configuration(ThreadSafeSingleton):
    """Settings by name, with defaults and bounds; `describe()` lists them.

    A change comes all at once or not at all, and a reader sees one whole version. At the first use, variables such as
    `RACEPROOF_INTERVAL_S` are read. ValueError for a name that is unknown or a value out of bounds.
    """

    def __init__(self):
        self._native = _native.MonitorSettings()
        self._native.read_environment()
        self._guard = threading.Lock()
        self._watchers = ()

    def get(self, name: str) -> float:
        """The value of a setting; KeyError if there is none of this name."""
        return self._native.values()[1][name]

    def snapshot(self) -> dict[str, float]:
        """All values, as they were together at one moment."""
        return self._native.values()[1]

    @property
    def version(self) -> int:
        """How often the settings were changed."""
        return self._native.values()[0]

    def update(self, **changes: float) -> int:
        """Changes all of these or none; returns the new version. Watchers are called before it returns."""
        version = self._native.update({name: float(value) for name, value in changes.items()})
        for watcher in self._watchers:
            watcher(self.snapshot())
        return version

    def watch(self, callback: Callable[[dict[str, float]], None]) -> Callable[[], None]:
        """Calls `callback(values)` after each change, in the thread that changed; call what it returns to end that."""
        entry = _Watcher(callback)
        with self._guard:
            self._watchers = (*self._watchers, entry)

        def end():
            with self._guard:
                self._watchers = tuple(other for other in self._watchers if other is not entry)

        return end

    @staticmethod
    def describe() -> dict[str, tuple]:
        """For each setting: its default, least and largest value, and what it does."""
        return _native.MonitorSettings.describe()

    def _renew(self):
        self._guard = threading.Lock()


class _Watcher:
    """One registration: the same function may be registered twice."""

    def __init__(self, callback):
        self._callback = callback

    def __call__(self, values):
        self._callback(values)
