"""Tunes parameters from measurements: workers train, callers ask for advice."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

logger = logging.getLogger(__name__)

N_WORKERS = 2
ALARM_MS = 500.0
JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Job:
    """Measurements for one parameter."""

    parameter: str
    measurements: tuple[float, ...]


@dataclass(frozen=True)
class Advice:
    """What the model says, and which version of it."""

    model: tuple[float, float]
    version: int


def fit(measurements: tuple[float, ...]) -> tuple[float, float]:
    """Returns the start and the slope of a line through the measurements."""
    if len(measurements) < 2:
        return (measurements[0] if measurements else 0.0, 0.0)
    slope = (measurements[-1] - measurements[0]) / (len(measurements) - 1)
    return (measurements[0], slope)


class Trial:
    """A model that is tried out, and how often it was asked for."""

    def __init__(self, model: tuple[float, float]) -> None:
        self.model = model
        self.n_asked = 0

    def ask(self) -> tuple[float, float]:
        """Returns the model and counts the question."""
        self.n_asked += 1
        return self.model


class PerformanceOptimizer:
    """Fits a model to jobs on worker threads."""

    def __init__(self) -> None:
        self._jobs: deque[Job | None] = deque()
        self._ready = threading.Condition()
        self._drained = threading.Condition()
        self._n_unfinished = 0
        self._model_lock = threading.Lock()
        self._model = (0.0, 0.0)
        self._model_version = 0
        self._trials: dict[str, Trial] = {}
        self._trials_lock = threading.Lock()
        self._defaults: dict[str, float] = {}
        self._defaults_lock = threading.Lock()
        self._durations: dict[str, list[float]] = {}
        self._durations_lock = threading.Lock()
        self._workers = [
            threading.Thread(target=self._work_forever, name=f"optimizer-{n}")
            for n in range(N_WORKERS)
        ]

    def start(self) -> None:
        """Starts the workers."""
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """Lets the workers finish what is queued, then ends them."""
        with self._ready:
            self._jobs.extend([None] * len(self._workers))
            self._ready.notify_all()
        for worker in self._workers:
            worker.join(timeout=JOIN_TIMEOUT_S)

    def submit(self, job: Job) -> None:
        """Queues a job."""
        with self._drained:
            self._n_unfinished += 1
        with self._ready:
            self._jobs.append(job)
            self._ready.notify_all()

    def wait_until_drained(self) -> None:
        """Waits until all jobs are done."""
        with self._drained:
            while self._n_unfinished > 0:
                self._drained.wait(timeout=1.0)

    def publish(self, model: tuple[float, float], version: int) -> None:
        """Replaces the model."""
        with self._model_lock:
            self._model = model
            self._model_version = version

    def advise(self) -> Advice:
        """Returns the model and its version."""
        logger.debug("advice from %s of version %d", self._model, self._model_version)
        return Advice(self._model, self._model_version)

    def trial(self, job: Job) -> tuple[float, float]:
        """Returns the model for one parameter, fitted at the first call."""
        with self._trials_lock:
            known = self._trials.get(job.parameter)
        if known is None:
            known = Trial(fit(job.measurements))
            with self._trials_lock:
                self._trials[job.parameter] = known
        return known.ask()

    def forget_trials(self) -> None:
        """Fits all parameters anew from now on."""
        with self._trials_lock:
            self._trials.clear()

    def default(self, parameter: str) -> float:
        """Returns the default of a parameter, derived at the first call."""
        with self._defaults_lock:
            value = self._defaults.get(parameter)
        if value is None:
            derived = float(len(parameter))
            with self._defaults_lock:
                value = self._defaults.setdefault(parameter, derived)
        return value

    def record(self, parameter: str, duration_ms: float) -> None:
        """Keeps how long a job took, and warns where it took too long."""
        with self._durations_lock:
            self._durations.setdefault(parameter, []).append(duration_ms)
            if duration_ms > ALARM_MS:
                logger.warning("%s is slow: %.1f", parameter, self.mean_ms(parameter))

    def mean_ms(self, parameter: str) -> float:
        """Returns the mean duration of the jobs for one parameter."""
        with self._durations_lock:
            durations = self._durations.get(parameter, [])
            return sum(durations) / max(len(durations), 1)

    def _work_forever(self) -> None:
        while True:
            with self._ready:
                if not self._jobs:
                    self._ready.wait()
                job = self._jobs.popleft()
            if job is None:
                return
            try:
                self._work(job)
            except (ArithmeticError, LookupError):
                logger.exception("the job for %s failed", job.parameter)
            finally:
                self._finish()

    def _work(self, job: Job) -> None:
        model = self.trial(job)
        self.publish(model, len(job.measurements))
        self.record(job.parameter, max(job.measurements, default=0.0))

    def _finish(self) -> None:
        with self._drained:
            self._n_unfinished -= 1
            self._drained.notify_all()


_optimizer = PerformanceOptimizer()


def start_optimizer() -> None:
    """Starts the workers when the application starts."""
    _optimizer.start()


def stop_optimizer() -> None:
    """Ends the workers when the application ends."""
    _optimizer.stop()


async def optimise(measured: Mapping[str, tuple[float, ...]]) -> Advice:
    """Fits a model to measurements and returns what it says."""
    for parameter, measurements in measured.items():
        await asyncio.to_thread(_optimizer.submit, Job(parameter, measurements))
    await asyncio.to_thread(_optimizer.wait_until_drained)
    return await asyncio.to_thread(_optimizer.advise)


async def defaults(parameters: list[str]) -> dict[str, float]:
    """Returns the defaults of several parameters."""
    values = await asyncio.gather(
        *(asyncio.to_thread(_optimizer.default, name) for name in parameters)
    )
    return dict(zip(parameters, values, strict=True))


async def start_over() -> None:
    """Forgets what was fitted."""
    await asyncio.to_thread(_optimizer.forget_trials)
