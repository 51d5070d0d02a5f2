"""Jobs that run again and again on one thread, and figures of how long things take."""

import functools
import inspect
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from raceproof import _native
from raceproof._native import WaitTimeout
from raceproof._once import ThreadSafeSingleton
from raceproof.monitor import _store
from raceproof.monitor._fork import renew_after_fork

# How many jobs there may be.
JOBS_MAX = 1_000


class _Job:
    def __init__(self, name, collect, interval):
        self.name = name
        self.collect = collect
        self.interval = interval
        self.next = time.monotonic()
        self.errors = 0

    def seconds(self):
        return float(self.interval() if callable(self.interval) else self.interval)


@renew_after_fork
class BackgroundCollector(ThreadSafeSingleton):
    """Calls functions again and again, one after another, on a daemon thread of its own.

    A function that raises is an incident and is called again at its time. A function that takes longer than its
    interval delays the others and skips its missed times. The child of a fork keeps the jobs and runs them after
    `start()`.
    """

    def __init__(self):
        self._jobs: dict[str, _Job] = {}
        self._thread = None
        self._renew()

    def _renew(self):
        self._changed = threading.Condition()
        self._thread = None
        self._stopping = None

    def add(self, name: str, collect: Callable[[], object], interval: float | Callable[[], float]) -> None:
        """Calls `collect()` every `interval` seconds (a number, or a function that says it), in the place of an earlier
        job of this name. ValueError if there are a thousand."""
        with self._changed:
            if name not in self._jobs and len(self._jobs) >= JOBS_MAX:
                raise ValueError(f"there are {JOBS_MAX} jobs already")
            self._jobs[name] = _Job(name, collect, interval)
            self._changed.notify_all()

    def remove(self, name: str) -> bool:
        """Forgets a job; a call that runs goes on. False if there is none of this name."""
        with self._changed:
            return self._jobs.pop(name, None) is not None

    def start(self) -> None:
        """Starts the thread, unless it runs."""
        with self._changed:
            if self._thread is not None and self._thread.is_alive() and not self._stopping.is_set():
                return
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._work, args=(self._stopping,), name="raceproof-collector", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Ends the thread after the call that runs. WaitTimeout if that takes longer than `timeout` seconds."""
        with self._changed:
            thread, stopping = self._thread, self._stopping
            if stopping is not None:
                stopping.set()
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
            if thread.is_alive():
                raise WaitTimeout(f"a job of the collector still ran after {timeout:g} s")

    @property
    def running(self) -> bool:
        """Does the thread run?"""
        thread, stopping = self._thread, self._stopping
        return thread is not None and thread.is_alive() and not stopping.is_set()

    @property
    def errors(self) -> dict[str, int]:
        """How often each job raised."""
        with self._changed:
            return {name: job.errors for name, job in self._jobs.items()}

    def _work(self, stopping):
        while True:
            with self._changed:
                job = min(self._jobs.values(), key=lambda job: job.next, default=None)
                wait = None if job is None else job.next - time.monotonic()
                if stopping.is_set():
                    return
                if wait is None or wait > 0:
                    self._changed.wait(wait)
                    continue
            self._run(job)

    def _run(self, job):
        try:
            job.collect()
        except Exception as error:
            job.errors += 1
            _report(job, error)
        try:
            interval = max(0.001, job.seconds())
        except Exception as error:
            job.errors += 1
            interval = 1.0
            _report(job, error)
        job.next = max(job.next + interval, time.monotonic())


def _report(job, error):
    # Here, not above: incidents publish events and know settings, and none of them needs a collector.
    from raceproof.monitor.incidents import IncidentManager

    try:
        IncidentManager.instance().raise_incident_now(
            f"collecting `{job.name}` raised {type(error).__name__}: {error}",
            kind="collector-failure",
            severity="error",
            fingerprint=f"collector:{job.name}:{type(error).__name__}",
            context={"traceback": "".join(traceback.format_exception(error))},
        )
    except Exception as failed:
        _store.complain(f"collecting `{job.name}` raised {error!r}, and that could not be kept: {failed}")


@dataclass(frozen=True)
class Figures:
    """How long something took: `count` times, `total` seconds, and in seconds half, nine of ten, 99 of 100 and the
    longest. Quantiles are exact to one part in 16, the others exact."""

    count: int
    total: float
    p50: float
    p90: float
    p99: float
    max: float


class PerformanceFigures(ThreadSafeSingleton):
    """How long things take, by name. Adding takes no lock; a summary read meanwhile may lack what runs at that moment.

    Up to 1000 names; further ones are counted together as `(others)`.
    """

    def __init__(self):
        self._native = _native.MonitorFigures()

    def record(self, name: str, seconds: float) -> None:
        """Adds a duration in seconds."""
        self._native.add(name, seconds)

    def measure(self, name: str) -> "Measured":
        """Measures the body of a `with`, or a function or coroutine function that it decorates; also if it raises."""
        return Measured(self._native, name)

    def summary(self, name: str) -> Figures | None:
        """What is known under a name, or None."""
        row = self._native.summary(name)
        return None if row is None else Figures(*row)

    def summaries(self) -> dict[str, Figures]:
        """What is known under each name."""
        return {name: Figures(*row) for name, row in self._native.summaries().items()}

    def clear(self) -> None:
        """Forgets everything."""
        self._native.clear()


class Measured:
    """What `measure` returns: for one `with` at a time, or for any number of calls of what it decorates."""

    def __init__(self, native, name):
        self._native = native
        self._name = name
        self._start = 0.0

    def __enter__(self):
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_):
        self._native.add(self._name, time.perf_counter() - self._start)
        return False

    def __call__(self, function):
        native, name = self._native, self._name
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured(*args, **kwargs):
                start = time.perf_counter()
                try:
                    return await function(*args, **kwargs)
                finally:
                    native.add(name, time.perf_counter() - start)

        else:

            @functools.wraps(function)
            def measured(*args, **kwargs):
                start = time.perf_counter()
                try:
                    return function(*args, **kwargs)
                finally:
                    native.add(name, time.perf_counter() - start)

        return measured
