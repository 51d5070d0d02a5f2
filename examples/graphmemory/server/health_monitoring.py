"""Health of the services: probes in the background, numbers for the dashboard."""

import logging
import threading
import time
from collections import deque
from typing import Deque, Dict, List, Optional, Tuple

from fastapi import APIRouter, Depends

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/health", tags=["health"])

PROBE_INTERVAL_S = 5.0
HISTORY_LENGTH = 500
JOIN_TIMEOUT_S = 10.0


class HealthMonitor:
    """Collects metrics from probes and from services that report on themselves."""

    def __init__(self, interval_s: float = PROBE_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._started_at = time.monotonic()
        self._metrics: Dict[str, float] = {}
        self._failed_probes = 0
        self._history: Deque[Tuple[float, str]] = deque(maxlen=HISTORY_LENGTH)
        self._history_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._probe_forever, name="health-probe", daemon=True
        )

    def start(self) -> None:
        """Starts the probes."""
        self._thread.start()

    def stop(self) -> None:
        """Stops the probes and waits for the one that is running."""
        self._stop.set()
        self._thread.join(timeout=JOIN_TIMEOUT_S)

    def update_metric(self, name: str, value: float) -> None:
        """Stores the latest value of one metric."""
        self._metrics[name] = value

    def get_metric(self, name: str) -> Optional[float]:
        """Returns the latest value of one metric, or None."""
        return self._metrics.get(name)

    def metrics_above(self, limit: float) -> Dict[str, float]:
        """Returns the metrics whose latest value exceeds `limit`."""
        above: Dict[str, float] = {}
        for name, value in self._metrics.items():
            if value > limit:
                above[name] = value
        return above

    def record_failure(self, probe: str) -> None:
        """Counts a probe that failed and keeps it in the history."""
        self._failed_probes += 1
        self._remember(f"{probe} failed")

    def failed_probes(self) -> int:
        """Returns how many probes failed since the start."""
        return self._failed_probes

    def recent(self) -> List[Tuple[float, str]]:
        """Returns the latest events, oldest first."""
        with self._history_lock:
            return list(self._history)

    def uptime_s(self) -> float:
        """Returns the seconds since the monitor was made."""
        return time.monotonic() - self._started_at

    def _remember(self, text: str) -> None:
        with self._history_lock:
            self._history.append((time.monotonic() - self._started_at, text))

    def _probe_forever(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._probe_once()
            except OSError:
                logger.exception("a probe failed")
                self.record_failure("system")

    def _probe_once(self) -> None:
        started = time.perf_counter()
        threads = threading.active_count()
        self.update_metric("threads", float(threads))
        self.update_metric("probe_ms", (time.perf_counter() - started) * 1000.0)
        self._remember("probed")


_health_monitor: Optional[HealthMonitor] = None


def get_health_monitor() -> HealthMonitor:
    """Returns the monitor of this process."""
    global _health_monitor
    if _health_monitor is None:
        _health_monitor = HealthMonitor()
    return _health_monitor


def start_monitoring() -> None:
    """Starts the probes when the application starts."""
    get_health_monitor().start()


def stop_monitoring() -> None:
    """Stops the probes when the application ends."""
    get_health_monitor().stop()


@router.get("/metrics/{name}")
def read_metric(
    name: str, monitor: HealthMonitor = Depends(get_health_monitor)
) -> Dict[str, Optional[float]]:
    """Returns one metric."""
    return {name: monitor.get_metric(name)}


@router.post("/metrics/{name}")
def write_metric(
    name: str, value: float, monitor: HealthMonitor = Depends(get_health_monitor)
) -> Dict[str, float]:
    """Lets a service report on itself."""
    monitor.update_metric(name, value)
    return {name: value}


@router.get("/alarms")
def read_alarms(
    limit: float, monitor: HealthMonitor = Depends(get_health_monitor)
) -> Dict[str, float]:
    """Returns the metrics that exceed `limit`."""
    return monitor.metrics_above(limit)


@router.post("/failures/{probe}")
def report_failure(
    probe: str, monitor: HealthMonitor = Depends(get_health_monitor)
) -> Dict[str, int]:
    """Lets a service report that a probe of its own failed."""
    monitor.record_failure(probe)
    return {"failed_probes": monitor.failed_probes()}


@router.get("/status")
async def read_status(
    monitor: HealthMonitor = Depends(get_health_monitor),
) -> Dict[str, float]:
    """Returns a summary for the load balancer."""
    return {"uptime_s": monitor.uptime_s(), "events": float(len(monitor.recent()))}
