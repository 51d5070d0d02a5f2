"""What went wrong, kept durably; who did what about it; and which alerts have one cause."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raceproof import _native
from raceproof._once import ThreadSafeSingleton
from raceproof.monitor import _plain, _store
from raceproof.monitor.events import EventStream
from raceproof.monitor.settings import Configuration

# How many incidents `get_all_incidents` returns; the store keeps no more.
INCIDENTS_MAX = 10_000
# Objects of the user's own classes that are kept as they are; of older ones only the record is returned.
OBJECTS_MAX = 10_000
# For ids that are no UUID.
_NAMES = uuid.UUID("6f1c3c55-8a0b-4d5a-9a53-6a9f3e2b7a10")


@dataclass(frozen=True)
class Incident:
    """Something that went wrong, once or many times, as it was when it was read. Times are seconds since 1970.

    `severity` is info, warning, error or critical; `state` is open, acknowledged or resolved.
    """

    id: uuid.UUID
    kind: str
    title: str
    severity: str
    state: str
    count: int
    first_seen: float
    last_seen: float
    fingerprint: str
    context: dict[str, Any]
    process: str

    def __hash__(self):
        return hash(self.id)


@dataclass(frozen=True)
class AuditEntry:
    """Who (`actor`) did what (`action`) to what (`subject`), when (seconds since 1970); `seq` counts from 1."""

    seq: int
    at: float
    actor: str
    action: str
    subject: str
    details: dict[str, Any]

    def __hash__(self):
        return hash(self.seq)


def _incident(row) -> Incident:
    id_, *middle, context, process = row
    return Incident(uuid.UUID(id_), *middle, json.loads(context), process)


def _entry(row) -> AuditEntry:
    *begin, details = row
    return AuditEntry(*begin, json.loads(details))


def _key(id_) -> str:
    """The UUID that an id stands for in the store."""
    if isinstance(id_, uuid.UUID):
        return str(id_)
    try:
        return str(uuid.UUID(str(id_)))
    except ValueError:
        return str(uuid.uuid5(_NAMES, f"{type(id_).__name__}:{id_}"))


def _timeout(given: float | None) -> float:
    return Configuration.instance().get("timeout_s") if given is None else float(given)


def _word(value, fallback: str) -> str:
    """A word of the user's: the value of an enum, a text, or what stands in its place."""
    value = getattr(value, "value", value)
    return value if isinstance(value, str) and value else fallback


def _severity(value) -> str:
    """A severity that the store knows, of whatever an object of the user's calls its severity."""
    word = _word(value, "warning").lower()
    return word if word in ("info", "warning", "error", "critical", "low", "medium", "high") else "warning"


class IncidentManager(ThreadSafeSingleton):
    """Incidents, kept in a file: what was awaited is on the disk. `raceproof.monitor.use_store` chooses the file.

    An incident added with `add_incident` may be any object with an `id` (a UUID): in this process the same object comes
    back; a later process gets an `Incident` with its fields in `context`. Reports made with `raise_incident` are
    counted on one incident as long as they have one fingerprint and it is not resolved.

    Every coroutine raises WaitTimeout after `timeout` seconds (the setting `timeout_s`), StoreBusy while more than 4096
    calls wait, and MonitorError if the store fails.
    """

    def __init__(self):
        # Written on the thread of the store only, in the order of its commits.
        self._objects = {}

    async def add_incident(self, incident: Any, *, timeout: float | None = None) -> None:
        """Keeps an incident, in the place of one with the same id. On the disk when it returns."""
        arguments, apply = self._put(incident)
        await _store.ask("put", *arguments, timeout=_timeout(timeout), apply=apply)

    def _put(self, incident):
        key = _key(incident.id)
        severity = _severity(getattr(incident, "severity", None))
        title = _word(getattr(incident, "title", None), type(incident).__name__)
        kind = _word(getattr(incident, "kind", None), type(incident).__name__)

        def apply(row):
            self._objects.pop(key, None)
            self._objects[key] = incident
            if len(self._objects) > OBJECTS_MAX:
                self._objects.pop(next(iter(self._objects)), None)
            _announce("incident.added", row)

        context = _plain.text(incident.context) if isinstance(incident, Incident) else _plain.context(incident)
        return (key, kind, title, severity, context, _store.process_name()), apply

    async def get_incident(self, id: uuid.UUID | str, *, timeout: float | None = None) -> Any:
        """The incident with this id, or None."""
        return await _store.ask("get", _key(id), timeout=_timeout(timeout), apply=self._own)

    async def get_all_incidents(self, *, timeout: float | None = None) -> list[Any]:
        """All incidents that are kept, in the order of their first report; a list of the caller's own."""
        return await _store.ask("incidents", INCIDENTS_MAX, timeout=_timeout(timeout), apply=self._own_all)

    async def remove_incident(self, id: uuid.UUID | str, *, timeout: float | None = None) -> bool:
        """Removes an incident; False if there is none of this id."""
        key = _key(id)

        def apply(removed):
            if removed:
                self._objects.pop(key, None)
                EventStream.instance().publish("incident.removed", {"id": key})
            return removed

        return await _store.ask("remove", key, _store.process_name(), timeout=_timeout(timeout), apply=apply)

    async def raise_incident(
        self,
        title: str,
        *,
        kind: str = "incident",
        severity: str = "warning",
        fingerprint: str | None = None,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Incident:
        """Reports that something went wrong, and returns its incident, on the disk.

        Reports with the same `fingerprint` (made of kind and title without one) count on one incident until that is
        resolved; it keeps the worst severity and the latest title and context. ValueError for an unknown severity.
        """
        arguments = _report(title, kind, severity, fingerprint, context)
        return await _store.ask("report", *arguments, timeout=_timeout(timeout), apply=_raised)

    def raise_incident_now(
        self,
        title: str,
        *,
        kind: str = "incident",
        severity: str = "warning",
        fingerprint: str | None = None,
        context: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Incident:
        """As `raise_incident`, for threads: blocks this thread until the incident is on the disk."""
        arguments = _report(title, kind, severity, fingerprint, context)
        return _store.ask_now("report", *arguments, timeout=_timeout(timeout), apply=_raised)

    def raise_incident_soon(
        self,
        title: str,
        *,
        kind: str = "incident",
        severity: str = "warning",
        fingerprint: str | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> None:
        """As `raise_incident`, without waiting: for callbacks of an event loop. A failure is printed to stderr."""
        arguments = _report(title, kind, severity, fingerprint, context)
        _store.ask_soon("report", *arguments, timeout=_timeout(None), apply=_raised)

    async def acknowledge(self, id: uuid.UUID | str, actor: str = "", *, timeout: float | None = None) -> bool:
        """Says that somebody works on an incident; False if that was so. KeyError if there is none of this id,
        MonitorError if it is resolved. Written to the audit log in the same commit."""
        return await self._enter("acknowledge", "incident.acknowledged", id, actor, timeout)

    async def resolve(self, id: uuid.UUID | str, actor: str = "", *, timeout: float | None = None) -> bool:
        """Says that an incident is over; False if it was. KeyError if there is none of this id. Written to the audit
        log in the same commit."""
        return await self._enter("resolve", "incident.resolved", id, actor, timeout)

    async def _enter(self, method, topic, id_, actor, timeout):
        key, actor = _key(id_), actor or _store.process_name()

        def apply(changed):
            if changed:
                EventStream.instance().publish(topic, {"id": key, "actor": actor})
            return changed

        return await _store.ask(method, key, actor, timeout=_timeout(timeout), apply=apply)

    async def get_record(self, id: uuid.UUID | str, *, timeout: float | None = None) -> Incident | None:
        """What the store knows of an incident (state, count, times), also of an object of the user's; or None."""
        return await _store.ask("get", _key(id), timeout=_timeout(timeout), apply=lambda row: row and _incident(row))

    def _own(self, row):
        if row is None:
            return None
        held = self._objects.get(row[0])
        return _incident(row) if held is None else held

    def _own_all(self, rows):
        return [self._own(row) for row in rows]

    def _renew(self):
        pass


def _report(title, kind, severity, fingerprint, context):
    severity = _word(severity, "warning")
    context = _plain.text(dict(context) if context is not None else {})
    return str(kind), str(title), severity, fingerprint, context, _store.process_name()


def _record(actor, action, subject, details):
    return str(actor), str(action), str(subject), _plain.text(dict(details) if details is not None else {})


def _raised(row) -> Incident:
    _announce("incident.raised", row)
    return _incident(row)


def _announce(topic, row):
    id_, kind, title, severity, state, count = row[:6]
    told = {"id": id_, "kind": kind, "title": title, "severity": severity, "state": state, "count": count}
    EventStream.instance().publish(topic, told)


class AuditLog(ThreadSafeSingleton):
    """Who did what to what, in the order of the commits, on the disk when it is awaited.

    Entries form a chain of hashes: `verify` finds an entry that was changed, or taken out of the middle. That is no
    protection from somebody who can write a whole new file. The latest million entries are kept.
    """

    async def record(
        self,
        actor: str,
        action: str,
        subject: str = "",
        details: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> AuditEntry:
        """Writes an entry down, and returns it."""
        arguments = _record(actor, action, subject, details)
        return await _store.ask("append", *arguments, timeout=_timeout(timeout), apply=_entry)

    def record_now(
        self,
        actor: str,
        action: str,
        subject: str = "",
        details: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> AuditEntry:
        """As `record`, for threads: blocks this thread until the entry is on the disk."""
        arguments = _record(actor, action, subject, details)
        return _store.ask_now("append", *arguments, timeout=_timeout(timeout), apply=_entry)

    async def entries(self, after: int = 0, limit: int = 1000, *, timeout: float | None = None) -> list[AuditEntry]:
        """Up to `limit` entries after the entry `after`, the oldest first."""
        return await _store.ask(
            "entries", after, limit, timeout=_timeout(timeout), apply=lambda rows: [_entry(row) for row in rows]
        )

    async def verify(self, *, timeout: float | None = None) -> int | None:
        """The number of the first entry that was changed or that follows one that was taken out; None if all holds."""
        return await _store.ask("broken_entry", timeout=_timeout(timeout))


class AlertCorrelator(ThreadSafeSingleton):
    """Puts alerts of one cause into one incident.

    Labels say what an alert is about, such as `lock="db"`. An alert joins the group with which it shares the most
    labels (name and value), at least one, if the latest alert of the group is at most `correlation_window_s` old;
    otherwise it begins a group. An alert without labels is about its kind. Groups are in memory, at most 1000; their
    incidents are in the store.
    """

    def __init__(self):
        self._native = _native.MonitorCorrelator()

    async def alert(
        self,
        title: str,
        *,
        kind: str = "alert",
        severity: str = "warning",
        labels: Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Incident:
        """Reports an alert, and returns the incident of its group, on the disk."""
        told = {str(name): str(value) for name, value in (labels or {}).items()}
        window = Configuration.instance().get("correlation_window_s")
        group = self._native.assign(str(kind), str(title), _word(severity, "warning"), told, window)
        fingerprint, kind, summary, severity, kinds, labels = group
        context = {"alerts": kinds, "labels": sorted(f"{name}={value}" for name, value in labels)}
        return await IncidentManager.instance().raise_incident(
            summary, kind=kind, severity=severity, fingerprint=fingerprint, context=context, timeout=timeout
        )

    @property
    def groups(self) -> int:
        """How many groups an alert could join."""
        return self._native.groups
