"""What the command line asks of Python: code of the user runs here, in a child process with limits on time and memory.

The process that was asked starts the child, waits and tells; the child imports the file, finds the scenario and
explores it. Exit codes: 0 proved or nothing found, 1 failed, 2 gave up or could not be done.
"""

import importlib
import importlib.util
import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from raceproof import _limits

_CODES = {"proved": 0, "nothing_found": 0, "failed": 1, "gave_up": 2}


class NoScenario(Exception):
    """There is no scenario where one was looked for."""


class Scenario(NamedTuple):
    """What is explored."""

    setup: Any
    threads: list[Any]
    invariant: Any = None
    spec: Any = None


def run(verb: str, settings: dict[str, Any]) -> int:
    """Does what was asked; returns the exit code."""
    if verb != "explore":
        raise ValueError(f"no verb `{verb}`")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    said = _in_child(settings)
    if isinstance(said, str):
        print(said, file=sys.stderr)
        return 2
    text = said["text"]
    if settings["output"] is not None:
        Path(settings["output"]).write_text(text, encoding="utf-8")
    elif text:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    return _CODES[said["verdict"]]


def _in_child(settings):
    """What the child says; a text if it says nothing."""
    child = subprocess.Popen(
        [sys.executable, "-m", "raceproof.runner"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    limit = settings["time_limit"]
    try:
        out, _ = child.communicate(json.dumps(settings), timeout=limit)
    except subprocess.TimeoutExpired:
        return f"gave up: the child process was ended after {limit} s\n help: raise --time-limit, or lower --max-runs"
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    try:
        said = json.loads(out)
    except ValueError:
        how = f"signal {-child.returncode}" if child.returncode < 0 else f"exit code {child.returncode}"
        memory = settings["memory_limit"]
        return f"gave up: the child process ended early, with {how}\n help: it may use {memory} MiB: --memory-limit"
    return said.get("error", said)


# --- in the child


def _child() -> None:
    settings = json.load(sys.stdin)
    # What the code prints is not what is asked for, and would be printed once for each of thousands of runs.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)

    _limits.limit(settings["time_limit"], settings["memory_limit"])
    try:
        said = _explored(settings)
    except NoScenario as error:
        said = {"error": f"error: {error}"}
    except (ValueError, RuntimeError) as error:
        said = {"error": f"error: cannot explore {_name(settings)}\n because: {error}"}
    out.write(json.dumps(said))
    out.flush()
    # Threads under control are still parked, and threads of the code may never end.
    os._exit(0)


def _explored(settings):
    from raceproof.testing import explore, replay

    scenario = load(settings["file"], settings["name"])
    options = {"spec": scenario.spec, "runtime": settings["runtime"]}
    if settings["replay"] is not None:
        outcome = replay(scenario.setup, scenario.threads, scenario.invariant, schedule=settings["replay"], **options)
    else:
        options |= {name: settings[name] for name in ("strategy", "max_runs", "bound", "seed")}
        outcome = explore(scenario.setup, scenario.threads, scenario.invariant, **options)
    if "raises MemoryError" in (outcome.reason or ""):
        # Of the limit, and not of the schedule.
        return {"error": f"gave up: {settings['memory_limit']} MiB were not enough\n help: raise --memory-limit"}
    return {"verdict": outcome.verdict, "text": _shown(settings, outcome)}


def _shown(settings, outcome):
    if settings["format"] == "text":
        return _told(settings, outcome)
    page = outcome.render(settings["format"])
    if settings["format"] != "json":
        return page
    told = ("verdict", "runs", "reason", "kind", "pattern", "schedule", "certificate")
    return json.dumps({**json.loads(page), "outcome": {name: getattr(outcome, name) for name in told}}, indent=2)


def _name(settings):
    return settings["file"] + (f"::{settings['name']}" if settings["name"] else "")


def _told(settings, outcome):
    name = _name(settings)
    runs = f"{outcome.runs:,} run{'s' if outcome.runs != 1 else ''}"
    if outcome.verdict == "failed":
        lines = [f"{name}: failed, {runs}", "", outcome.explanation.rstrip()]
        if outcome.schedule is not None and settings["replay"] is None:
            words = shlex.join(["raceproof", "explore", name, "--replay", outcome.schedule])
            lines += ["", f"to see it again: {words}"]
        return "\n".join(lines)
    if outcome.verdict == "gave_up":
        return f"{name}: gave up, {runs}: {outcome.reason}"
    if settings["replay"] is not None:
        return f"{name}: this schedule does not fail"
    certificate = outcome.certificate
    reach = f"all schedules, {runs}" if certificate["bound"] is None else f"{certificate['bound']}, {runs}"
    verdict = "proved" if outcome.verdict == "proved" else "nothing found"
    lines = [f"{name}: {verdict}: {reach}; {certificate['semantics']}; a step is {certificate['granularity']}"]
    lines += [f"  not tracked: {what}" for what in certificate["untracked"]]
    return "\n".join(lines)


def load(file: str, name: str | None) -> Scenario:
    """The scenario with this name in a file; without a name the module itself."""
    path = Path(file)
    if not path.is_file():
        raise NoScenario(f"there is no file {file}")
    try:
        module = _imported(path.resolve())
    except BaseException as error:
        told = "".join(traceback.format_exception(error)).rstrip()
        raise NoScenario(f"cannot import {file}\n because: {told}") from None
    if name is None:
        if _is_scenario(module):
            return _of(module)
        raise NoScenario(f"{file} has no `setup` and `threads` of its own\n help: {_named_in(module, file)}")
    thing: Any = module
    for part in name.split("."):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            raise NoScenario(f"there is no `{name}` in {file}\n help: {_named_in(module, file)}") from None
    if _is_scenario(thing):
        return _of(thing)
    if callable(thing) and not isinstance(thing, type):
        return of_function(thing)
    raise NoScenario(f"`{name}` in {file} is no scenario: it needs `setup` and `threads`, or be a function")


def _imported(path):
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    sys.path[:0] = [str(root), *([os.getcwd()] if os.getcwd() != str(root) else [])]
    if len(parts) > 1:
        return importlib.import_module(".".join(parts))
    name = path.stem if path.stem not in sys.modules else f"raceproof_scenario_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_scenario(thing):
    return callable(getattr(thing, "setup", None)) and getattr(thing, "threads", None) is not None


def _named_in(module, file):
    names = sorted(name for name, thing in vars(module).items() if not name.startswith("_") and _is_scenario(thing))
    if not names:
        return "give the module `setup`, `threads` and `invariant`, or name a function that starts threads"
    return "it has " + ", ".join(f"{file}::{name}" for name in names)


def _of(thing):
    """The scenario in a module, an object or a class; functions of a class may leave `self` out."""
    owner = thing() if isinstance(thing, type) else thing
    class_ = owner if inspect.ismodule(owner) else type(owner)

    def part(name, n_arguments):
        plain = inspect.getattr_static(class_, name, None)
        # Without `self` it is a function that happens to stand in a class.
        if inspect.isfunction(plain) and n_arguments is not None and _n_parameters(plain) == n_arguments:
            return plain
        return getattr(owner, name, None)

    threads = part("threads", None)
    if inspect.isroutine(threads):
        threads = threads()
    threads = [part(it, 1) if isinstance(it, str) else _bound(owner, it) for it in threads]
    invariant = part("invariant", 1) or part("check", 1)
    return Scenario(part("setup", 0), threads, invariant, part("spec", 0))


def _bound(owner, function):
    """A function in a list in the body of a class is not bound yet."""
    is_method = inspect.isfunction(function) and _n_parameters(function) == 2 and not inspect.ismodule(owner)
    return function.__get__(owner) if is_method else function


def _n_parameters(function):
    empty = inspect.Parameter.empty
    return sum(it.default is empty for it in inspect.signature(function).parameters.values())


def of_function(function: Any) -> Scenario:
    """A function that starts threads itself: what it reaches is as before at the beginning of each run."""
    from raceproof.testing._reach import Reach

    if _n_parameters(function):
        raise NoScenario(f"`{function.__name__}` takes arguments, which nobody gives: a scenario takes none")
    reach = Reach(function)
    if inspect.iscoroutinefunction(function):

        async def task(_):
            await function()

        return Scenario(reach.restore, [task])
    return Scenario(reach.restore, [lambda _: function()])


if __name__ == "__main__":
    _child()
