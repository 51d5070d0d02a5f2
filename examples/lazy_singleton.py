"""A registry that should exist once is made several times.

All threads find that `_registry` is None before the first of them has assigned it.
Each makes its own, the last assignment wins, and the others keep a stray registry.

Find it with: raceproof check examples/lazy_singleton.py
"""

import time
from concurrent.futures import ThreadPoolExecutor

N_THREADS = 8


class Registry:
    """Something that is slow to make and has to exist once."""

    def __init__(self) -> None:
        time.sleep(0.01)
        self.made_at = time.perf_counter()


_registry: Registry | None = None


def get_registry() -> Registry:
    """Returns the one registry, made at the first call."""
    global _registry
    if _registry is None:
        _registry = Registry()
    return _registry


if __name__ == "__main__":
    with ThreadPoolExecutor(N_THREADS) as pool:
        futures = [pool.submit(get_registry) for _ in range(N_THREADS)]
    print(f"registries made: {len({id(future.result()) for future in futures})}")
