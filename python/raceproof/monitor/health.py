"""How the program is: what it says of itself, and what is sampled on its own."""

import asyncio
import json
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from raceproof import _native
from raceproof._once import ThreadSafeSingleton
from raceproof.monitor import _store, watch
from raceproof.monitor._fork import renew_after_fork
from raceproof.monitor.collector import BackgroundCollector, PerformanceFigures
from raceproof.monitor.lock_reports import LockReports
from raceproof.monitor.settings import Configuration
from raceproof.monitor.sources import Source

# Points that are kept in memory for each metric: an hour at one a second.
POINTS_MAX = 3_600
# Threads, locks and pools that a snapshot names.
SHOWN_MAX = 200
# Counting the objects may take this share of the time between two counts; else it is done less often.
COUNTING_SHARE = 0.01

_JOB = "raceproof.health"


class _Loop:
    """An event loop and its latest answer. The collector asks, the loop answers when it gets to it."""

    def __init__(self, loop, name):
        self.loop = weakref.ref(loop)
        self.name = name
        self.asked = None
        self.lag = 0.0

    def ask(self):
        """How late the loop is, in seconds; None if it is gone."""
        loop = self.loop()
        if loop is None or loop.is_closed():
            return None
        now = time.monotonic()
        if self.asked is not None:
            self.lag = max(self.lag, now - self.asked)
            return self.lag
        lag, self.lag, self.asked = self.lag, 0.0, now
        try:
            loop.call_soon_threadsafe(self._answer, now)
        except RuntimeError:
            return None
        return lag

    def _answer(self, asked):
        self.lag = max(self.lag, time.monotonic() - asked)
        self.asked = None


@renew_after_fork
class HealthMonitor(ThreadSafeSingleton):
    """The metrics of this process: those that the program sets, and those that `start()` collects.

    A metric that was set is read by any thread or loop at once; each call is one atomic step, and none of them waits.
    What is collected is in memory (an hour of it), and every `store_interval_s` in the store too.
    """

    def __init__(self):
        self._metrics: dict[str, Any] = {}
        self._numbers: dict[str, tuple[Callable[[], float], bool, str]] = {}
        self._counters: dict[str, _native.StripedCounter] = {}
        self._sources: tuple[Source, ...] = ()
        self._loops: tuple[_Loop, ...] = ()
        self._locks = LockReports()
        self._renew()

    def _renew(self):
        self._guard = threading.Lock()
        self._registry = _native.MonitorRegistry(POINTS_MAX)
        for page in getattr(self, "_pages", ()):
            page._abandon()
        self._pages: tuple = ()
        self._loops = ()
        self._stored = self._counted = 0.0
        self._count_every = 0.0
        self._long_held: dict[str, bool] = {}
        self._longest: dict[str, float] = {}
        self._full_since: dict[str, float] = {}
        self._suspected: dict[str, float] = {}
        self._lagging: dict[str, bool] = {}

    async def update_metric(self, name: str, value: Any) -> None:
        """Sets a metric. The value may be anything; numbers are also sampled over time."""
        self._metrics[name] = value

    async def get_metric(self, name: str) -> Any:
        """The value that was set last, or None."""
        return self._metrics.get(name)

    async def get_all_metrics(self) -> dict[str, Any]:
        """All metrics that were set, as they were together at one moment: a copy of the caller's own."""
        return dict(self._metrics)

    def set_metric(self, name: str, value: Any) -> None:
        """As `update_metric`, for threads."""
        self._metrics[name] = value

    def register(self, name: str, read: Callable[[], float], *, counter: bool = False, help: str = "") -> None:
        """Reads a number by calling `read()` at each sample and for `openmetrics`: a gauge, or a counter that grows.

        `name` is made of letters, digits and `_` (ValueError). One that raises is left out that time.
        """
        if not (name.isascii() and name.isidentifier()):
            raise ValueError(f"`{name}` is no name of a metric: letters, digits and `_`, not first a digit")
        self._numbers[name] = (read, counter, help)

    def counter(self, name: str, help: str = "") -> _native.StripedCounter:
        """A counter that threads add to without meeting (`raceproof.StripedCounter`), sampled and exported as
        `NAME_total`. The same name gives the same counter."""
        with self._guard:
            made = self._counters.get(name)
            if made is None:
                made = _native.StripedCounter()
                self.register(name, made.get, counter=True, help=help)
                self._counters[name] = made
        return made

    def add_source(self, source: Source) -> None:
        """Shows the locks or pools that a source tells of, and watches them."""
        with self._guard:
            self._sources = (*self._sources, source)

    def watch_pool(self, pool: Any) -> None:
        """Shows a `raceproof.Pool`, samples its queue, and makes an incident when it has no room. Does not keep it."""
        held = weakref.ref(pool)

        def read():
            alive = held()
            if alive is None:
                return []
            limits = {"limit": alive.max_queue, "workers": alive.max_workers}
            return [{"name": alive.name, "queued": alive.queued, "active": alive.running, **limits}]

        self.add_source(Source("pool", read))

    def watch_lock(self, lock: Any) -> None:
        """Shows who holds a `raceproof.Lock`, `RLock` or `RWLock`, for how long, and how many wait; a long hold is an
        incident while it lasts. Does not keep it. (Waits and holds of all locks are sampled without this.)"""
        held = weakref.ref(lock)

        def read():
            alive = held()
            if alive is None:
                return []
            holder = alive.holder
            named = None if holder is None else holder[1] or f"thread {holder[0]}"
            name = alive.name or type(alive).__name__
            return [{"name": name, "holder": named, "held_s": alive.held_for or 0.0, "waiters": alive.waiters}]

        self.add_source(Source("lock", read))

    def watch_loop(self, loop: asyncio.AbstractEventLoop | None = None, name: str = "") -> None:
        """Measures how late an event loop answers, and makes incidents of exceptions that nobody awaits there.

        Without `loop` it is the one that runs. The loop is not kept alive, and is forgotten when it is closed.
        """
        loop = loop or asyncio.get_running_loop()
        with self._guard:
            if any(watched.loop() is loop for watched in self._loops):
                return
            watched = _Loop(loop, name or f"loop-{len(self._loops) + 1}")
            self._loops = (*self._loops, watched)
        watch.watch_loop_exceptions(loop)

    def start(self, interval: float | None = None, *, locks: bool = True) -> None:
        """Collects every `interval` seconds (the setting `interval_s`) on the thread of the BackgroundCollector, and
        makes incidents of what it sees and of exceptions that are lost. An event loop that runs here is watched.

        With `locks` it switches on the timing of locks and the lock-order watch, which cost something at each
        acquisition; `stop()` switches off what was off before.
        """
        if interval is not None:
            Configuration.instance().update(interval_s=interval)
        watch.watch_exceptions()
        if locks:
            self._locks.switch_on()
        try:
            self.watch_loop()
        except RuntimeError:
            pass  # No loop runs here.
        collector = BackgroundCollector.instance()
        collector.add(_JOB, self.sample, lambda: Configuration.instance().get("interval_s"))
        collector.start()

    def stop(self) -> None:
        """Collects no more. Other jobs of the BackgroundCollector go on; what was collected stays."""
        BackgroundCollector.instance().remove(_JOB)
        watch.unwatch_exceptions()
        self._locks.switch_off()

    def sample(self) -> dict[str, float]:
        """Takes one sample now, in this thread, and returns it. Blocks for the store where one is written."""
        settings = Configuration.instance().snapshot()
        sources = self._read_sources()
        sample = self._own_numbers()
        sample.update(self._loop_numbers(settings))
        sample.update(self._lock_numbers(sources["lock"], settings))
        sample.update(self._pool_numbers(sources["pool"], settings))
        self._count_objects(sample, settings)
        for name, (read, _, _) in list(self._numbers.items()):
            _put_number(sample, name, read)
        for name, value in dict(self._metrics).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                _put_number(sample, str(name), lambda value=value: value)
        self._registry.record(list(sample.items()))
        self._suspect_leaks(settings)
        self._show(sample, sources, settings)
        return sample

    def collected(self) -> dict[str, float]:
        """The latest number of each metric that was sampled."""
        return self._registry.latest()

    def history(self, name: str) -> list[tuple[float, float]]:
        """The samples of a metric (seconds since 1970, value), the oldest first; at most an hour of one a second."""
        return self._registry.series(name)

    def openmetrics(self) -> str:
        """All metrics as text in the OpenMetrics format, for Prometheus."""
        families = [
            (name, help or name, counter, [([], value)])
            for name, (read, counter, help) in list(self._numbers.items())
            for value in _read(read)
        ]
        latest = self._registry.latest()
        families += [
            (name, _HELP.get(name, name), False, [([], value)])
            for name, value in latest.items()
            if name.startswith("raceproof_")
        ]
        said = [
            ([("name", str(name))], float(value))
            for name, value in sorted(dict(self._metrics).items(), key=lambda item: str(item[0]))
            if isinstance(value, (int, float))
        ]
        families.append(("raceproof_metric", "what the program set with update_metric", False, said))
        families += _figures()
        return _native.monitor_openmetrics(families)

    def serve(self, port: int = 0) -> "Page":
        """Serves a page about this process on 127.0.0.1, and starts collecting if nothing does. Open its `url`."""
        page = Page(_native.MonitorPage(port, _store.store(), _store.process_name(), self._registry), self)
        with self._guard:
            self._pages = (*self._pages, page)
        self.start()
        return page

    def _read_sources(self):
        read: dict[str, list] = {"lock": [], "pool": []}
        for source in (self._locks.source, *self._sources):
            try:
                rows = [dict(row) for row in source.read()]
            except Exception as error:
                _store.complain(f"a source of {source.kind}s raised {error!r}")
                continue
            read.setdefault(source.kind, []).extend(rows)
        return {kind: _merged(rows) for kind, rows in read.items()}

    def _own_numbers(self):
        sample = {"raceproof_threads": float(threading.active_count())}
        usage = _native.monitor_usage()
        if usage is not None:
            sample["raceproof_rss_bytes"] = float(usage[0])
            sample["raceproof_os_threads"] = float(usage[1])
        sample["raceproof_store_queue"] = float(_store.store().waiting)
        return sample

    def _loop_numbers(self, settings):
        lags = []
        for loop in self._loops:
            lag = loop.ask()
            if lag is None:
                with self._guard:
                    self._loops = tuple(other for other in self._loops if other is not loop)
                continue
            lags.append(lag)
            is_late = lag > settings["loop_lag_s"]
            if is_late and not self._lagging.get(loop.name):
                watch.report_loop_lag(loop.name, lag)
            self._lagging[loop.name] = is_late
        return {"raceproof_loop_lag_seconds": max(lags)} if lags else {}

    def _lock_numbers(self, locks, settings):
        self._locks.raise_inversions()
        for lock in locks:
            name, held = str(lock.get("name")), float(lock.get("held_s") or 0.0)
            is_long = held > settings["long_hold_s"]
            if is_long and not self._long_held.get(name):
                watch.report_long_hold(name, held, str(lock.get("holder")))
            if "held_s" in lock:
                self._long_held[name] = is_long
            # What was held for long between two samples.
            longest = float(lock.get("hold_max_s") or 0.0)
            if longest > max(settings["long_hold_s"], self._longest.get(name, 0.0)):
                self._longest[name] = longest
                watch.report_long_hold(name, longest, "a thread that has released it")
        names = {str(lock.get("name")) for lock in locks}
        _forget(self._long_held, names)
        _forget(self._longest, names)
        sample = {}
        for field in ("wait_p50_s", "wait_p99_s", "hold_p50_s", "hold_p99_s"):
            values = [float(lock[field]) for lock in locks if lock.get(field) is not None]
            if values:
                sample[f"raceproof_lock_{field[:-2]}_seconds"] = max(values)
        if locks:
            sample["raceproof_lock_waiters"] = float(sum(int(lock.get("waiters") or 0) for lock in locks))
        return sample

    def _pool_numbers(self, pools, settings):
        now = time.monotonic()
        for pool in pools:
            name, queued, limit = str(pool.get("name")), int(pool.get("queued") or 0), int(pool.get("limit") or 0)
            if limit <= 0 or queued < limit:
                self._full_since.pop(name, None)
                continue
            since = self._full_since.setdefault(name, now)
            if 0 <= now - since and now - since >= settings["pool_saturated_s"]:
                watch.report_pool_saturation(name, now - since, pool)
                self._full_since[name] = float("inf")
        _forget(self._full_since, {str(pool.get("name")) for pool in pools})
        return {"raceproof_pool_queue": float(sum(int(pool.get("queued") or 0) for pool in pools))} if pools else {}

    def _count_objects(self, sample, settings):
        now = time.monotonic()
        every = max(settings["objects_interval_s"], self._count_every)
        if self._counted and now - self._counted < every:
            return
        self._counted = now
        sample["raceproof_objects"] = float(_native.monitor_objects())
        # Other threads are stopped while their objects are counted.
        self._count_every = (time.monotonic() - now) / COUNTING_SHARE

    def _suspect_leaks(self, settings):
        now = time.monotonic()
        window, share = settings["leak_window_s"], settings["leak_share"]
        for metric, least in (("raceproof_rss_bytes", "leak_rss_bytes"), ("raceproof_objects", "leak_objects")):
            if now - self._suspected.get(metric, float("-inf")) < window:
                continue
            growth = self._registry.growth(metric, window, share, settings[least])
            if growth is not None:
                self._suspected[metric] = now
                watch.report_leak(metric, growth)

    def _show(self, sample, sources, settings):
        now = time.monotonic()
        pages = self._pages
        is_due = not self._stored or now - self._stored >= settings["store_interval_s"]
        if not pages and not is_due:
            return
        live = json.dumps(self._snapshot(sources), default=str)
        if pages:
            text = self.openmetrics()
            for page in pages:
                page._native.show(live, text)
        if is_due:
            self._stored = now
            at = time.time()
            rows = [(name, at, value) for name, value in sample.items()]
            _store.ask_now("sample", _store.process_name(), live, rows, timeout=settings["timeout_s"])

    def _snapshot(self, sources):
        threads = [
            {"name": thread.name, "ident": thread.native_id, "daemon": thread.daemon}
            for thread in threading.enumerate()[:SHOWN_MAX]
        ]
        loops = [{"name": loop.name, "lag_s": loop.lag} for loop in self._loops]
        return {
            "pid": os.getpid(),
            "threads": threads,
            "locks": sources["lock"][:SHOWN_MAX],
            "pools": sources["pool"][:SHOWN_MAX],
            "loops": loops,
        }


class Page:
    """A page that is served; `with` ends it. `url` has the token, so give it to those only who may see everything."""

    def __init__(self, native, monitor):
        self._native = native
        self._monitor = monitor

    @property
    def url(self) -> str:
        """The address to open, with the token."""
        return self._native.url

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._native.port

    @property
    def token(self) -> str:
        """What the header `Authorization: Bearer` has to name, for other readers than the page."""
        return self._native.token

    def stop(self) -> None:
        """Ends the server and its connections."""
        with self._monitor._guard:
            self._monitor._pages = tuple(page for page in self._monitor._pages if page is not self)
        self._native.stop()

    def _abandon(self):
        listening = self._native.abandon()
        if listening >= 0:
            os.close(listening)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        return False


_HELP = {
    "raceproof_threads": "Python threads that are alive",
    "raceproof_os_threads": "threads of the process",
    "raceproof_rss_bytes": "resident memory",
    "raceproof_objects": "objects that the garbage collector tracks",
    "raceproof_loop_lag_seconds": "how late the slowest event loop answers",
    "raceproof_lock_wait_p50_seconds": "half of the waits for the worst lock took at most this long",
    "raceproof_lock_wait_p99_seconds": "99 of 100 waits for the worst lock took at most this long",
    "raceproof_lock_hold_p50_seconds": "half of the holds of the worst lock took at most this long",
    "raceproof_lock_hold_p99_seconds": "99 of 100 holds of the worst lock took at most this long",
    "raceproof_lock_waiters": "threads that wait for a lock",
    "raceproof_pool_queue": "jobs that wait in pools",
    "raceproof_store_queue": "calls that wait for the store",
}


def _figures():
    summaries = PerformanceFigures.instance().summaries()
    if not summaries:
        return []
    quantiles, counts, totals = [], [], []
    for name, figures in sorted(summaries.items()):
        for quantile, value in (("0.5", figures.p50), ("0.9", figures.p90), ("0.99", figures.p99)):
            quantiles.append(([("name", name), ("quantile", quantile)], value))
        counts.append(([("name", name)], float(figures.count)))
        totals.append(([("name", name)], figures.total))
    return [
        ("raceproof_duration_seconds", "how long measured code takes", False, quantiles),
        ("raceproof_durations", "how often measured code ran", True, counts),
        ("raceproof_duration_seconds_sum", "how long measured code took in all", True, totals),
    ]


def _merged(rows):
    """One row for each name: two sources may tell of one lock, each something else."""
    by_name = {}
    for row in rows:
        by_name.setdefault(str(row.get("name")), {}).update(row)
    return list(by_name.values())


def _read(read):
    """The number in a list, or nothing if reading it raises: user code."""
    try:
        return [float(read())]
    except Exception:
        return []


def _put_number(sample, name, read):
    for value in _read(read):
        sample[name] = value


def _forget(by_name, alive):
    for name in list(by_name):
        if name not in alive:
            by_name.pop(name, None)
