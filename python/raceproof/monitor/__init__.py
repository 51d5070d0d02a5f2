"""The health of a program and what went wrong in it: metrics over time, incidents that outlive the process, an audit
log, events, figures, alerts of one cause, and a page that shows them.

`HealthMonitor.instance().start()` collects on its own and raises incidents; `serve()` shows the page; `raceproof
dashboard` shows it from another process. Nothing runs before one of them is called.
"""

from raceproof._native import MonitorError, StoreBusy
from raceproof.monitor._store import close_store, store_path, use_store
from raceproof.monitor.collector import BackgroundCollector, Figures, PerformanceFigures
from raceproof.monitor.events import Event, EventStream, Subscription
from raceproof.monitor.health import HealthMonitor, Page
from raceproof.monitor.incidents import AlertCorrelator, AuditEntry, AuditLog, Incident, IncidentManager
from raceproof.monitor.settings import Configuration
from raceproof.monitor.sources import Source
from raceproof.monitor.watch import (
    report_leak,
    report_lock_inversion,
    report_long_hold,
    report_lost_exception,
    report_pool_saturation,
)

__all__ = [
    "AlertCorrelator",
    "AuditEntry",
    "AuditLog",
    "BackgroundCollector",
    "Configuration",
    "Event",
    "EventStream",
    "Figures",
    "HealthMonitor",
    "Incident",
    "IncidentManager",
    "MonitorError",
    "Page",
    "PerformanceFigures",
    "Source",
    "StoreBusy",
    "Subscription",
    "close_store",
    "report_leak",
    "report_lock_inversion",
    "report_long_hold",
    "report_lost_exception",
    "report_pool_saturation",
    "serve",
    "store_path",
    "use_store",
]


def serve(port: int = 0) -> Page:
    """Serves a page about this process on 127.0.0.1 (port 0: one that is free). Open its `url`; `stop()` ends it."""
    return HealthMonitor.instance().serve(port)
