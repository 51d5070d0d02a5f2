"""A bounded stream of events that threads and coroutines read, each at its own pace."""

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any

from raceproof import _native
from raceproof._once import ThreadSafeSingleton
from raceproof.monitor import _plain
from raceproof.monitor._fork import renew_after_fork

# How many events the stream of the process holds.
EVENTS_MAX = 10_000


@dataclass(frozen=True)
class Event:
    """Something that happened: its number from 1, when (seconds since 1970), its topic, a copy of its payload."""

    seq: int
    at: float
    topic: str
    payload: Any


class Subscription:
    """A place in a stream. `for event in subscription` waits in threads, `async for` in coroutines.

    Threads and coroutines may share one; each event goes to one of them. `lost` says how many events were dropped
    before this subscriber came to read them.
    """

    def __init__(self, native, topics):
        self._native = native
        self._topics = None if topics is None else frozenset(topics)

    @property
    def lost(self) -> int:
        """How many events this subscriber missed, since it was further behind than the stream holds."""
        return self._native.lost

    def get(self, timeout: float | None = None) -> Event | None:
        """The next event; None after `timeout` seconds. Blocks this thread. StopIteration at the end of the stream."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            row = self._native.wait(left)
            if row is None:
                return None
            if self._wants(row):
                return _event(row)

    def __iter__(self):
        return self

    def __next__(self) -> Event:
        return self.get()

    def __aiter__(self):
        return self

    async def __anext__(self) -> Event:
        try:
            while True:
                row = self._native.poll()
                if row is None:
                    await self._news()
                elif self._wants(row):
                    return _event(row)
        except StopIteration:
            raise StopAsyncIteration from None

    async def _news(self):
        loop = asyncio.get_running_loop()
        news = loop.create_future()

        def wake():
            try:
                loop.call_soon_threadsafe(_settle, news)
            except RuntimeError:
                pass  # The loop was closed: nobody waits any more.

        if self._native.wake_later(wake):
            await news

    def _wants(self, row):
        return self._topics is None or row[2] in self._topics


def _settle(news):
    if not news.done():
        news.set_result(None)


def _event(row) -> Event:
    seq, at, topic, payload = row
    return Event(seq, at, topic, json.loads(payload))


@renew_after_fork
class EventStream(ThreadSafeSingleton):
    """Events of this process, for any number of subscribers.

    `publish` never waits: the stream holds the latest events, and a subscriber that falls further behind misses the
    oldest and is told how many. An event is a copy (JSON) of what was published: later changes are not seen.
    """

    def __init__(self, limit: int = EVENTS_MAX):
        self._native = _native.MonitorStream(limit)

    def publish(self, topic: str, payload: Any = None) -> int | None:
        """Adds an event, and returns its number; None if the stream is closed."""
        return self._native.publish(topic, _plain.any_text(payload))

    def subscribe(self, *topics: str, replay: int = 0) -> Subscription:
        """A subscriber to these topics (all without any), from now on; first the latest `replay` that are held."""
        return Subscription(self._native.subscribe(replay), topics or None)

    def close(self) -> None:
        """Ends the stream; subscribers read what is left."""
        self._native.close()

    def _renew(self):
        self._native = _native.MonitorStream(EVENTS_MAX)
