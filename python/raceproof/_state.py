"""`ThreadSafeGlobalState`: the async face of `SharedState`, which does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raceproof._native import SharedState

if TYPE_CHECKING:
    from collections.abc import Callable

    from raceproof._native import Change, Watch


class ThreadSafeGlobalState:
    """Values under keys for all threads and event loops of the process.

    Every operation is atomic, and none blocks the event loop: there is nothing to wait for. `sync` has the same
    operations for code that is not async. Values are not copied: change them by setting new ones, with `update`.
    """

    __slots__ = ("__weakref__", "sync")

    def __init__(self) -> None:
        self.sync = SharedState()

    async def get(self, key: Any, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        return self.sync.get(key, default)

    async def set(self, key: Any, value: Any) -> None:
        """Sets the value of `key`."""
        self.sync.set(key, value)

    async def delete(self, key: Any) -> bool:
        """Deletes `key`; says whether it was there."""
        return self.sync.delete(key)

    async def clear(self) -> None:
        """Deletes everything, in one step. Namespaces keep what they hold."""
        self.sync.clear()

    async def keys(self) -> list[Any]:
        """The keys at one moment, as a list in the order in which they came."""
        return self.sync.keys()

    async def snapshot(self) -> dict[Any, Any]:
        """All keys and values at one moment, as a dict of the caller's own."""
        return self.sync.snapshot()

    async def update(self, key: Any, function: Callable[[Any], Any], default: Any = None) -> Any:
        """Sets the value of `key` to `function(value)`, or `function(default)` where there is none, and returns it.

        Atomic: `function` runs without any lock, and again with the new value if another thread was faster.
        """
        return self.sync.update(key, function, default)

    async def compare_and_set(self, key: Any, expected: Any, new: Any) -> bool:
        """Sets the value of `key` if it equals `expected`; says whether it did. `ABSENT` stands for no value."""
        return self.sync.compare_and_set(key, expected, new)

    def watch(self, key: Any, callback: Callable[[Change], object]) -> Watch:
        """Has `callback(change)` called after each change of `key`, or of every key with None, until `close()`.

        The callback runs in the thread of a writer, outside every lock, in the order of the changes. What it raises is
        reported to sys.unraisablehook, counted and kept in the handle, and does not reach the writer.
        """
        return self.sync.watch(key, callback)

    def namespace(self, name: str) -> ThreadSafeGlobalState:
        """The state of its own that has this name; made when first asked for."""
        inner = object.__new__(type(self))
        inner.sync = self.sync.namespace(name)
        return inner

    def namespaces(self) -> list[str]:
        """The names of the namespaces."""
        return self.sync.namespaces()

    def __eq__(self, other):
        return self.sync is other.sync if isinstance(other, ThreadSafeGlobalState) else NotImplemented

    def __hash__(self):
        return hash(self.sync)

    def __repr__(self):
        return f"<raceproof.ThreadSafeGlobalState with {len(self.sync)} keys>"

    def __reduce__(self):
        return self.sync.__reduce__()
