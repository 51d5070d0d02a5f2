"""Who may join a room: providers, failed logins, seats, and the user directory."""

import asyncio
import hashlib
import logging
import queue
import threading
from types import TracebackType
from typing import Optional, Self

from fastapi import APIRouter, Depends, HTTPException

logger = logging.getLogger(__name__)

router = APIRouter(prefix="/auth", tags=["auth"])

FAILURES_ALLOWED = 5
SEATS_PER_ROOM = 8

_request = threading.local()
_hashers = threading.local()


class AuthProvider:
    """A way to find out who somebody is."""

    _instance: Optional["AuthProvider"] = None
    _instance_lock = threading.Lock()

    @classmethod
    def get_instance(cls) -> "AuthProvider":
        """Returns the one provider of this kind."""
        with cls._instance_lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def identify(self, secret: str) -> str:
        """Returns the name of the account that `secret` belongs to."""
        return f"guest-{len(secret)}"


class PasswordProvider(AuthProvider):
    """Identifies an account by a password."""

    def identify(self, secret: str) -> str:
        """Returns a name that depends on the password."""
        return f"account-{hasher().digest(secret)[:8]}"


class TokenProvider(AuthProvider):
    """Identifies an account by a token that names it."""

    def identify(self, secret: str) -> str:
        """Returns the name in front of the signature."""
        return secret.partition(":")[0]


class Hasher:
    """Hashes secrets; an instance is for one thread."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def digest(self, secret: str) -> str:
        """Returns the hash of a secret."""
        self._buffer[:] = secret.encode()
        return hashlib.sha256(self._buffer).hexdigest()


def hasher() -> Hasher:
    """Returns the hasher of this thread."""
    found = getattr(_hashers, "hasher", None)
    if found is None:
        found = Hasher()
        _hashers.hasher = found
    return found


class ConnectionPool:
    """Lends connections to the database of users."""

    def __init__(self, n_connections: int) -> None:
        self._free: queue.Queue[dict[str, str]] = queue.Queue()
        for _ in range(n_connections):
            self._free.put({"guest": "reader", "admin": "owner"})

    def acquire(self) -> dict[str, str]:
        """Borrows a connection."""
        return self._free.get(timeout=5.0)

    def release(self, connection: dict[str, str]) -> None:
        """Gives a connection back."""
        self._free.put(connection)


class DirectorySession:
    """Reads the directory of users over one connection."""

    def __init__(self, database: ConnectionPool) -> None:
        self._database = database
        self._connection: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._connection = self._database.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.release(self._connection)

    def role(self, account: str) -> str:
        """Returns the role of an account."""
        return self._connection.get(account, "visitor")


class LoginGuard:
    """Counts failed logins and blocks accounts that have too many."""

    def __init__(self) -> None:
        self._failures: dict[str, int] = {}

    def failed(self, account: str) -> int:
        """Notes a failed login and returns how many there were."""
        self._failures[account] = self._failures.get(account, 0) + 1
        return self._failures.get(account, 0)

    def is_blocked(self, account: str) -> bool:
        """Says whether an account has failed too often."""
        return self._failures.get(account, 0) >= FAILURES_ALLOWED


class Room:
    """A document that several people edit; all calls come from the event loop."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._free_seats = SEATS_PER_ROOM
        self._members: list[str] = []
        self._members_guard = asyncio.Lock()

    async def join(self, account: str) -> bool:
        """Gives an account a seat; False where none is free."""
        if self._free_seats > 0:
            await self._welcome(account)
            self._free_seats -= 1
            return True
        return False

    async def _welcome(self, account: str) -> None:
        async with self._members_guard:
            seat = len(self._members) + 1
            await asyncio.sleep(0)
            self._members.append(account)
            logger.info("%s has seat %d", account, seat)


_guard = LoginGuard()
_room = Room("lobby")
_database = ConnectionPool(4)


def role_of(account: str) -> str:
    """Returns the role of an account."""
    with DirectorySession(_database) as session:
        return session.role(account)


async def current_account(token: str) -> str:
    """Returns the account that a request comes from."""
    _request.account = TokenProvider.get_instance().identify(token)
    role = await asyncio.to_thread(role_of, _request.account)
    logger.info("a request of a %s", role)
    return _request.account


@router.post("/login")
def login(account: str, password: str) -> dict[str, str]:
    """Logs an account in."""
    if _guard.is_blocked(account):
        raise HTTPException(status_code=429, detail="too many failed logins")
    name = PasswordProvider.get_instance().identify(password)
    if not password:
        raise HTTPException(status_code=401, detail=f"failure {_guard.failed(account)}")
    return {"account": name, "role": role_of(account)}


@router.get("/guest")
def read_guest(nickname: str) -> dict[str, str]:
    """Returns the name of a guest."""
    return {"account": AuthProvider.get_instance().identify(nickname)}


@router.post("/join")
async def join_room(account: str = Depends(current_account)) -> dict[str, bool]:
    """Takes a seat in the lobby."""
    return {"joined": await _room.join(account)}
