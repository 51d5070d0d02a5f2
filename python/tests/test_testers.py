"""The testers of the guide: its names, keys and thresholds, on real threads and under control."""

import asyncio
import functools
import threading
import uuid

import pytest

import raceproof
from raceproof.testing import (
    ThreadSafetyPerformanceTester,
    ThreadSafetyTester,
    ThreadSafetyTestSuite,
    check_leaks,
    measure,
    scaling,
)
from raceproof.testing._reach import Reach

SINGLETON_KEYS = ["test_type", "num_threads", "unique_instances", "errors", "is_thread_safe"]
ACCESS_KEYS = ["test_type", "num_operations", "results_count", "errors", "is_thread_safe"]
SPEED_KEYS = ["test_type", "num_operations", "total_time", "operations_per_second"]


class Service:
    pass


_plain = None


def racy():
    global _plain
    if _plain is None:
        _plain = Service()
    return _plain


_async = None


async def racy_async():
    global _async
    if _async is None:
        _async = Service()
    return _async


_awaiting = None


async def racy_awaiting():
    global _awaiting
    if _awaiting is None:
        await asyncio.sleep(0)
        _awaiting = Service()
    return _awaiting


class Registry:
    _instances = {}

    @classmethod
    def racy(cls):
        if cls not in cls._instances:
            cls._instances[cls] = cls()
        return cls._instances[cls]


class Unhashable:
    _instance = None
    __hash__ = None

    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance


_locked = None
_lock = threading.Lock()


def locked():
    global _locked
    if _locked is None:
        with _lock:
            if _locked is None:
                _locked = Service()
    return _locked


async def locked_async():
    return locked()


class Looped:
    """The guide's own remedy: a lock of one event loop, for all threads."""

    _instance = None
    _lock = asyncio.Lock()

    @classmethod
    async def get_instance(cls):
        if cls._instance is None:
            async with cls._lock:
                if cls._instance is None:
                    await asyncio.sleep(0)
                    cls._instance = cls()
        return cls._instance


class Ours(raceproof.ThreadSafeSingleton):
    pass


CONSTANT = Service()


def singleton(getter, **options):
    return asyncio.run(ThreadSafetyTester().test_singleton_thread_safety(getter, **options))


def access(function, **options):
    return asyncio.run(ThreadSafetyTester().test_concurrent_access(function, **options))


@pytest.mark.parametrize(
    "getter",
    [racy, racy_async, racy_awaiting, Registry.racy, Unhashable, lambda: racy(), functools.partial(racy)],
    ids=["plain", "async", "awaiting", "registry", "new", "lambda", "partial"],
)
def test_a_racy_singleton_is_reported_every_time(getter):
    for _ in range(5):
        result = singleton(getter)
        assert list(result) == SINGLETON_KEYS
        assert (result["test_type"], result["num_threads"]) == ("singleton_thread_safety", 10)
        assert result["is_thread_safe"] is False
        assert result["unique_instances"] > 1 and result["errors"] == []


def test_the_result_tells_how():
    result = singleton(racy)
    assert "check then act" in result.explanation or "racy" in result.explanation
    assert result.schedule.startswith("1:") and result.outcome.verdict == "failed"


@pytest.mark.parametrize(
    "getter",
    [locked, locked_async, Ours.get_instance, Ours.instance, lambda: CONSTANT],
    ids=["locked", "locked async", "ours async", "ours", "constant"],
)
def test_a_safe_singleton_is_reported_as_safe(getter):
    for _ in range(3):
        result = singleton(getter)
        assert result == {
            "test_type": "singleton_thread_safety",
            "num_threads": 10,
            "unique_instances": 1,
            "errors": [],
            "is_thread_safe": True,
        }


def test_a_locked_singleton_is_proved():
    assert singleton(locked).outcome.verdict == "proved"


def test_a_lock_of_an_event_loop_does_not_pass():
    result = singleton(Looped.get_instance)
    assert result["is_thread_safe"] is False
    assert result["errors"] or result["unique_instances"] > 1


def test_an_instance_that_was_made_long_ago_hides_nothing_and_stays():
    global _plain
    _plain = Service()
    before = _plain
    assert singleton(racy)["is_thread_safe"] is False
    assert _plain is before
    _plain = None


def test_a_getter_that_raises_is_not_safe():
    def broken():
        raise LookupError("no instance")

    result = singleton(broken, num_threads=3)
    assert result["is_thread_safe"] is False
    assert "LookupError: no instance" in result["errors"][0]


total = 0
table = {}


def add():
    global total
    total += 1


def add_locked():
    global total
    with _lock:
        total += 1


async def put(number):
    table[number] = number
    return table[number]


def test_a_lost_update_is_reported_every_time():
    for _ in range(5):
        result = access(add)
        assert list(result) == ACCESS_KEYS
        assert (result["test_type"], result["num_operations"], result["results_count"]) == (
            "concurrent_access",
            100,
            100,
        )
        assert result["is_thread_safe"] is False
        assert "no sequential order" in result["errors"][0]


def test_operations_are_made_as_often_as_asked_and_their_effects_stay():
    global total
    total = 0
    result = access(add_locked, num_operations=50)
    assert result["is_thread_safe"] and result["results_count"] == 50
    assert total == 50


def test_an_operation_gets_its_number_and_is_awaited():
    table.clear()
    result = access(put, num_operations=30)
    assert result["is_thread_safe"], result["errors"]
    assert table == {number: number for number in range(30)}


def test_an_operation_that_raises_at_times():
    def odd(number):
        if number % 2:
            raise ValueError("odd")

    result = access(odd, num_operations=10)
    assert (result["results_count"], result["is_thread_safe"]) == (5, False)
    assert "operation 1 raises ValueError: odd" in result["errors"]


def test_what_depends_on_chance_or_on_the_thread_is_no_error():
    for operation in (uuid.uuid4, threading.get_ident):
        result = access(lambda: operation())
        assert result["is_thread_safe"], result["errors"]
        assert result.notes


def test_performance():
    tester = ThreadSafetyPerformanceTester(threads=2)
    result = asyncio.run(tester.benchmark_singleton_access(locked_async, num_operations=2_000))
    assert list(result) == SPEED_KEYS
    assert result["test_type"] == "singleton_performance" and result["num_operations"] == 2_000
    assert result["operations_per_second"] == pytest.approx(2_000 / result["total_time"])
    assert 0 < result.p50_us <= result.p99_us
    assert 1 in result.scaling and result.errors == []
    result = asyncio.run(tester.benchmark_concurrent_operations(put, num_operations=200))
    assert list(result) == SPEED_KEYS
    assert result["test_type"] == "concurrent_operations_performance"


def test_operations_that_raise_are_not_counted_as_fast():
    def fall():
        raise ValueError("no")

    measured = measure(fall, threads=2, operations=10)
    assert (measured.operations, measured.per_second, len(measured.errors)) == (0, 0.0, 10)


def test_scaling_measures_each_number_of_threads():
    curve = scaling(locked, threads=[1, 3], operations=300)
    assert [(n, measured.threads, measured.operations) for n, measured in curve.items()] == [(1, 1, 300), (3, 3, 300)]


def test_the_suite_of_the_guide():
    suite = ThreadSafetyTestSuite()
    results = asyncio.run(suite.run_all_tests())
    assert list(results) == [
        "singleton_thread_safety",
        "concurrent_access",
        "singleton_performance",
        "concurrent_performance",
    ]
    assert suite.validate_results(results)


def test_the_thresholds_of_the_guide():
    suite = ThreadSafetyTestSuite(locked)

    def valid(singleton=True, access=True, fast=1_000.0, slow=100.0):
        return suite.validate_results(
            {
                "singleton_thread_safety": {"is_thread_safe": singleton},
                "concurrent_access": {"is_thread_safe": access},
                "singleton_performance": {"operations_per_second": fast},
                "concurrent_performance": {"operations_per_second": slow},
            }
        )

    assert valid() is True
    assert [valid(singleton=False), valid(access=False), valid(fast=999.9), valid(slow=99.9)] == [False] * 4


# --- leaks

kept = []


def test_what_stays_behind_is_found_and_named():
    def keep():
        kept.append(Service())
        return kept[-1]

    report = check_leaks(keep, calls=500, rounds=3)
    assert report.leaks
    assert min(report.objects_per_1000) >= 1_000
    assert report.survivors == sorted(report.survivors) and report.survivors[-1] > report.survivors[0]
    assert any(name.endswith("Service") for name, _ in report.types)
    assert any("test_testers.py" in site for site in report.sites)
    with pytest.raises(AssertionError, match="stay behind"):
        report.assert_none()


def test_bytes_alone_are_found():
    def keep(number):
        kept.append(b"x" * 200 + str(number).encode())

    assert check_leaks(keep, calls=500, rounds=3).leaks


def test_what_goes_away_is_no_leak():
    ring = {}

    def cycle():
        a = Service()
        a.itself = a
        return a

    def bounded(number):
        ring[number % 20] = Service()

    async def task():
        await asyncio.sleep(0)

    for function in (cycle, bounded, task, lambda: CONSTANT):
        report = check_leaks(function, calls=200, rounds=3)
        assert not report.leaks, report.explanation
        report.assert_none()


def test_leaks_need_more_than_one_sample():
    with pytest.raises(ValueError, match="fewer samples"):
        check_leaks(locked, rounds=1)


def test_what_calls_raise_is_told():
    def fall():
        raise KeyError("x")

    assert check_leaks(fall, calls=100, rounds=3).errors == ["KeyError: 'x' (500 times)"]


# --- the state that a callable reaches


def test_what_is_reached_is_put_back():
    class Holder:
        __slots__ = ("n",)

        def __init__(self):
            self.n = 1

    holder, items, names = Holder(), [1, [2]], {"a": {1}}

    def change():
        global total
        total = "changed"
        holder.n = 2
        items[1].append(3)
        items.append(4)
        names["a"].add(2)
        del names["a"]
        Registry.extra = 1
        Registry._instances["x"] = 1

    global total
    total = 7
    reach = Reach(change)
    change()
    reach.restore()
    assert (total, holder.n, items, names, Registry._instances) == (7, 1, [1, [2]], {"a": {1}}, {})
    assert not hasattr(Registry, "extra")
