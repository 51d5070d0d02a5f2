"""How fast, and how well with more threads: throughput, the time of one operation, the curve from 1 to N threads."""

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from raceproof.testing._calls import in_background, numbered
from raceproof.testing._results import Result

_THREADS_MAX = 8
_CURVE_SHARE = 4


@dataclass(frozen=True)
class Measured:
    """One measurement: `threads`, `operations` that came back, `seconds` by the clock on the wall, the median and the
    99th percentile of one operation in microseconds, and what operations raised."""

    threads: int
    operations: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: list[str] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Operations per second, of all threads together."""
        return self.operations / self.seconds if self.seconds > 0 else float("inf")


def measure(operation: Callable[[], Any], *, threads: int = 1, operations: int = 1_000) -> Measured:
    """Makes `operations` calls in `threads` threads that start together. What a call gives is awaited if it can be, in
    one event loop for each thread."""
    if threads < 1 or operations < 1:
        raise ValueError("at least one thread and one operation")
    threads = min(threads, operations)
    start = threading.Barrier(threads + 1)
    parts = [_Part(operation, len(range(number, operations, threads)), start) for number in range(threads)]
    workers = [threading.Thread(target=part.live, name=f"measure-T{idx}") for idx, part in enumerate(parts)]
    for worker in workers:
        worker.start()
    start.wait()
    for worker in workers:
        worker.join()
    seconds = (max(part.end for part in parts) - min(part.begin for part in parts)) / 1e9
    times = sorted(time for part in parts for time in part.times)
    errors = [error for part in parts for error in part.errors]
    return Measured(threads, len(times), seconds, _at(times, 0.5), _at(times, 0.99), errors)


def scaling(
    operation: Callable[[], Any], *, threads: Iterable[int] | None = None, operations: int = 1_000
) -> dict[int, Measured]:
    """`measure` for each number of threads: powers of two up to the processors of this machine, if none are given."""
    return {n: measure(operation, threads=n, operations=operations) for n in (threads or _curve())}


def _curve():
    n_max = min(os.cpu_count() or 1, _THREADS_MAX)
    return sorted({n_max, *(n for n in (1, 2, 4, 8) if n <= n_max)})


def _at(times, share):
    """The time that this share of the operations does not exceed, in microseconds."""
    return times[min(int(len(times) * share), len(times) - 1)] / 1e3 if times else 0.0


class _Part:
    """What one thread does."""

    def __init__(self, operation, n, start):
        self.operation = operation
        self.n = n
        self.start = start
        self.times = []
        self.errors = []
        self.begin = self.end = 0

    def live(self):
        self.start.wait()
        self.begin = time.perf_counter_ns()
        left = self._plainly(self.n)
        if left:
            asyncio.run(self._awaiting(left))
        self.end = time.perf_counter_ns()

    def _plainly(self, n):
        """Makes calls until one gives something to await, which costs that call; how many are left then."""
        while n:
            begin = time.perf_counter_ns()
            try:
                result = self.operation()
            except Exception as error:
                self._failed(error)
            else:
                if inspect.isawaitable(result):
                    self.first = result
                    return n
                self.times.append(time.perf_counter_ns() - begin)
            n -= 1
        return 0

    async def _awaiting(self, n):
        result = self.first
        for _ in range(n):
            begin = time.perf_counter_ns()
            try:
                result = self.operation() if result is None else result
                if inspect.isawaitable(result):
                    await result
                self.times.append(time.perf_counter_ns() - begin)
            except Exception as error:
                self._failed(error)
            result = None

    def _failed(self, error):
        self.errors.append(f"{type(error).__name__}: {error}")


class ThreadSafetyPerformanceTester:
    """Throughput of a getter and of an operation in as many threads as there are processors, at most eight."""

    def __init__(self, *, threads: int | None = None) -> None:
        self.threads = threads or min(os.cpu_count() or 1, _THREADS_MAX)

    async def benchmark_singleton_access(self, get_instance_func: Any, num_operations: int = 10000) -> Result:
        """How many times per second threads get the instance."""
        return await self._benchmark("singleton_performance", get_instance_func, num_operations)

    async def benchmark_concurrent_operations(self, operation_func: Any, num_operations: int = 1000) -> Result:
        """How many operations per second threads make together; it may take the number of the operation."""
        return await self._benchmark("concurrent_operations_performance", operation_func, num_operations)

    async def _benchmark(self, test_type, operation, n):
        return await in_background(self._measured, test_type, numbered(operation), n)

    def _measured(self, test_type, operation, n):
        # The instance is made before: what is measured is access.
        measure(operation)
        curve = scaling(operation, operations=max(n // _CURVE_SHARE, 1))
        whole = measure(operation, threads=self.threads, operations=n)
        return Result(
            {
                "test_type": test_type,
                "num_operations": n,
                "total_time": whole.seconds,
                "operations_per_second": whole.per_second,
            },
            p50_us=whole.p50_us,
            p99_us=whole.p99_us,
            scaling={threads: measured.per_second for threads, measured in curve.items()},
            errors=whole.errors,
        )
