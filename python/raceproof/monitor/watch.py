"""Incidents that nobody has to report: exceptions that would be lost, locks in the wrong order or held for too long,
pools without room, memory that only grows, event loops that do not answer."""

import asyncio
import sys
import threading
import traceback
import weakref

from raceproof.monitor import _store
from raceproof.monitor.incidents import IncidentManager
from raceproof.monitor.settings import Configuration

# A thread that dies waits this long for its incident, in seconds.
LAST_WORDS = 5.0

_guard = threading.Lock()
_loops = weakref.WeakSet()


def report_lost_exception(error: BaseException, where: str, *, wait: bool = True) -> None:
    """Raises an incident for an exception that nobody caught; `where` says who lost it. Never raises.

    With `wait` this thread blocks until the incident is on the disk, at most 5 seconds.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].name}" if frames else ""
    title = f"{where} lost {type(error).__name__}: {error}"
    _raise(
        title,
        wait,
        kind="lost-exception",
        severity="error",
        fingerprint=f"lost:{type(error).__name__}:{place}",
        context={"where": where, "traceback": "".join(traceback.format_exception(error))},
    )


def report_lock_inversion(first: str, second: str, context: dict, *, wait: bool = True) -> None:
    """Raises an incident: two locks were taken in both orders, so that threads can deadlock. Never raises."""
    names = sorted((first, second))
    _raise(
        f"locks `{names[0]}` and `{names[1]}` are taken in both orders",
        wait,
        kind="lock-order-inversion",
        severity="error",
        fingerprint=f"inversion:{names[0]}:{names[1]}",
        context=context,
    )


def report_long_hold(lock: str, held: float, holder: str, *, wait: bool = True) -> None:
    """Raises an incident: a lock was held for `held` seconds. Never raises."""
    _raise(
        f"lock `{lock}` is held for {held:.3g} s by {holder}",
        wait,
        kind="long-hold",
        severity="warning",
        fingerprint=f"hold:{lock}",
        context={"lock": lock, "held_s": held, "holder": holder},
    )


def report_pool_saturation(pool: str, seconds: float, context: dict, *, wait: bool = True) -> None:
    """Raises an incident: the queue of a pool has been full for `seconds`. Never raises."""
    _raise(
        f"pool `{pool}` has no room for {seconds:.3g} s",
        wait,
        kind="pool-saturation",
        severity="warning",
        fingerprint=f"pool:{pool}",
        context=context,
    )


def report_leak(metric: str, growth: tuple, *, wait: bool = True) -> None:
    """Raises an incident: the floor of a metric rises without end; `growth` is from, to, and per hour. Never raises."""
    begin, end, per_hour = growth
    _raise(
        f"`{metric}` grew from {begin:.4g} to {end:.4g} and does not come down",
        wait,
        kind="leak-suspicion",
        severity="warning",
        fingerprint=f"leak:{metric}",
        context={"metric": metric, "from": begin, "to": end, "per_hour": per_hour},
    )


def report_loop_lag(loop: str, seconds: float, *, wait: bool = True) -> None:
    """Raises an incident: an event loop answered after `seconds`, or has not answered yet. Never raises."""
    _raise(
        f"event loop `{loop}` does not answer for {seconds:.3g} s",
        wait,
        kind="event-loop-lag",
        severity="warning",
        fingerprint=f"loop:{loop}",
        context={"loop": loop, "lag_s": seconds},
    )


def _raise(title, wait, **report):
    try:
        manager = IncidentManager.instance()
        if wait:
            limit = min(LAST_WORDS, Configuration.instance().get("timeout_s"))
            manager.raise_incident_now(title, timeout=limit, **report)
        else:
            manager.raise_incident_soon(title, **report)
    except Exception as failed:
        _store.complain(f"{title} ({report['kind']} could not be kept: {failed})")


def watch_exceptions() -> None:
    """Makes an incident of each exception that ends a thread, and of each that Python cannot raise (in `__del__`, in a
    callback, in a call that a pool ran and whose result nobody asked for). What the hooks did before is done first."""
    with _guard:
        for hook in _HOOKS:
            hook.set()


def unwatch_exceptions() -> None:
    """Ends what `watch_exceptions` began. A hook that somebody set after us stays, and ours in it does nothing more."""
    with _guard:
        for hook in _HOOKS:
            hook.unset()


class _Hook:
    """A hook of the interpreter that is ours for a time: `module.name(args)`."""

    def __init__(self, module, name, take):
        self._module = module
        self._name = name
        self._take = take
        self._ours = None
        self._previous = None

    def set(self):
        if self._ours is not None and getattr(self._module, self._name) is self._ours:
            return
        self._previous = previous = getattr(self._module, self._name)

        def hook(args, /):
            previous(args)
            if self._ours is hook and args.exc_value is not None:
                self._take(args)

        self._ours = hook
        setattr(self._module, self._name, hook)

    def unset(self):
        if self._ours is not None and getattr(self._module, self._name) is self._ours:
            setattr(self._module, self._name, self._previous)
        self._ours = None


def _thread_ended(args):
    if args.exc_type is not SystemExit:
        name = args.thread.name if args.thread is not None else "a thread"
        report_lost_exception(args.exc_value, f"thread `{name}`")


def _could_not_raise(args):
    # It may be called in the middle of anything, so it must not wait.
    where = args.err_msg or "an exception that could not be raised"
    report_lost_exception(args.exc_value, str(where).removesuffix(":"), wait=False)


_HOOKS = (_Hook(threading, "excepthook", _thread_ended), _Hook(sys, "unraisablehook", _could_not_raise))


def watch_loop_exceptions(loop: asyncio.AbstractEventLoop) -> None:
    """Makes an incident of each exception that a loop reports because nobody awaits it; what the handler of the loop
    did before is done first."""
    with _guard:
        if loop in _loops:
            return
        _loops.add(loop)
    previous = loop.get_exception_handler()

    def handler(loop, context):
        if previous is None:
            loop.default_exception_handler(context)
        else:
            previous(loop, context)
        error = context.get("exception")
        if error is not None:
            task = context.get("task") or context.get("future")
            name = task.get_name() if isinstance(task, asyncio.Task) else "an event loop"
            # The loop must not wait for the disk.
            report_lost_exception(error, f"task `{name}`" if task is not None else name, wait=False)

    loop.set_exception_handler(handler)
