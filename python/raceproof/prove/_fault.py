"""A line that raises where it may: the error that a finding speaks of does not wait until it happens by itself."""

import contextlib
import linecache
import sys

from raceproof.instrument import _tools
from raceproof.prove import _quiet

_lines = {}


class Fault(RuntimeError):
    """What the line raises."""


def text_at(file, line):
    """What a line says: it finds the line again after edits elsewhere."""
    return linecache.getline(file, line).strip()


@contextlib.contextmanager
def raising(function, file, text):
    """The first call raises at the line of the function that says `text`. False if there is no such line."""
    found = _find(function.__code__, file, text)
    if not found:
        yield False
        return
    monitoring, tool = sys.monitoring, _tools.kept("raceproof-faults")
    monitoring.register_callback(tool, monitoring.events.LINE, _at)
    for code, line in found:
        _lines[code] = line
        monitoring.set_local_events(tool, code, monitoring.events.LINE)
    try:
        yield True
    finally:
        for code, _ in found:
            monitoring.set_local_events(tool, code, 0)
            del _lines[code]


def _at(code, line):
    if _lines.get(code) == line and _quiet.number_of_call() == 0:
        raise Fault(f"line {line} raises, as it may")


def _find(code, file, text):
    found, todo = [], [code]
    while todo:
        code = todo.pop()
        todo += [it for it in code.co_consts if hasattr(it, "co_code")]
        lines = sorted({line for _, _, line in code.co_lines() if line and text_at(file, line) == text})
        found += [(code, lines[0])] if lines else []
    return found
