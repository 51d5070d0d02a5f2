"""Performance figures of the dashboard: samples, open requests, exports."""

import asyncio
import json
import statistics
import tempfile
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Dict, Iterator, List, Optional

from fastapi import APIRouter, Depends

router = APIRouter(prefix="/performance", tags=["performance"])

SAMPLES_KEPT = 200

_request_id: ContextVar[str] = ContextVar("request_id", default="-")


@contextmanager
def request_scope(request_id: str) -> Iterator[None]:
    """Names the request that the code inside works for."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


class ReportSink:
    """Writes reports to a file without blocking the event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def write(self, report: Dict[str, float]) -> None:
        """Replaces the file by a new report."""
        text = json.dumps({"request": _request_id.get(), **report})
        await asyncio.to_thread(self._path.write_text, text)


class PerformanceManager:
    """Counts open requests and keeps the latest durations."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._export_lock = threading.Lock()
        self._open_requests = 0
        self._counts: Dict[str, int] = {}
        self._samples: List[float] = []
        self._exports = 0

    def begin(self, kind: str) -> float:
        """Notes that a request began and returns the time."""
        with self._lock:
            self._open_requests += 1
            self._count_locked(f"{kind}.begun")
        return time.perf_counter()

    def finish(self, kind: str, begun: float) -> None:
        """Notes that a request ended."""
        with self._lock:
            self._open_requests -= 1
            self._count_locked(f"{kind}.finished")
        self.record(time.perf_counter() - begun)

    def load(self) -> int:
        """Returns the number of open requests."""
        with self._lock:
            return self._open_requests

    def counts(self) -> Dict[str, int]:
        """Returns how often each kind of request began and ended."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Starts to count anew."""
        self._open_requests = 0

    def record(self, duration_s: float) -> None:
        """Keeps a duration, and only the latest ones."""
        self._samples = [*self._samples, duration_s][-SAMPLES_KEPT:]

    def report(self) -> Dict[str, float]:
        """Returns the figures for the dashboard."""
        samples = self._samples
        if not samples:
            return {"samples": 0.0}
        return {
            "samples": float(len(samples)),
            "mean_s": statistics.fmean(samples),
            "max_s": max(samples),
        }

    async def export(self, sink: ReportSink) -> int:
        """Writes a report and returns how many were written so far."""
        with self._export_lock:
            await sink.write(self.report())
            self._exports += 1
            return self._exports

    async def live(self) -> Dict[str, float]:
        """Returns the figures that change from moment to moment."""
        with self._lock:
            open_requests = self._open_requests
            kinds = len(self._counts)
        await asyncio.sleep(0)
        return {"open": float(open_requests), "kinds": float(kinds)}

    def _count_locked(self, key: str) -> None:
        self._counts[key] = self._counts.get(key, 0) + 1


_performance_manager: Optional[PerformanceManager] = None


def get_performance_manager() -> PerformanceManager:
    """Returns the manager of this process."""
    global _performance_manager
    if _performance_manager is None:
        _performance_manager = PerformanceManager()
    return _performance_manager


def report_path() -> Path:
    """Returns where reports are written."""
    return Path(tempfile.gettempdir()) / "performance.json"


@router.post("/requests/{kind}")
def run_request(
    kind: str, manager: PerformanceManager = Depends(get_performance_manager)
) -> Dict[str, int]:
    """Runs a request of one kind and measures it."""
    begun = manager.begin(kind)
    try:
        return {"open": manager.load()}
    finally:
        manager.finish(kind, begun)


@router.post("/samples")
def add_sample(
    duration_s: float, manager: PerformanceManager = Depends(get_performance_manager)
) -> Dict[str, str]:
    """Adds a duration that was measured elsewhere."""
    manager.record(duration_s)
    return {"status": "kept"}


@router.post("/reset")
def reset_counts(
    manager: PerformanceManager = Depends(get_performance_manager),
) -> Dict[str, int]:
    """Starts to count anew."""
    manager.reset()
    return manager.counts()


@router.get("/report")
def read_report(
    manager: PerformanceManager = Depends(get_performance_manager),
) -> Dict[str, float]:
    """Returns the figures for the dashboard."""
    return manager.report()


@router.get("/live")
async def read_live(
    manager: PerformanceManager = Depends(get_performance_manager),
) -> Dict[str, float]:
    """Returns the figures that change from moment to moment."""
    return await manager.live()


@router.post("/export")
async def export_report(
    request_id: str, manager: PerformanceManager = Depends(get_performance_manager)
) -> Dict[str, int]:
    """Writes a report to the disk."""
    with request_scope(request_id):
        return {"exports": await manager.export(ReportSink(report_path()))}
