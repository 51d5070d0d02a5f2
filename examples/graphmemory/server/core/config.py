"""Settings of the server: read from the environment, reloaded while it runs."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

RELOAD_INTERVAL_S = 60.0
JOIN_TIMEOUT_S = 5.0
PREFIX = "GRAPHMEMORY_"


@dataclass(frozen=True)
class Settings:
    """All settings; an instance never changes."""

    host: str = "localhost"
    port: int = 8000
    debug: bool = False


class SecretStore:
    """Secrets from the environment, and those that were rotated since."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values = {
            name.removeprefix(f"{PREFIX}SECRET_"): value
            for name, value in os.environ.items()
            if name.startswith(f"{PREFIX}SECRET_")
        }

    def rotate(self, name: str, value: str) -> None:
        """Replaces one secret."""
        with self._lock:
            self._values[name] = value

    def get(self, name: str) -> str | None:
        """Returns one secret, or None."""
        with self._lock:
            return self._values.get(name)


class FeatureFlags:
    """Switches that are read from the environment once."""

    def __init__(self) -> None:
        self._enabled: frozenset[str] = frozenset()

    def load(self) -> None:
        """Reads the switches."""
        names = os.environ.get(f"{PREFIX}FEATURES", "").split(",")
        self._enabled = frozenset(name.strip() for name in names if name.strip())

    def is_enabled(self, name: str) -> bool:
        """Says whether a feature is on."""
        return name in self._enabled


def read_settings() -> Settings:
    """Returns the settings that the environment names now."""
    return Settings(
        host=os.environ.get(f"{PREFIX}HOST", "localhost"),
        port=int(os.environ.get(f"{PREFIX}PORT", "8000")),
        debug=os.environ.get(f"{PREFIX}DEBUG", "") == "1",
    )


_settings = Settings()
_reload_count = 0
_profile = "default"
_overrides: dict[str, str] = {}
_tenant: ContextVar[str] = ContextVar("tenant", default="public")
_secrets: SecretStore | None = None
_secrets_lock = threading.Lock()
_flags: FeatureFlags | None = None
_flags_lock = threading.Lock()


def get_settings() -> Settings:
    """Returns the settings that are in force."""
    return _settings


def reload_settings() -> int:
    """Reads the settings anew and returns how often that was done."""
    global _settings, _reload_count
    fresh = read_settings()
    _settings = fresh
    _reload_count += 1
    return _reload_count


def set_override(name: str, value: str) -> None:
    """Replaces one setting until the override is cleared."""
    _overrides[name] = value


def clear_override(name: str) -> None:
    """Ends an override."""
    _overrides.pop(name, None)


def lookup(name: str) -> str:
    """Returns one setting as text."""
    if name in _overrides:
        return _overrides[name]
    return str(getattr(get_settings(), name, ""))


@contextmanager
def use_profile(name: str) -> Iterator[str]:
    """Makes the code inside run with another profile."""
    global _profile
    previous = _profile
    _profile = name
    try:
        yield name
    finally:
        _profile = previous


@contextmanager
def use_tenant(name: str) -> Iterator[str]:
    """Makes the code inside work for another tenant."""
    token = _tenant.set(name)
    try:
        yield name
    finally:
        _tenant.reset(token)


def secrets() -> SecretStore:
    """Returns the secrets, read at the first call."""
    global _secrets
    if _secrets is None:
        with _secrets_lock:
            _secrets = SecretStore()
    return _secrets


def feature_flags() -> FeatureFlags:
    """Returns the switches, read at the first call."""
    global _flags
    if _flags is None:
        with _flags_lock:
            if _flags is None:
                _flags = FeatureFlags()
                _flags.load()
    return _flags


def _reload_forever() -> None:
    while not _stop.wait(RELOAD_INTERVAL_S):
        reload_settings()


_stop = threading.Event()
_reloader = threading.Thread(target=_reload_forever, name="reload", daemon=True)


def start_reloading() -> None:
    """Starts to reload the settings at an interval."""
    _reloader.start()


def stop_reloading() -> None:
    """Ends the reloading."""
    _stop.set()
    _reloader.join(timeout=JOIN_TIMEOUT_S)


def describe(profile: str) -> dict[str, str]:
    """Returns what a profile would see."""
    with use_profile(profile), use_tenant(profile):
        return {
            "profile": _profile,
            "tenant": _tenant.get(),
            "host": lookup("host"),
            "signed": str(secrets().get("SIGNING") is not None),
            "tracing": str(feature_flags().is_enabled("tracing")),
        }


def describe_all(profiles: list[str]) -> list[dict[str, str]]:
    """Returns what several profiles would see."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(describe, profiles))


async def override_once(name: str, value: str) -> str:
    """Looks one setting up under an override."""
    await asyncio.to_thread(set_override, name, value)
    try:
        return await asyncio.to_thread(lookup, name)
    finally:
        await asyncio.to_thread(clear_override, name)


async def rotate_secret(name: str, value: str) -> None:
    """Replaces one secret without blocking the event loop."""
    await asyncio.to_thread(lambda: secrets().rotate(name, value))


async def reload_now() -> int:
    """Reads the settings anew without blocking the event loop."""
    return await asyncio.to_thread(reload_settings)
