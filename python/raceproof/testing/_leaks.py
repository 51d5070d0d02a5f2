"""`check_leaks`: does something stay behind when many threads have called a function and ended?

Never one sample: rounds of calls, each in new threads that are joined before anything is counted, and only what grows
in every round is called a leak.
"""

import collections
import gc
import itertools
import statistics
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raceproof.testing._calls import called, numbered

_WARM_UPS = 2
_PER = 1_000
# Less than this for a thousand calls is noise: caches of the interpreter, threads of others.
_OBJECTS_MIN = 5.0
_BYTES_MIN = 2_000.0
# What a thread that begins and ends may leave in the interpreter, in bytes, however many calls it makes.
_THREAD_BYTES = 512
_RSS_MIN = 256 * 1024.0
_SHOWN = 5


@dataclass(frozen=True)
class LeakReport:
    """What stayed behind, for each round and 1,000 calls.

    `leaks` is true if objects, bytes of Python or results that are still alive grew in every round by more than noise,
    or if the memory of the process did so while Python's did not. `types` and `sites` say what grew and where it was
    made. `errors` is what calls raised.
    """

    leaks: bool
    calls: int
    threads: int
    objects_per_1000: list[float]
    bytes_per_1000: list[float]
    rss_per_1000: list[float]
    survivors: list[int]
    types: list[tuple[str, int]] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    explanation: str = ""

    def assert_none(self) -> None:
        """Raises `AssertionError` with the explanation if there is a leak."""
        if self.leaks:
            raise AssertionError(self.explanation)


def check_leaks(function: Callable[..., Any], *, threads: int = 4, calls: int = 1_000, rounds: int = 5) -> LeakReport:
    """Calls a function `calls` times in each of `rounds` rounds, in `threads` threads that start together and end.

    It may take the number of the call as its argument; what it gives is awaited if it can be. Two rounds before that
    are not counted. After each round garbage is collected, and then is counted: objects that the collector knows, bytes
    that Python has allocated, results that are still alive, and the memory of the process.
    """
    if threads < 1 or calls < threads or rounds < 3:
        raise ValueError("at least one thread, a call for each, and three rounds: fewer samples say nothing")
    is_tracing = tracemalloc.is_tracing()
    if not is_tracing:
        tracemalloc.start()
    rest = _Rest(numbered(function), threads, calls)
    try:
        for _ in range(_WARM_UPS):
            rest.round()
        samples = [rest.sample()]
        first = tracemalloc.take_snapshot()
        types = rest.types()
        # What was taken to compare with is not what stays behind.
        samples[0] = rest.sample()
        for _ in range(rounds):
            rest.round()
            samples.append(rest.sample())
        grown = _grown_types(types, rest.types())
        sites = _sites(first, tracemalloc.take_snapshot())
    finally:
        if not is_tracing:
            tracemalloc.stop()
    return _judged(rest, samples, grown, sites)


class _Rest:
    """Makes the rounds and counts what is left."""

    def __init__(self, function, n_threads, n_calls):
        self.function = function
        self.n_threads = n_threads
        self.n_calls = n_calls
        self.errors = [collections.Counter() for _ in range(n_threads)]
        self.results = {}

    def round(self):
        """One round."""
        start = threading.Barrier(self.n_threads)
        threads = [threading.Thread(target=self._live, args=(number, start)) for number in range(self.n_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _live(self, number, start):
        start.wait()
        for _ in range(number, self.n_calls, self.n_threads):
            try:
                result = called(self.function)
            except Exception as error:
                self.errors[number][f"{type(error).__name__}: {error}"] += 1
                continue
            try:
                self.results[id(result)] = weakref.ref(result)
            except TypeError:
                # Nothing can be said of the life of a plain value.
                pass
            result = None

    def sample(self):
        """What there is now: objects, bytes of Python, bytes of the process, results that are alive."""
        for _ in range(3):
            gc.collect()
        for key in [key for key, reference in list(self.results.items()) if reference() is None]:
            self.results.pop(key, None)
        # These references are ours. A plain tuple is no object of the collector, and so does not count itself.
        n_objects = len(gc.get_objects()) - len(self.results)
        return n_objects, tracemalloc.get_traced_memory()[0], _rss(), len(self.results)

    @staticmethod
    def types():
        """How many objects there are of each type."""
        return collections.Counter(f"{type(it).__module__}.{type(it).__qualname__}" for it in gc.get_objects())


def _rss():
    """The memory of the process in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    import resource

    return pages * resource.getpagesize()


def _grown_types(before, after):
    grown = [(name, after[name] - before[name]) for name in after if after[name] > before[name]]
    return sorted(grown, key=lambda pair: (-pair[1], pair[0]))[:_SHOWN]


def _sites(before, after):
    ours = tracemalloc.Filter(False, __file__)
    hidden = (ours, tracemalloc.Filter(False, tracemalloc.__file__), tracemalloc.Filter(False, weakref.__file__))
    compared = after.filter_traces(hidden).compare_to(before.filter_traces(hidden), "lineno")
    grown = [it for it in compared if it.size_diff > 0][:_SHOWN]
    return [f"{it.traceback[0].filename}:{it.traceback[0].lineno} +{it.size_diff} bytes" for it in grown]


def _judged(rest, samples, types, sites):
    def growth(idx):
        values = [sample[idx] for sample in samples]
        return [(b - a) * _PER / rest.n_calls for a, b in itertools.pairwise(values)]

    objects, bytes_, rss = growth(0), growth(1), growth(2)
    survivors = [sample[3] for sample in samples]
    alive = growth(3)
    found = []
    if _is_growing(objects, _OBJECTS_MIN):
        found.append(f"{statistics.median(objects):.0f} objects stay behind for 1,000 calls")
    if _is_growing(alive, _OBJECTS_MIN):
        found.append(f"{statistics.median(alive):.0f} results stay alive for 1,000 calls")
    if _is_growing(bytes_, max(_BYTES_MIN, _THREAD_BYTES * rest.n_threads * _PER / rest.n_calls)):
        found.append(f"{statistics.median(bytes_):,.0f} bytes of Python stay behind for 1,000 calls")
    # The system gives memory in large pieces, however few the calls are.
    if not found and _is_growing(rss, max(_RSS_MIN, _RSS_MIN * _PER / rest.n_calls)):
        found.append(f"the process grows by {statistics.median(rss):,.0f} bytes for 1,000 calls, outside of Python")
    told = [*found]
    if found:
        told += [f"grew in each of {len(samples) - 1} rounds of {rest.n_calls} calls in {rest.n_threads} threads"]
        told += [f"  {n} more of {name}" for name, n in types] + [f"  {site}" for site in sites]
    return LeakReport(
        leaks=bool(found),
        calls=rest.n_calls * (len(samples) - 1),
        threads=rest.n_threads,
        objects_per_1000=objects,
        bytes_per_1000=bytes_,
        rss_per_1000=rss,
        survivors=survivors,
        types=types if found else [],
        sites=sites if found else [],
        errors=[f"{text} ({n} times)" for text, n in sorted(sum(rest.errors, collections.Counter()).items())],
        explanation="\n".join(told),
    )


def _is_growing(deltas, least):
    """Does it grow in every round, and by more than noise?"""
    return min(deltas) > 0 and statistics.median(deltas) >= least
