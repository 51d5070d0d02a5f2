"""Streams that clients have open, and the events that are forwarded to them."""

import asyncio
import logging
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fastapi import APIRouter, HTTPException

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/streams", tags=["streams"])

DRAIN_INTERVAL_S = 0.1
DRAIN_STEP = 16
FAILURES_ALLOWED = 3
JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class StreamSession:
    """A stream that one client has open."""

    client: str
    topic: str


class CircuitOpenError(Exception):
    """The service behind a breaker failed too often."""


class CircuitBreaker:
    """Refuses calls to a service that failed too often; many may be inside."""

    def __init__(self, failures_allowed: int) -> None:
        self._failures_allowed = failures_allowed
        self._n_failures = 0

    async def __aenter__(self) -> Self:
        if self._n_failures >= self._failures_allowed:
            raise CircuitOpenError
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._n_failures = self._n_failures + 1 if kind is not None else 0


class StreamManager:
    """Forwards events to clients and slows down where they pile up."""

    def __init__(self) -> None:
        self.circuit_breaker = CircuitBreaker(FAILURES_ALLOWED)
        self._depth = 0
        self._depth_guard = asyncio.Lock()
        self._stop = threading.Event()
        self._drainer = threading.Thread(
            target=self._drain_forever, name="stream-drain", daemon=True
        )

    def start(self) -> None:
        """Starts to drain."""
        self._drainer.start()

    def stop(self) -> None:
        """Ends the draining."""
        self._stop.set()
        self._drainer.join(timeout=JOIN_TIMEOUT_S)

    async def enqueue(self, n_events: int) -> int:
        """Notes that events wait, and returns how many do."""
        async with self._depth_guard:
            self._depth += n_events
            return self._depth

    async def forward(self, session: StreamSession, text: str) -> None:
        """Sends one event to one client."""
        async with self.circuit_breaker:
            await asyncio.sleep(0)
            logger.info("%s: %s: %s", session.client, session.topic, text)

    async def greet(self, session: StreamSession) -> None:
        """Tells a client in the background that its stream is open."""
        asyncio.create_task(self.forward(session, "welcome"))

    def _drain_forever(self) -> None:
        while not self._stop.wait(DRAIN_INTERVAL_S):
            self._depth -= min(self._depth, DRAIN_STEP)


_manager = StreamManager()
_streams: dict[str, StreamSession] = {}
_active_streams = 0


def count_streams(change: int) -> int:
    """Notes that streams were opened or closed and returns how many are open."""
    global _active_streams
    _active_streams += change
    return _active_streams


def open_stream(client: str, topic: str) -> int:
    """Opens a stream and returns how many are open."""
    _streams[client] = StreamSession(client, topic)
    return count_streams(1)


def close_stream(client: str) -> bool:
    """Closes a stream; False where it was not open."""
    if _streams.pop(client, None) is None:
        return False
    count_streams(-1)
    return True


def topic_of(client: str) -> str | None:
    """Returns the topic that a client listens to, or None."""
    if client in _streams:
        return _streams[client].topic
    return None


def find_stream(client: str) -> StreamSession | None:
    """Returns the stream of a client, or None."""
    return _streams.get(client)


def start_streams() -> None:
    """Starts to drain when the application starts."""
    _manager.start()


def stop_streams() -> None:
    """Ends the draining when the application ends."""
    _manager.stop()


@router.post("/{client}")
def post_stream(client: str, topic: str) -> dict[str, int]:
    """Opens a stream."""
    return {"active": open_stream(client, topic)}


@router.delete("/{client}")
def delete_stream(client: str) -> dict[str, bool]:
    """Closes a stream."""
    return {"closed": close_stream(client)}


@router.get("/{client}/topic")
def read_topic(client: str) -> dict[str, str | None]:
    """Returns the topic that a client listens to."""
    return {"topic": topic_of(client)}


@router.post("/{client}/greeting")
async def greet_client(client: str) -> dict[str, str]:
    """Greets a client."""
    session = find_stream(client)
    if session is None:
        raise HTTPException(status_code=404, detail="no such stream")
    await _manager.greet(session)
    return {"status": "greeted"}


@router.post("/{client}/events")
async def post_event(client: str, text: str) -> dict[str, int]:
    """Forwards an event to a client."""
    session = find_stream(client)
    if session is None:
        raise HTTPException(status_code=404, detail="no such stream")
    depth = await _manager.enqueue(1)
    await _manager.forward(session, text)
    return {"depth": depth}
