"""Groups alerts that belong together."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter

router = APIRouter(prefix="/alerts", tags=["alerts"])

REPLAY_INTERVAL_S = 2.0
JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Alert:
    """Something that a monitor saw."""

    source: str
    text: str


Listener = Callable[[Alert], None]


class AlertCorrelator:
    """Sorts alerts into groups, scores their sources and tells listeners."""

    _listeners: list[Listener] = []

    def __init__(self) -> None:
        self._backlog: deque[Alert] = deque()
        self._alerts: dict[str, list[Alert]] = {}
        self._alerts_lock = threading.Lock()
        self._groups: dict[str, str] = {}
        self._groups_lock = threading.Lock()
        self._scores: dict[str, int] = {}
        self._score_guard = asyncio.Lock()
        self._rules: dict[str, str] = {}
        self._rules_lock = threading.Lock()
        self._matches: dict[str, int] = {}
        self._matches_lock = threading.Lock()
        self._stop = threading.Event()
        self._replayer = threading.Thread(
            target=self._replay_forever, name="alert-replay", daemon=True
        )

    def start(self) -> None:
        """Starts to replay the backlog."""
        self._replayer.start()

    def stop(self) -> None:
        """Ends the replay."""
        self._stop.set()
        self._replayer.join(timeout=JOIN_TIMEOUT_S)

    def subscribe(self, listener: Listener) -> None:
        """Calls `listener` for each alert from now on."""
        self._listeners.append(listener)

    def tell(self, alert: Alert) -> None:
        """Tells the listeners of an alert."""
        for listener in list(self._listeners):
            listener(alert)

    def enqueue(self, alert: Alert) -> None:
        """Puts an alert aside for later."""
        self._backlog.append(alert)

    def take(self) -> Alert | None:
        """Returns the oldest alert that was put aside, or None."""
        if self._backlog:
            return self._backlog.popleft()
        return None

    def correlate(self, alert: Alert, group: str) -> int:
        """Adds an alert to a group and returns how many its source sent."""
        with self._alerts_lock:
            alerts = self._alerts.setdefault(alert.source, [])
            alerts.append(alert)
            with self._groups_lock:
                self._groups[alert.source] = group
            return len(alerts)

    def merge(self, old: str, new: str) -> int:
        """Moves a group into another and returns the number of its alerts."""
        n_alerts = 0
        with self._groups_lock:
            for source, group in self._groups.items():
                if group == old:
                    self._groups[source] = new
                    n_alerts += self._count(source)
        return n_alerts

    def _count(self, source: str) -> int:
        with self._alerts_lock:
            return len(self._alerts.get(source, []))

    def add_rule(self, word: str, group: str) -> None:
        """Adds a rule that finds the group of an alert."""
        with self._rules_lock:
            self._rules[word] = group
            with self._matches_lock:
                self._matches[word] = 0

    def group_of(self, alert: Alert) -> str:
        """Returns the group that the first rule that matches names."""
        with self._rules_lock:
            for word, group in self._rules.items():
                if word in alert.text:
                    with self._matches_lock:
                        self._matches[word] += 1
                    return group
        return "other"

    async def score(self, alert: Alert) -> int:
        """Raises the score of the source of an alert and returns it."""
        async with self._score_guard:
            score = self._scores.get(alert.source, 0)
            await asyncio.sleep(0)
            self._scores[alert.source] = score + 1
            return score + 1

    async def _replay(self) -> None:
        while not self._stop.is_set():
            alert = self.take()
            if alert is None:
                await asyncio.sleep(REPLAY_INTERVAL_S)
            else:
                await self.score(alert)
                self.tell(alert)

    def _replay_forever(self) -> None:
        asyncio.run(self._replay())


_correlator = AlertCorrelator()


def start_correlator() -> None:
    """Starts the replay when the application starts."""
    _correlator.start()


def stop_correlator() -> None:
    """Ends the replay when the application ends."""
    _correlator.stop()


def subscribe(listener: Listener) -> None:
    """Calls `listener` for each alert from now on."""
    _correlator.subscribe(listener)


@router.post("/")
def receive(source: str, text: str) -> dict[str, int]:
    """Takes an alert and sorts it into a group."""
    alert = Alert(source, text)
    _correlator.tell(alert)
    return {"alerts": _correlator.correlate(alert, _correlator.group_of(alert))}


@router.post("/later")
def receive_later(source: str, text: str) -> dict[str, str]:
    """Takes an alert that can wait."""
    _correlator.enqueue(Alert(source, text))
    return {"status": "queued"}


@router.get("/next")
def read_next() -> dict[str, str]:
    """Returns the oldest alert that waits, and takes it away."""
    alert = _correlator.take()
    return {} if alert is None else {"source": alert.source, "text": alert.text}


@router.post("/merge")
def merge_groups(old: str, new: str) -> dict[str, int]:
    """Moves a group into another."""
    return {"alerts": _correlator.merge(old, new)}


@router.post("/rules")
def add_rule(word: str, group: str) -> dict[str, str]:
    """Adds a rule."""
    _correlator.add_rule(word, group)
    return {word: group}


@router.post("/score")
async def score_alert(source: str, text: str) -> dict[str, int]:
    """Raises the score of a source."""
    return {source: await _correlator.score(Alert(source, text))}
