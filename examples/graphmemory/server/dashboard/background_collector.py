"""Collects readings in the background and feeds them to the live dashboard."""

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, List, Optional

logger = logging.getLogger(__name__)

COLLECT_INTERVAL_S = 1.0
FEED_INTERVAL_S = 0.25
JOIN_TIMEOUT_S = 5.0

Source = Callable[[], float]


def _default_sources() -> Dict[str, Source]:
    return {
        "threads": lambda: float(threading.active_count()),
        "clock_s": time.monotonic,
    }


class BackgroundCollector:
    """Asks all sources at an interval and keeps the latest readings."""

    def __init__(self, interval_s: float = COLLECT_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._closing = False
        self._readings: Dict[str, float] = {}
        self._thread = threading.Thread(
            target=self._collect_forever, name="collector", daemon=True
        )
        self._thread.start()
        self._sources = _default_sources()

    def close(self) -> None:
        """Ends the collecting."""
        self._closing = True
        self._thread.join(timeout=JOIN_TIMEOUT_S)

    def latest(self, name: str) -> Optional[float]:
        """Returns the latest reading of one source, or None."""
        return self._readings.get(name)

    def snapshot(self) -> Dict[str, float]:
        """Returns the latest readings of all sources."""
        return self._readings.copy()

    def _collect_forever(self) -> None:
        while not self._closing:
            try:
                self._collect_once()
            except Exception:
                pass
            time.sleep(self._interval_s)

    def _collect_once(self) -> None:
        for name, source in self._sources.items():
            self._readings[name] = source()


class LiveFeed:
    """Carries readings from a thread to the event loop that serves the dashboard."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._updates: asyncio.Queue[Dict[str, float]] = asyncio.Queue()
        self._stop = threading.Event()
        self._pump: Optional[threading.Thread] = None

    def start(self) -> None:
        """Starts to pump readings into the event loop."""
        self._stop.clear()
        self._pump = threading.Thread(target=self._pump_forever, name="live-feed")
        self._pump.start()

    def stop(self) -> None:
        """Asks the pump to end."""
        self._stop.set()

    def push_alarm(self, name: str, value: float) -> None:
        """Sends an alarm to the dashboard, from any thread."""
        self._loop.call_soon_threadsafe(self._enqueue, {name: value})

    async def next_update(self) -> Dict[str, float]:
        """Waits for the next readings."""
        return await self._updates.get()

    def _pump_forever(self) -> None:
        while not self._stop.wait(FEED_INTERVAL_S):
            readings = get_background_collector().snapshot()
            self._loop.call_soon(self._enqueue, readings)
            if readings.get("threads", 0.0) > 100.0:
                self.push_alarm("threads", readings["threads"])

    def _enqueue(self, readings: Dict[str, float]) -> None:
        self._updates.put_nowait(readings)


_collector: Optional[BackgroundCollector] = None


def get_background_collector() -> BackgroundCollector:
    """Returns the collector of this process."""
    global _collector
    if _collector is None:
        _collector = BackgroundCollector()
    return _collector


def read_latest(name: str) -> Optional[float]:
    """Returns the latest reading of one source, or None."""
    return get_background_collector().latest(name)


def read_all_latest(names: List[str]) -> List[Optional[float]]:
    """Returns the latest readings of several sources."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(read_latest, names))


async def watch(feed: LiveFeed, n_updates: int) -> List[Dict[str, float]]:
    """Waits for a number of updates of the feed."""
    feed.start()
    try:
        return [await feed.next_update() for _ in range(n_updates)]
    finally:
        feed.stop()
