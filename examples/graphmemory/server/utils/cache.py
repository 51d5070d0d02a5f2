"""A cache for the whole process, swept in the background."""

import asyncio
import itertools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

TIME_TO_LIVE_S = 300.0
SWEEP_INTERVAL_S = 10.0
JOIN_TIMEOUT_S = 5.0


@dataclass
class Entry:
    """A value, until when it is good, and how many users it has."""

    value: Any
    expires_at: float
    n_users: int = 0


class Backend:
    """A store behind the cache; each has a connection of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.opened_at = time.monotonic()
        logger.info("opened a connection to %s", name)

    def load(self, key: str) -> str:
        """Reads one value."""
        return f"{self.name}/{key}"


_entries: dict[str, Entry] = {}
_hits = 0
_misses = 0
_misses_lock = threading.Lock()
_tickets = itertools.count(1)
_backends: dict[str, Backend] = {}
_key_locks: dict[str, threading.Lock] = {}


def put(key: str, value: Any, time_to_live_s: float = TIME_TO_LIVE_S) -> None:
    """Stores a value for some time."""
    _entries[key] = Entry(value, time.monotonic() + time_to_live_s)


def get(key: str) -> Any:
    """Returns a value, or None where there is none or it is too old."""
    global _hits
    entry = _entries.get(key)
    if entry is None or entry.expires_at < time.monotonic():
        count_miss()
        return None
    _hits += 1
    return entry.value


def count_miss() -> None:
    """Counts a value that was asked for and not there."""
    global _misses
    with _misses_lock:
        _misses += 1


def statistics() -> dict[str, int]:
    """Returns how often values were there and how often not."""
    with _misses_lock:
        misses = _misses
    return {"hits": _hits, "misses": misses, "entries": len(_entries)}


def backend(name: str) -> Backend:
    """Returns the store of this name, opened at the first call."""
    if name not in _backends:
        _backends[name] = Backend(name)
    return _backends[name]


def get_or_load(store: str, key: str) -> Any:
    """Returns a value from the cache, else from a store."""
    value = get(key)
    if value is None:
        value = backend(store).load(key)
        put(key, value)
    return value


def get_all(store: str, keys: list[str]) -> list[Any]:
    """Returns several values, read by several threads."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda key: get_or_load(store, key), keys))


async def get_async(store: str, key: str) -> Any:
    """Returns a value to a coroutine."""
    return await asyncio.to_thread(get_or_load, store, key)


def subscribe(key: str) -> int:
    """Notes one more user of a value and returns how many it has."""
    lock = _key_locks.setdefault(key, threading.Lock())
    with lock:
        entry = _entries.get(key)
        if entry is None:
            return 0
        entry.n_users += 1
        return entry.n_users


async def subscribe_async(key: str) -> int:
    """Notes one more user of a value, from a coroutine."""
    return await asyncio.to_thread(subscribe, key)


def ticket() -> int:
    """Returns a number that no other call returns."""
    return next(_tickets)


async def tickets(n_tickets: int) -> list[int]:
    """Returns several numbers that no other call returns."""
    return await asyncio.gather(*(asyncio.to_thread(ticket) for _ in range(n_tickets)))


def sweep() -> int:
    """Removes what is too old and returns how much that was."""
    now = time.monotonic()
    stale = []
    for key, entry in _entries.items():
        if entry.expires_at < now:
            stale.append(key)
    for key in stale:
        _entries.pop(key, None)
    return len(stale)


def _sweep_forever() -> None:
    while not _stop.wait(SWEEP_INTERVAL_S):
        removed = sweep()
        logger.debug("removed %d entries", removed)


_stop = threading.Event()
_sweeper = threading.Thread(target=_sweep_forever, name="cache-sweep", daemon=True)


def start_sweeping() -> None:
    """Starts the thread that sweeps."""
    _sweeper.start()


def stop_sweeping() -> None:
    """Ends the thread that sweeps."""
    _stop.set()
    _sweeper.join(timeout=JOIN_TIMEOUT_S)
