"""The testers of the guide: its names, arguments and keys; behind them real threads and exploration.

Every tester first explores two callers under control, where the state that they reach can be put back, and then lets
real threads go, all at once and disturbed. What both see counts.
"""

from typing import Any

from raceproof.instrument import _known
from raceproof.testing import _serial
from raceproof.testing._calls import called, in_background, takes_number
from raceproof.testing._explore import _run, explore
from raceproof.testing._performance import ThreadSafetyPerformanceTester
from raceproof.testing._reach import Reach
from raceproof.testing._results import Result
from raceproof.testing._stress import stress

_THREADS_MAX = 8
_ATTEMPTS = 30
_SECONDS = 2.0
_RUNS = 2_000


class ThreadSafetyTester:
    """Is a getter, or an operation, safe to call from many threads?

    It calls them many times over: their effects outside of the program are real. `seed` makes exploration repeatable,
    `patience` is how many seconds a thread may take until it counts as hung.
    """

    def __init__(self, *, seed: int = 0, patience: float = 10.0) -> None:
        self.seed = seed
        self.patience = patience

    async def test_singleton_thread_safety(self, get_instance_func: Any, num_threads: int = 10) -> Result:
        """Do all threads get the same instance? `get_instance_func` may be a function or a coroutine function.

        The getter is made to begin anew as often as needed: the globals, attributes and containers that it reaches are
        put back, and are at the end what they were. Where that does not work, the first run is all there is, and
        `notes` of the result says so.
        """
        if num_threads < 1:
            raise ValueError("`num_threads` is at least 1")
        return await in_background(_Singleton(get_instance_func, num_threads, self).test)

    async def test_concurrent_access(self, access_func: Any, num_operations: int = 100) -> Result:
        """Does an operation keep its promises when many threads call it at once?

        It may take the number of the operation as its argument. Two calls under control have to come to what they come
        to one after the other: what they return, and what the state that they reach holds then. After that
        `num_operations` calls are made for real.
        """
        if num_operations < 1:
            raise ValueError("`num_operations` is at least 1")
        return await in_background(_Access(access_func, num_operations, self).test)


class _Box:
    """What the threads of a run got."""

    def __init__(self):
        self.got = []


def _n_distinct(values):
    """How many different objects; plain values that are equal are one."""
    distinct = []
    for value in values:
        if not any(value is it or (isinstance(value, _known_values()) and value == it) for it in distinct):
            distinct.append(value)
    return len(distinct)


def _known_values():
    return tuple(kind for kind in _known._IMMUTABLE if kind is not type)


class _Singleton:
    def __init__(self, getter, n_threads, tester):
        self.getter = getter
        self.n_threads = n_threads
        self.tester = tester
        self.before = self.begin = Reach(getter)
        self.is_renewable = False
        self.boxes = []
        self.n_unique = 0
        self.errors = []
        self.notes = []
        self.outcome = None

    def test(self):
        self._real(self._box, runs=1)
        if not self.errors:
            self.is_renewable = self._can_begin_anew()
            if self.is_renewable and self.n_threads > 1:
                self._explore()
                if self.n_unique < 2 and not self.errors:
                    self._real(self._anew, runs=_ATTEMPTS, seconds=_SECONDS)
            elif not self.is_renewable:
                self.notes.append("the getter could not be made to begin anew: one run is all there is")
        self.before.restore()
        return Result(
            {
                "test_type": "singleton_thread_safety",
                "num_threads": self.n_threads,
                "unique_instances": self.n_unique,
                "errors": self.errors,
                "is_thread_safe": self.n_unique == 1 and not self.errors,
            },
            outcome=self.outcome,
            notes=self.notes,
        )

    def _box(self):
        self.boxes.append(_Box())
        return self.boxes[-1]

    def _anew(self):
        self.begin.restore()
        return self._box()

    def _call(self, box):
        box.got.append(called(self.getter))

    def _is_one(self, box):
        n = _n_distinct(box.got)
        self.n_unique = max(self.n_unique, n)
        del self.boxes[:-1]
        return n < 2

    def _real(self, setup, *, n_threads=None, **budget):
        threads = [self._call] * (n_threads or self.n_threads)
        outcome = stress(setup, threads, self._is_one, seed=self.tester.seed, patience=self.tester.patience, **budget)
        # Of two instances `unique_instances` speaks.
        self.errors += [error for error in outcome.errors if not error.startswith("the invariant")]
        self.errors += [f"T{it.thread} did not come back; it stands here:\n{it.stack}" for it in outcome.hung]
        self.notes += outcome.notes

    def _can_begin_anew(self):
        if not self.boxes[-1].got:
            return False
        instance = self.boxes[-1].got[0]
        if self.before.held(instance):
            # It was made long ago: the only way back is to take it out of where it stands.
            self.before.forget(instance)
            self.begin = Reach(self.getter)
        n_unique = self.n_unique
        self._real(self._anew, n_threads=1, runs=1)
        self.n_unique = n_unique
        got = self.boxes[-1].got
        return not self.errors and bool(got) and got[0] is not instance

    def _explore(self):
        if self.begin.waits_natively:
            self.notes.append("not explored: threads wait in native code of raceproof")
            return
        try:
            outcome = explore(self._anew, [self._call, self._call], self._is_one, max_runs=_RUNS, seed=self.tester.seed)
        except RuntimeError as error:
            self.notes.append(f"not explored: {error}")
            return
        self.outcome = outcome
        if outcome.verdict == "failed" and outcome.kind != "invariant":
            self.errors.append(outcome.reason)
        elif outcome.verdict == "gave_up":
            self.notes.append(f"exploration gave up: {outcome.reason}")


class _Access:
    def __init__(self, access, n_operations, tester):
        self.n_operations = n_operations
        self.tester = tester
        self.access = access
        self.takes_number = takes_number(access)
        self.reach = Reach(access)
        self.errors = []
        self.notes = []
        self.outcome = None

    def test(self):
        if self.n_operations > 1:
            self._explore()
        n_results = self._real()
        return Result(
            {
                "test_type": "concurrent_access",
                "num_operations": self.n_operations,
                "results_count": n_results,
                "errors": self.errors,
                "is_thread_safe": not self.errors and n_results == self.n_operations,
            },
            outcome=self.outcome,
            notes=self.notes,
        )

    def _call(self, number):
        return called(self.access, number) if self.takes_number else called(self.access)

    def _explore(self):
        if self.reach.waits_natively:
            self.notes.append("not explored: threads wait in native code of raceproof")
            return
        run = _Run(max_runs=_RUNS, seed=self.tester.seed)
        scenario = _serial.Scenario(
            self._anew,
            [[lambda _: self._call(0)], [lambda _: self._call(1)]],
            observe=lambda _: self.reach.values(),
            names=[["operation 0"], ["operation 1"]],
        )
        try:
            outcome = _serial.against(scenario, None, run)
            if not outcome.certificate:
                self.notes.append(f"only exceptions and deadlocks are looked for: {outcome.reason}")
                outcome = run(self._anew, [lambda _: self._call(0), lambda _: self._call(1)], None)
        except RuntimeError as error:
            self.notes.append(f"not explored: {error}")
            return
        finally:
            self.reach.restore()
        self.outcome = outcome
        if outcome.verdict == "failed":
            self.errors.append(outcome.reason)
        elif outcome.verdict == "gave_up":
            self.notes.append(f"exploration gave up: {outcome.reason}")

    def _anew(self):
        self.reach.restore()
        return _Box()

    def _real(self):
        n_threads = min(_THREADS_MAX, self.n_operations)
        lists = [([], []) for _ in range(n_threads)]

        def of(thread):
            def operate(_):
                results, errors = lists[thread]
                for number in range(thread, self.n_operations, n_threads):
                    try:
                        results.append(self._call(number))
                    except Exception as error:
                        errors.append(f"operation {number} raises {type(error).__name__}: {error}")

            return operate

        outcome = stress(
            _Box,
            [of(thread) for thread in range(n_threads)],
            runs=1,
            seed=self.tester.seed,
            patience=self.tester.patience,
        )
        self.errors += outcome.errors + [error for _, errors in lists for error in errors]
        self.errors += [f"T{it.thread} did not come back; it stands here:\n{it.stack}" for it in outcome.hung]
        self.notes += outcome.notes
        return sum(len(results) for results, _ in lists)


class _Run:
    """Explores with these options."""

    def __init__(self, **options):
        self.options = options

    def __call__(self, setup, threads, invariant, **more):
        return _run(setup, threads, invariant, **{**self.options, **more})


class ThreadSafetyTestSuite:
    """All testers at once, on a getter and an operation; without any, on the health monitor of raceproof."""

    def __init__(self, get_instance_func: Any = None, access_func: Any = None, **options: Any) -> None:
        if get_instance_func is None:
            from raceproof.monitor import HealthMonitor  # only here: a program that tests its own has no use for it

            get_instance_func = HealthMonitor.get_instance
            access_func = access_func or _update
        self.get_instance_func = get_instance_func
        self.access_func = access_func or get_instance_func
        self.tester = ThreadSafetyTester(**options)
        self.performance = ThreadSafetyPerformanceTester()

    async def run_all_tests(self) -> dict[str, Result]:
        """The four results, under `singleton_thread_safety`, `concurrent_access`, `singleton_performance` and
        `concurrent_performance`."""
        return {
            "singleton_thread_safety": await self.tester.test_singleton_thread_safety(self.get_instance_func),
            "concurrent_access": await self.tester.test_concurrent_access(self.access_func),
            "singleton_performance": await self.performance.benchmark_singleton_access(self.get_instance_func),
            "concurrent_performance": await self.performance.benchmark_concurrent_operations(self.access_func),
        }

    def validate_results(self, results: dict[str, Any]) -> bool:
        """Are both thread-safe, singleton access at least 1,000 and concurrent operations at least 100 per second?"""
        is_safe = all(results[name]["is_thread_safe"] for name in ("singleton_thread_safety", "concurrent_access"))
        return (
            is_safe
            and results["singleton_performance"]["operations_per_second"] >= 1_000
            and results["concurrent_performance"]["operations_per_second"] >= 100
        )


async def _update(number):
    from raceproof.monitor import HealthMonitor

    monitor = await HealthMonitor.get_instance()
    await monitor.update_metric(f"tester_{number % 10}", number)
    return await monitor.get_metric(f"tester_{number % 10}")
