"""The audit trail: who did what, kept in memory and shipped to the archive."""

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Dict, List, Optional

logger = logging.getLogger(__name__)

BACKOFF_S = 0.2
SHIP_ATTEMPTS = 3


@dataclass
class AuditEvent:
    """One action of one account."""

    account: str
    action: str
    details: Dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)


def _log_line(line: str) -> bool:
    logger.info("archived: %s", line)
    return True


class AuditLogger:
    """Buffers audit events and ships the urgent ones at once."""

    def __init__(self, archive: Callable[[str], bool] = _log_line) -> None:
        self._archive = archive
        self._buffer: List[str] = []
        self._buffer_lock = threading.Lock()
        self._accounts: Dict[str, int] = {}
        self._accounts_lock = threading.Lock()
        self._ship_lock = threading.Lock()
        self._shipped: List[str] = []
        self._sequence = 0

    def log(self, event: AuditEvent) -> None:
        """Adds an event to the trail."""
        self._buffer_lock.acquire()
        self._buffer.append(json.dumps(asdict(event)))
        self._buffer_lock.release()
        self._count(event.account)

    def drain(self) -> List[str]:
        """Returns what is buffered, each line once."""
        with self._buffer_lock:
            lines = self._buffer
            self._buffer = []
        return lines

    def alert(self, event: AuditEvent) -> None:
        """Ships an urgent event without delaying the caller."""
        line = f"{self.next_number()} {event.account} {event.action}"
        threading.Thread(target=self._ship, args=(line,), daemon=True).start()

    def next_number(self) -> int:
        """Returns the number of the next urgent event."""
        lock = threading.Lock()
        with lock:
            self._sequence += 1
            return self._sequence

    def actions_of(self, account: str) -> int:
        """Returns how many actions one account did."""
        with self._accounts_lock:
            return self._accounts.get(account, 0)

    def shipped(self) -> List[str]:
        """Returns the urgent events that reached the archive."""
        with self._ship_lock:
            return list(self._shipped)

    def _count(self, account: str) -> None:
        self._accounts_lock.acquire()
        try:
            self._accounts[account] = self._accounts.get(account, 0) + 1
        finally:
            self._accounts_lock.release()

    def _ship(self, line: str) -> None:
        try:
            self._ship_with_retries(line)
        except Exception:
            logger.exception("an urgent event was not shipped: %s", line)

    def _ship_with_retries(self, line: str) -> None:
        with self._ship_lock:
            for _ in range(SHIP_ATTEMPTS):
                if self._archive(line):
                    self._shipped.append(line)
                    return
                time.sleep(BACKOFF_S)
        logger.error("the archive refused an urgent event: %s", line)


_audit_logger: Optional[AuditLogger] = None
_writers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="audit")


def get_audit_logger() -> AuditLogger:
    """Returns the audit logger of this process."""
    global _audit_logger
    if _audit_logger is None:
        _audit_logger = AuditLogger()
    return _audit_logger


def audit(account: str, action: str, **details: Any) -> None:
    """Adds an action to the trail, from any thread."""
    get_audit_logger().log(AuditEvent(account, action, details))


def audit_urgent(account: str, action: str) -> None:
    """Ships an action at once, from any thread."""
    get_audit_logger().alert(AuditEvent(account, action))


def audit_later(account: str, action: str) -> Future[None]:
    """Adds an action to the trail on a thread of the pool."""
    return _writers.submit(audit, account, action)


async def audit_async(account: str, action: str) -> None:
    """Adds an action to the trail from a coroutine."""
    await asyncio.to_thread(audit, account, action)


async def alert_async(account: str, action: str) -> None:
    """Ships an action at once, from a coroutine."""
    await asyncio.to_thread(audit_urgent, account, action)


def archive_trail() -> int:
    """Moves the buffered lines to the archive and returns their number."""
    lines = get_audit_logger().drain()
    for line in lines:
        _log_line(line)
    return len(lines)


def close_audit() -> None:
    """Waits for the pool and archives what is left."""
    _writers.shutdown(wait=True)
    archive_trail()
