"""The event loop of a run: which ready task goes on, and whether a timer fires first, are choices of the schedule.

Callbacks that are not steps of tasks keep their order. Time is the virtual clock. `call_soon_threadsafe` wakes the loop
through a condition of the run, so that several loops in several threads need nothing else; sockets and subprocesses
have no place here and raise `NotImplementedError`.
"""

import asyncio
import heapq
from asyncio import base_events, events

from raceproof._native import control
from raceproof.instrument import _clock

_TASK_STEPS = ("TaskStepMethWrapper", "TaskWakeupMethWrapper")


class ControlledLoop(base_events.BaseEventLoop):
    """Stands in for the event loops of `asyncio` in threads under control."""

    def __init__(self):
        super().__init__()
        self._work = control.Condition(control.Lock("event loop"))

    def time(self):
        return _clock.CLOCKS["monotonic"]()

    def call_soon(self, callback, *args, context=None):
        if events._get_running_loop() is self or not self.is_running():
            return super().call_soon(callback, *args, context=context)
        # Another thread, which does not wake the loop: whether the loop sees it depends on who comes first.
        with self._work:
            return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(self, callback, *args, context=None):
        self._check_closed()
        if events._get_running_loop() is self:
            return self.call_soon(callback, *args, context=context)
        with self._work:
            handle = self._call_soon(callback, args, context)
            self._work.notify()
        return handle

    def _write_to_self(self):
        with self._work:
            self._work.notify()

    def _process_events(self, event_list):
        raise NotImplementedError("a loop under control has no sockets")

    def _run_once(self):
        self._forget_cancelled()
        if not self._ready and not self._stopping:
            self._await_work()
        self._collect_due()
        if self._ready:
            self._run_handle(self._choose())

    def call_exception_handler(self, context):
        """Says nothing: tasks that a run leaves behind are not worth a line in each of thousands of runs."""

    def _forget_cancelled(self):
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        while self._ready and self._ready[0]._cancelled:
            self._ready.popleft()

    def _await_work(self):
        with self._work:
            if not self._ready:
                rest = max(0.0, self._scheduled[0]._when - self.time()) if self._scheduled else None
                self._work.wait(rest)

    def _collect_due(self):
        now = self.time() + 1e-9
        while self._scheduled and self._scheduled[0]._when <= now:
            handle = heapq.heappop(self._scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)

    def _choose(self):
        """Takes the handle that goes on out of the ready ones."""
        units = []
        is_callback_in = False
        for idx, handle in enumerate(self._ready):
            if _task_of(handle) is not None:
                units.append(idx)
            elif not is_callback_in:
                is_callback_in = True
                units.append(idx)
        n_timers = 1 if self._scheduled else 0
        branch = control.choose(len(units) + n_timers, "event loop")
        if branch == len(units):
            control.sleep(max(0.0, self._scheduled[0]._when - self.time()))
            self._collect_due()
            branch = 0
            units = [len(self._ready) - 1]
        handle = self._ready[units[branch]]
        del self._ready[units[branch]]
        if len(units) + n_timers > 1:
            control.note(*_described(handle))
        return handle

    def _run_handle(self, handle):
        if not handle._cancelled:
            handle._run()


def _task_of(handle):
    callback = handle._callback
    owner = getattr(callback, "__self__", None)
    return owner if isinstance(owner, asyncio.Task) or type(callback).__name__ in _TASK_STEPS else None


def _described(handle):
    """What goes on, and from where: text, file, line."""
    task = _task_of(handle)
    coroutine = task.get_coro() if isinstance(task, asyncio.Task) else None
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None:
        return f"runs a callback: {getattr(handle._callback, '__qualname__', 'callback')}", "", 0
    return f"goes on with the task `{coroutine.__qualname__}`", frame.f_code.co_filename, frame.f_lineno


def new_event_loop():
    """`asyncio.new_event_loop`."""
    return ControlledLoop() if control.seat() >= 0 else asyncio.get_event_loop_policy().new_event_loop()


def run_together(functions, state):
    """Runs coroutine functions as tasks of one loop in this thread, each called with the state; the first exception is
    raised."""
    loop = ControlledLoop()
    asyncio.set_event_loop(loop)
    tasks = [loop.create_task(function(state)) for function in functions]
    all_done = loop.create_future()
    left = len(tasks)

    def count(_task):
        nonlocal left
        left -= 1
        if left == 0:
            all_done.set_result(None)

    for task in tasks:
        task.add_done_callback(count)
    try:
        loop.run_until_complete(all_done)
        for task in tasks:
            task.result()
    finally:
        asyncio.set_event_loop(None)
        loop.close()
