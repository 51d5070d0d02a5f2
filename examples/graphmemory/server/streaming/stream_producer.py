"""Sends events to the broker: buffered from any thread, or at once from a coroutine."""

import asyncio
import itertools
import json
import logging
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

logger = logging.getLogger(__name__)

BROKER = "broker:9092"
FLUSH_INTERVAL_S = 0.5
LATENCIES_KEPT = 1000
JOIN_TIMEOUT_S = 5.0


@dataclass
class StreamEvent:
    """One event on its way to a topic."""

    topic: str
    payload: Dict[str, Any] = field(default_factory=dict)
    sequence: int = 0


def encode(event: StreamEvent) -> bytes:
    """Returns the event as the broker wants it."""
    return json.dumps(
        {"topic": event.topic, "sequence": event.sequence, "payload": event.payload}
    ).encode()


def _log_batch(batch: List[bytes]) -> None:
    logger.info("sent %d events", len(batch))


class Transport:
    """A connection to the broker that belongs to the event loop."""

    def __init__(self, address: str) -> None:
        self.address = address

    @classmethod
    async def connect(cls, address: str) -> "Transport":
        """Opens a connection."""
        await asyncio.sleep(0.05)
        return cls(address)

    async def send(self, batch: List[bytes]) -> None:
        """Sends a batch."""
        await asyncio.sleep(0)
        _log_batch(batch)


class StreamProducer:
    """Buffers events and sends them in batches from a thread of its own."""

    def __init__(self, deliver: Callable[[List[bytes]], None] = _log_batch) -> None:
        self._deliver = deliver
        self._pending: List[StreamEvent] = []
        self._latencies_ms: List[float] = []
        self._sequence = itertools.count(1)
        self._dead_letters: queue.Queue[StreamEvent] = queue.Queue(maxsize=10_000)
        self._encoders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="encode")
        self._stop = threading.Event()
        self._flusher = threading.Thread(
            target=self._flush_forever, name="stream-flush", daemon=True
        )

    def start(self) -> None:
        """Starts to send."""
        self._flusher.start()

    def close(self) -> None:
        """Ends the sending, then sends what is left."""
        self._stop.set()
        self._flusher.join(timeout=JOIN_TIMEOUT_S)
        self.flush()

    def send(self, event: StreamEvent) -> int:
        """Buffers an event and returns its number."""
        event.sequence = next(self._sequence)
        self._pending.append(event)
        return event.sequence

    def flush(self) -> int:
        """Sends what is buffered and returns the number of events."""
        batch = self._pending
        self._pending = []
        started = time.perf_counter()
        try:
            self._deliver(list(self._encoders.map(encode, batch)))
        except (OSError, TypeError):
            logger.exception("a batch of %d events was not sent", len(batch))
            for event in batch:
                self._dead_letters.put(event)
            return 0
        self._latencies_ms.append((time.perf_counter() - started) * 1000.0)
        del self._latencies_ms[:-LATENCIES_KEPT]
        return len(batch)

    def summary(self) -> Dict[str, float]:
        """Returns the number of batches and their mean latency."""
        count = len(self._latencies_ms)
        total = sum(self._latencies_ms)
        return {"batches": float(count), "mean_ms": total / max(count, 1)}

    def take_dead_letters(self) -> List[StreamEvent]:
        """Returns the events that could not be sent, each of them once."""
        taken: List[StreamEvent] = []
        while True:
            try:
                taken.append(self._dead_letters.get_nowait())
            except queue.Empty:
                return taken

    def _flush_forever(self) -> None:
        while not self._stop.wait(FLUSH_INTERVAL_S):
            self.flush()


_producer: Optional[StreamProducer] = None
_transport: Optional[Transport] = None


def get_stream_producer() -> StreamProducer:
    """Returns the producer of this process."""
    global _producer
    if _producer is None:
        _producer = StreamProducer()
    return _producer


async def get_transport() -> Transport:
    """Returns the connection of the event loop, opened at the first call."""
    global _transport
    if _transport is None:
        _transport = await Transport.connect(BROKER)
    return _transport


def publish(event: StreamEvent) -> int:
    """Buffers an event, from any thread."""
    return get_stream_producer().send(event)


def publish_all(events: List[StreamEvent]) -> List[int]:
    """Buffers many events from a pool of threads."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(publish, events))


async def publish_now(event: StreamEvent) -> None:
    """Sends an event without a buffer, from a coroutine."""
    transport = await get_transport()
    await transport.send([encode(event)])


async def publish_many_now(events: List[StreamEvent]) -> None:
    """Sends many events without a buffer, all at the same time."""
    await asyncio.gather(*(publish_now(event) for event in events))


async def producer_summary() -> Dict[str, float]:
    """Returns the figures of the producer to a coroutine."""
    return await asyncio.to_thread(get_stream_producer().summary)


async def retry_dead_letters() -> int:
    """Sends again what could not be sent."""
    letters = await asyncio.to_thread(get_stream_producer().take_dead_letters)
    await publish_many_now(letters)
    return len(letters)
