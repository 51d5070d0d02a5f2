"""Incidents: opened by alerts, resolved by people, escalated in the background."""

import asyncio
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Dict, ItemsView, List, Optional
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/incidents", tags=["incidents"])

ESCALATION_INTERVAL_S = 30.0
ESCALATE_AFTER_S = 600.0


@dataclass
class Incident:
    """Something that needs the attention of a person."""

    title: str
    severity: str = "minor"
    id: UUID = field(default_factory=uuid4)
    opened_at: float = field(default_factory=time.monotonic)
    resolved: bool = False


class Notifier:
    """Sends short texts to one channel."""

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def send(self, text: str) -> None:
        """Sends one text."""
        logger.info("%s: %s", self.channel, text)


class IncidentManager:
    """Holds the incidents that are open or were resolved a short time ago."""

    def __init__(self) -> None:
        self._incidents: Dict[UUID, Incident] = {}
        self._assignments: Dict[UUID, str] = {}
        self._assignments_lock = threading.Lock()
        self._notifier: Optional[Notifier] = Notifier("incidents")
        self._pager: Optional[Notifier] = Notifier("pager")

    def add_incident(self, incident: Incident) -> None:
        """Opens an incident and announces it."""
        self._incidents[incident.id] = incident
        self._announce(f"opened: {incident.title}")

    def get_incident(self, incident_id: UUID) -> Optional[Incident]:
        """Returns one incident, or None."""
        return self._incidents.get(incident_id)

    def resolve(self, incident_id: UUID) -> bool:
        """Marks an incident as resolved; False where it is not known."""
        if incident_id in self._incidents:
            self._incidents[incident_id].resolved = True
            return True
        return False

    def purge_resolved(self) -> int:
        """Forgets the incidents that were resolved and returns their number."""
        purged = 0
        for incident in list(self._incidents.values()):
            if incident.resolved:
                self._incidents.pop(incident.id, None)
                purged += 1
        return purged

    def assign(self, incident_id: UUID, team: str) -> None:
        """Gives an incident to a team."""
        with self._assignments_lock:
            self._assignments[incident_id] = team

    def unassign(self, incident_id: UUID) -> None:
        """Takes an incident away from its team."""
        with self._assignments_lock:
            self._assignments.pop(incident_id, None)

    def assignments(self) -> ItemsView[UUID, str]:
        """Returns the pairs of incident and team."""
        with self._assignments_lock:
            return self._assignments.items()

    def mute(self) -> None:
        """Ends the announcements."""
        self._notifier = None

    def silence_pager(self) -> None:
        """Ends the paging."""
        self._pager = None

    def escalate(self, incident: Incident) -> None:
        """Pages somebody about one incident."""
        pager = self._pager
        if pager is not None:
            pager.send(f"still open: {incident.title}")

    def overdue(self) -> List[Incident]:
        """Returns the incidents that have been open for too long."""
        now = time.monotonic()
        known = list(self._incidents.values())
        return [one for one in known if now - one.opened_at > ESCALATE_AFTER_S]

    def _announce(self, text: str) -> None:
        if self._notifier is not None:
            self._notifier.send(text)


_incident_manager: Optional[IncidentManager] = None


async def get_incident_manager() -> IncidentManager:
    """Returns the manager of this process."""
    global _incident_manager
    if _incident_manager is None:
        _incident_manager = IncidentManager()
    return _incident_manager


_templates: Optional[Dict[str, str]] = None
_templates_lock = threading.Lock()


def incident_templates() -> Dict[str, str]:
    """Returns the texts for each severity, made at the first call."""
    global _templates
    if _templates is None:
        with _templates_lock:
            if _templates is None:
                _templates = {
                    level: f"[{level}] {{title}}" for level in ("minor", "major")
                }
    return _templates


async def _escalate() -> None:
    while not _stop.is_set():
        manager = await get_incident_manager()
        for incident in manager.overdue():
            manager.escalate(incident)
        manager.purge_resolved()
        await asyncio.sleep(ESCALATION_INTERVAL_S)


def _escalate_forever() -> None:
    asyncio.run(_escalate())


_stop = threading.Event()
_escalator = threading.Thread(target=_escalate_forever, name="escalation", daemon=True)


def start_escalation() -> None:
    """Starts the thread that escalates."""
    _escalator.start()


def stop_escalation() -> None:
    """Ends the thread that escalates."""
    _stop.set()
    _escalator.join(timeout=2 * ESCALATION_INTERVAL_S)


@router.post("/")
async def open_incident(
    title: str,
    severity: str = "minor",
    manager: IncidentManager = Depends(get_incident_manager),
) -> Dict[str, str]:
    """Opens an incident."""
    text = incident_templates().get(severity, "{title}").format(title=title)
    incident = Incident(title=text, severity=severity)
    manager.add_incident(incident)
    return {"id": str(incident.id)}


@router.post("/{incident_id}/resolve")
def resolve_incident(
    incident_id: UUID, manager: IncidentManager = Depends(get_incident_manager)
) -> Dict[str, bool]:
    """Resolves an incident."""
    return {"resolved": manager.resolve(incident_id)}


@router.post("/{incident_id}/assign")
def assign_incident(
    incident_id: UUID,
    team: str,
    manager: IncidentManager = Depends(get_incident_manager),
) -> Dict[str, str]:
    """Gives an incident to a team, or takes it away where the name is empty."""
    if team:
        manager.assign(incident_id, team)
    else:
        manager.unassign(incident_id)
    return {"team": team}


@router.get("/assignments")
def read_assignments(
    manager: IncidentManager = Depends(get_incident_manager),
) -> Dict[str, str]:
    """Returns who works on what."""
    return {str(incident_id): team for incident_id, team in manager.assignments()}


@router.post("/quiet")
def be_quiet(
    manager: IncidentManager = Depends(get_incident_manager),
) -> Dict[str, str]:
    """Ends announcements and paging during maintenance."""
    manager.mute()
    manager.silence_pager()
    return {"status": "quiet", "templates": str(len(incident_templates()))}
