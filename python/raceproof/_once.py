"""Singletons and functions that run once: the faces of `Lazy` that need a class statement or `await`."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, overload

from raceproof._native import Lazy, OnceFunction, share

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_F = TypeVar("_F", bound="Callable[[], Any]")

_SLOT = "_raceproof_slot"


async def _aget(lazy, maker, args, kwargs, timeout):
    """The value of an empty `Lazy`, for async code."""
    from raceproof._waiting import take_part  # only here: it needs asyncio, which a program without it need not load

    return await take_part(lazy._begin, functools.partial(maker, *args, **kwargs), timeout)


@overload
def once(function: _F, /, *, timeout: float | None = None, shared: bool = False) -> _F: ...
@overload
def once(function: None = None, /, *, timeout: float | None = None, shared: bool = False) -> Callable[[_F], _F]: ...
def once(function: Any = None, /, *, timeout: float | None = None, shared: bool = False) -> Any:
    """Makes a function without arguments run once; every call returns what the first one returned.

    Under any mix of threads and event loops the function runs in one caller, while the others wait, at most `timeout`
    seconds (WaitTimeout). If it raises, that caller gets the exception, and the next one tries. A call that would wait
    for itself raises ReentrantError at once. An async function stays one: await each call. `shared=True` switches the
    reference count of the result off (see `share`). The result has `reset()`, which forgets what was returned.
    """
    if function is None:
        return functools.partial(once, timeout=timeout, shared=shared)
    lazy = Lazy(function, timeout=timeout, shared=shared)
    made = OnceFunction(lazy, is_async=inspect.iscoroutinefunction(function))
    functools.update_wrapper(made, function)
    return share(made) if shared else made


class ThreadSafeSingleton:
    """The base of classes that have one instance per process, made when it is first asked for.

    `await Cls.get_instance(*args, **kwargs)` in async code, `Cls.instance(*args, **kwargs)` in other code: the first
    call makes `Cls(*args, **kwargs)`, every call returns the same object. Each subclass has an instance of its own. The
    arguments are those of the call that makes the instance; later ones are ignored. A class with
    `async def __ainit__(self)` has it awaited after `__init__`, before anybody sees the instance: then the first call
    has to be `await get_instance()`.

    The instance is made once, under any mix of threads and event loops. If making it raises, that caller gets the
    exception, the slot stays empty, and the next caller tries. Others wait meanwhile: `instance()` blocks its thread,
    `get_instance()` never blocks its event loop. They wait at most `timeout=` seconds, an argument of both that is not
    passed on, or as long as `class C(ThreadSafeSingleton, timeout=5.0)` says; then they get WaitTimeout. A constructor
    that asks for its own instance gets ReentrantError.

    `Cls()` makes an object that is not the instance, as with any class. `Cls.reset()` forgets the instance, for tests.
    Copies and pickles of the instance are references to the instance. Where reference counts can be switched off (see
    `share`), those of the class and of the instance are: they live as long as the process.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # `_bind` sets these, for each class

        @classmethod
        async def get_instance(cls, *args: Any, timeout: float | None = None, **kwargs: Any) -> Self: ...
        @classmethod
        def instance(cls, *args: Any, timeout: float | None = None, **kwargs: Any) -> Self: ...

    def __init_subclass__(cls, *, timeout: float | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _bind(cls, timeout)

    @classmethod
    def reset(cls) -> None:
        """Forgets the instance: the next caller makes a new one. For tests."""
        _slot(cls).reset()

    def __reduce_ex__(self, protocol):
        slot = vars(type(self)).get(_SLOT)
        if slot is not None and slot.is_set and slot.value is self:
            return _instance, (type(self),)
        return super().__reduce_ex__(protocol)


def _bind(cls, timeout):
    """Gives the class its slot, and the callables over it unless it has its own."""
    maker = _made_async(cls) if hasattr(cls, "__ainit__") else cls
    slot = share(Lazy(maker, timeout=timeout, shared=True))
    setattr(cls, _SLOT, slot)
    share(cls)
    for name, is_async in (("get_instance", True), ("instance", False)):
        if isinstance(vars(cls).get(name, slot), (Lazy, OnceFunction)):
            setattr(cls, name, _callable(cls, slot, name, is_async))


def _callable(cls, slot, name, is_async):
    made = OnceFunction(slot, cls, is_async)
    made.__name__ = name
    made.__qualname__ = f"{cls.__qualname__}.{name}"
    made.__module__ = cls.__module__
    made.__doc__ = (
        f"The one instance of {cls.__name__}{', to be awaited' if is_async else ''}: see ThreadSafeSingleton."
    )
    return share(made)


def _made_async(cls):
    async def make(*args, **kwargs):
        instance = cls(*args, **kwargs)
        await instance.__ainit__()
        return instance

    return make


def _slot(cls):
    slot = vars(cls).get(_SLOT)
    if slot is None:
        raise TypeError(f"{cls.__name__}.__init_subclass__ of a base must call super().__init_subclass__(**kwargs)")
    return slot


def _of_class(cls, is_async):
    """The callable of a class that was found by way of another, as `super().get_instance` is."""
    return OnceFunction(_slot(cls), cls, is_async)


def _instance(cls):
    """What an instance is copied and pickled as."""
    return cls.instance()


_bind(ThreadSafeSingleton, None)
