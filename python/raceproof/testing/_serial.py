"""What the calls of some threads come to in all serial orders, and whether a run came to one of these.

A call comes to what it returns, to the exception that it raises, or to waiting for ever. Where the state is of the same
type on both sides, what it holds at the end counts too.
"""

import asyncio
import dataclasses
import inspect
from dataclasses import dataclass, field
from typing import Any

from raceproof._native import control
from raceproof.instrument import INSTRUMENT, _words
from raceproof.testing._frozen import frozen

_ORDERS_MAX = 20_000
# The first run of a program that is not known yet counts for nothing, and so may some more.
_ATTEMPTS = 20


class Blocks(Exception):
    """A sequential specification raises this where the call would wait for another thread."""


class Indefinite(Exception):
    """The same calls in the same order came to something else."""


class TooMany(Exception):
    """There are more serial orders than are tried."""


@dataclass
class Came:
    """What a call came to: `returned` with a value, `raised` with an exception in words."""

    how: str
    value: Any

    def __str__(self):
        return f"returned {_words.shown(self.value)}" if self.how == "returned" else f"raised {self.value}"


@dataclass
class Run:
    """The state of a run, and what its calls came to so far, under (thread, number of the call)."""

    state: Any
    came: dict[tuple[int, int], Came] = field(default_factory=dict)
    # Beginnings (True) and ends of calls, in order.
    times: list[tuple[bool, tuple[int, int]]] = field(default_factory=list)
    # Taken between calls, so that which of two calls ended before the other began is explored too.
    clock: Any = None

    def tick(self, words, place):
        """The time between two calls of a thread."""
        if self.clock is not None:
            self.clock.acquire()
            control.note(words, *place)
            self.clock.release()
            # That this is a lock is nobody's business.
            control.note("", "", 0)

    def make(self, function, call):
        """Makes a call and notes what it comes to."""
        self.times.append((True, call))
        try:
            value = function(self.state)
        except Blocks:
            return False
        except Exception as error:
            self.note(call, error)
        else:
            self.came[call] = Came("returned", value)
        self.times.append((False, call))
        return True

    def note(self, call, error):
        """The call has raised."""
        text = str(error)
        self.came[call] = Came("raised", f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def before(self):
        """For each call those that ended before it began."""
        ended, before = [], {}
        for is_begin, call in self.times:
            if is_begin:
                before[call] = frozenset(ended)
            else:
                ended.append(call)
        return before


class Scenario:
    """Calls for each thread, on what `make()` gives."""

    def __init__(
        self, make, calls, spec=None, *, observe=None, keeps_time=False, names=None, runtime=None, locate=None
    ):
        self.make = make
        self.calls = [list(own) for own in calls]
        self.spec = make if spec is None else spec
        self.observe = observe
        self.keeps_time = keeps_time
        self.names = names
        self.runtime = runtime
        # `(state, call)`: the file and the line of what is called.
        self.locate = locate
        # After each prefix of an order (a tuple of threads) what its last call came to; None if it waits.
        self.prefixes = {}
        # For each outcome the orders that come to it, and the state at the end of one.
        self.leaves = {}
        self.held = {}
        self.waits = False
        self.is_alike = None

    # --- the serial side

    def learn(self):
        """Goes through all serial orders."""
        with INSTRUMENT:
            first = self._serially(())
            again = self._serially(())
            if first[:2] != again[:2]:
                told = f"{self.summary(first[2])}, and then {self.summary(again[2])}"
                raise Indefinite(f"calls in the same order come to different things: {told}")
            work = [()]
            while work:
                prefix = work.pop()
                if len(self.leaves) + len(work) > _ORDERS_MAX:
                    raise TooMany(f"there are more than {_ORDERS_MAX:,} serial orders")
                nexts = [thread for thread in range(len(self.calls)) if prefix.count(thread) < len(self.calls[thread])]
                for thread in nexts:
                    longer = (*prefix, thread)
                    if longer not in self.prefixes:
                        self._serially(longer)
                going = [(*prefix, thread) for thread in nexts if self.prefixes[(*prefix, thread)] is not None]
                work += going
                if not going:
                    self.waits = self.waits or bool(nexts)
                    _, outcome, run = self._serially(prefix, is_all=False)
                    self.leaves.setdefault(outcome, []).append(prefix)
                    self.held.setdefault(outcome, run.state)

            self._learn_of_threads()

    def _learn_of_threads(self):
        """A run without any switch is serial, so it has to be explained; where it is not, what calls come to depends on
        the thread that makes them, and nothing can be said."""
        from raceproof.testing._explore import request

        runs = []

        def setup():
            runs.append(self.setup())
            return runs[-1]

        control.run_exploration(request(setup, self.threads(), None, strategy="dfs0", max_runs=1, runtime=self.runtime))
        run = runs[0]
        calls = [(thread, idx) for thread, own in enumerate(self.calls) for idx in range(len(own))]
        is_serial = run.times == [time for call in calls for time in ((True, call), (False, call))]
        if is_serial and self._outcome(run) not in self.leaves:
            raise Indefinite(f"what calls come to depends on the thread that makes them: {self.summary(run)}")

    def _serially(self, order, is_all=True):
        """Makes the calls in the order, and then, thread by thread, all others if `is_all`."""
        if is_all:
            full = list(order)
            for thread, own in enumerate(self.calls):
                full += [thread] * (len(own) - full.count(thread))
        else:
            full = list(order)
        from raceproof.testing._explore import request

        runs = []

        def setup():
            runs.append(Run(self.spec()))
            return runs[-1]

        report = control.run_exploration(
            request(
                setup,
                [lambda run: self._in_order(run, full)],
                None,
                max_runs=_ATTEMPTS,
                runtime=self.runtime,
                blocked_is_outcome=True,
            )
        )
        if not runs:
            raise RuntimeError(report.reason)
        run = runs[-1]
        numbers = [0] * len(self.calls)
        for idx, thread in enumerate(full):
            call = (thread, numbers[thread])
            numbers[thread] += 1
            came = run.came.get(call)
            self.prefixes[tuple(full[: idx + 1])] = came
            if came is None:
                break
        return tuple(full), self._outcome(run), run

    def _in_order(self, run, order):
        numbers = [0] * len(self.calls)
        for thread in order:
            call = (thread, numbers[thread])
            numbers[thread] += 1
            if not run.make(in_thread(self.calls[thread][call[1]]), call):
                return

    def _outcome(self, run):
        n_calls = sum(len(own) for own in self.calls)
        came = [
            (run.came[call].how, run.came[call].value) if call in run.came else ("waits",)
            for call in ((thread, idx) for thread, own in enumerate(self.calls) for idx in range(len(own)))
        ]
        if self.is_alike is None:
            self.is_alike = type(self.spec()) is type(self.make()) if self.spec is not self.make else True
        held = []
        # A thread that waits for ever is unwound, and the state with it.
        if len(run.came) == n_calls:
            if self.observe is not None:
                held = [self.observe(run.state)]
            elif self.is_alike:
                held = [run.state]
        return frozen(came, held)

    # --- the side of runs under control

    def setup(self):
        """The state of a run."""
        return Run(self.make(), clock=control.Lock() if self.keeps_time else None)

    def threads(self):
        """The threads of a run."""
        return [self._thread(number, own) for number, own in enumerate(self.calls)]

    def _thread(self, number, own):
        if any(inspect.iscoroutinefunction(function) for function in own):
            return self._task(number, own)

        def thread(run):
            place = "", 0
            for idx, function in enumerate(own):
                place = place if self.locate is None else self.locate(run.state, (number, idx))
                run.tick(f"calls {self.name((number, idx))}", place)
                run.make(function, (number, idx))
            run.tick("has the last result", place)

        return thread

    def _task(self, number, own):
        async def task(run):
            for idx, function in enumerate(own):
                call = (number, idx)
                run.times.append((True, call))
                try:
                    value = function(run.state)
                    run.came[call] = Came("returned", await value if inspect.isawaitable(value) else value)
                except Exception as error:
                    run.note(call, error)
                run.times.append((False, call))

        return task

    def check(self, run):
        """Raises `control.NotSerial` if no serial order explains the run."""
        orders = self.leaves.get(self._outcome(run), ())
        if not orders:
            raise control.NotSerial(self.summary(run))
        if self.keeps_time:
            before = run.before()
            if not any(self._is_in_time(order, before) for order in orders):
                raise control.NotSerial(f"{self.summary(run)}, and only in an order against that of time")

    @staticmethod
    def _is_in_time(order, before):
        numbers, placed = {}, set()
        for thread in order:
            call = (thread, numbers.get(thread, 0))
            numbers[thread] = call[1] + 1
            if not before.get(call, frozenset()) <= placed:
                return False
            placed.add(call)
        return True

    # --- words

    def name(self, call):
        """A call in words."""
        thread, idx = call
        if self.names is not None:
            return self.names[thread][idx]
        function = self.calls[thread][idx]
        return f"{getattr(function, '__name__', None) or type(function).__name__}()"

    def summary(self, run):
        """What the calls came to, in one line."""
        return "; ".join(
            f"T{thread}: {', '.join(self._told(run, (thread, idx)) for idx in range(len(own)))}"
            for thread, own in enumerate(self.calls)
        )

    def _told(self, run, call):
        came = run.came.get(call)
        return f"{self.name(call)} {came if came is not None else 'waits for ever'}"

    def story(self, run):
        """The longest serial order that fits the run, and what does not fit after it."""
        before = run.before() if self.keeps_time else {}
        longest = self._longest(run, before)
        lines = ["what the calls came to:"]
        for thread, own in enumerate(self.calls):
            lines += [f"  T{thread}  {self._told(run, (thread, idx))}" for idx in range(len(own))]
        placed, numbers = [], {}
        for thread in longest:
            placed.append((thread, numbers.get(thread, 0)))
            numbers[thread] = placed[-1][1] + 1
        if placed:
            told = ", ".join(f"T{call[0]}.{self.name(call)}" for call in placed)
            lines.append(f"the longest serial order that fits: {told}")
        else:
            lines.append("no serial order begins with a call that fits:")
        stuck = [(thread, numbers.get(thread, 0)) for thread, own in enumerate(self.calls)]
        stuck = [call for call in stuck if call[1] < len(self.calls[call[0]])]
        lines += [f"  {self._misfit(run, longest, call, before, set(placed))}" for call in stuck]
        if not stuck:
            serial = sorted({_holding(held) for held in self.held.values()})
            lines.append(f"  but at the end {_holding(run.state)}, where serial orders have {' or '.join(serial)}")
        return "\n".join(lines)

    def _misfit(self, run, longest, call, before, placed):
        thread = call[0]
        late = before.get(call, frozenset()) - placed
        if late:
            return f"T{thread}.{self.name(call)} began after the end of T{min(late)[0]}.{self.name(min(late))}"
        came = run.came.get(call)
        serial = self.prefixes.get((*longest, thread))
        here = came if came is not None else "waits for ever"
        after = f"would have {serial}" if serial is not None else "would wait"
        return f"T{thread}.{self.name(call)} {after} then, and {here}"

    def _longest(self, run, before):
        best, work = (), [()]
        while work:
            prefix = work.pop()
            if len(prefix) > len(best):
                best = prefix
            for thread in range(len(self.calls)):
                call = (thread, prefix.count(thread))
                serial = self.prefixes.get((*prefix, thread))
                came = run.came.get(call)
                if serial is None or came is None:
                    continue
                placed = {(own, idx) for own in range(len(self.calls)) for idx in range(prefix.count(own))}
                is_equal = frozen(serial.how, serial.value) == frozen(came.how, came.value)
                if is_equal and before.get(call, frozenset()) <= placed:
                    work.append((*prefix, thread))
        return best


def _holding(state):
    """What a state holds, in words."""
    values = getattr(state, "__dict__", None)
    if not values:
        return f"it is {_words.shown(state)}"
    return ", ".join(f"{name} is {_words.shown(value)}" for name, value in values.items())


def in_thread(function):
    """The function as a thread calls it: a coroutine function in a loop of its own."""
    if not inspect.iscoroutinefunction(function):
        return function
    return lambda state: asyncio.run(function(state))


def against(scenario, invariant, run):
    """Explores a scenario against its serial orders; `run` is what explores."""
    from raceproof.testing._explore import Outcome

    try:
        scenario.learn()
    except (Indefinite, TooMany) as error:
        return Outcome("gave_up", 0, None, "", {}, str(error))

    def checked(came):
        scenario.check(came)
        is_whole = len(came.came) == sum(len(own) for own in scenario.calls)
        return None if invariant is None or not is_whole else invariant(came.state)

    outcome = run(scenario.setup, scenario.threads(), checked, blocked_is_outcome=scenario.waits)
    if outcome.kind != "not linearizable":
        return outcome
    failing = []

    def noted(came):
        failing.append(came)
        return checked(came)

    # The run that the schedule shows, for its story.
    run(scenario.setup, scenario.threads(), noted, blocked_is_outcome=scenario.waits, schedule=outcome.schedule)
    if not failing:
        return outcome
    return dataclasses.replace(outcome, explanation=f"{scenario.story(failing[-1])}\n\n{outcome.explanation}")
