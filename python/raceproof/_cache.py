"""Decorators over `Cache`: results kept per arguments, and calls with equal arguments that become one."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from raceproof._native import Cache

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")


class CacheInfo(NamedTuple):
    """What a cached function has done, as functools says it."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


async def _take_part(begin, make, timeout):
    from raceproof._waiting import take_part  # only here: it needs asyncio, which a program without it need not load

    return await take_part(begin, make, timeout)


async def _aget_or_load(cache, key, loader, timeout):
    return await _take_part(functools.partial(cache._begin, key), functools.partial(loader, key), timeout)


def _over(cache, function, typed, timeout):
    """The function, with its results taken from the cache."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            begin = functools.partial(cache._begin, cache._key(typed, args, kwargs))
            return await _take_part(begin, functools.partial(function, *args, **kwargs), timeout)

    else:
        call = cache._call

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return call(function, typed, timeout, args, kwargs)

    return wrapper


@overload
def single_flight(function: _F, /, *, typed: bool = False, timeout: float | None = None) -> _F: ...
@overload
def single_flight(
    function: None = None, /, *, typed: bool = False, timeout: float | None = None
) -> Callable[[_F], _F]: ...
def single_flight(function: Any = None, /, *, typed: bool = False, timeout: float | None = None) -> Any:
    """Makes calls with equal arguments that are made at the same time share one execution; results are not kept.

    Works for functions and async functions, across threads and event loops. Who waits gets the result or the exception
    of the execution, or WaitTimeout after `timeout` seconds; if the execution is cancelled, one of those who wait
    executes. A call that would wait for itself raises ReentrantError at once. Arguments must be hashable; `typed=True`
    tells 1 from 1.0.
    """
    if function is None:
        return functools.partial(single_flight, typed=typed, timeout=timeout)
    return _over(Cache(0), function, typed, timeout)


def cached(
    maxsize: Any = 128,
    typed: bool = False,
    *,
    ttl: float | None = None,
    timeout: float | None = None,
    clock: Callable[[], float] | None = None,
) -> Any:
    """Keeps the results of a function per arguments, as functools.lru_cache does, for `ttl` seconds if that is given.

    Unlike there, calls with equal arguments that are made at the same time share one execution, and async functions
    work: see `single_flight`. An exception is not kept. The function has `cache_info()`, `cache_clear()`,
    `cache_parameters()`, and its Cache as `cache`.
    """
    if callable(maxsize) and isinstance(typed, bool):
        return cached(128, typed)(maxsize)
    if maxsize is not None and not isinstance(maxsize, int):
        raise TypeError("the first argument must be an integer, a callable, or None")

    def decorate(function):
        cache = Cache(maxsize, ttl, clock=clock)
        wrapper = _over(cache, function, typed, timeout)

        def cache_info():
            """Hits, misses, the bound, and how many results are kept."""
            stats = cache.stats()
            return CacheInfo(stats.hits, stats.misses, stats.maxsize, stats.size)

        def cache_clear():
            """Forgets all results and counts."""
            cache.clear()
            cache.reset_stats()

        wrapper.cache = cache
        wrapper.cache_info = cache_info
        wrapper.cache_clear = cache_clear
        wrapper.cache_parameters = lambda: {"maxsize": cache.maxsize, "typed": typed}
        return wrapper

    return decorate
