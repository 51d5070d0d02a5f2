"""The self-test of the interpreter's layout: operands of a known frame are read and compared before any other is."""

import dis
import sys

from raceproof._native import control


def _target(first, second):
    return first, second


def check(tool: int) -> bool:
    """Reads the operands of a frame whose operands are known. False if they are not found."""
    code = _target.__code__
    first, second = object(), object()
    offset = next(it.offset for it in dis.get_instructions(code) if it.opname == "BUILD_TUPLE")
    control.expect(code, offset, 2, 2, [second, first, first, globals()])
    events = sys.monitoring.events.INSTRUCTION
    sys.monitoring.register_callback(tool, events, control.on_probe)
    sys.monitoring.set_local_events(tool, code, events)
    try:
        _target(first, second)
    finally:
        sys.monitoring.set_local_events(tool, code, 0)
        sys.monitoring.register_callback(tool, events, None)
    return control.can_observe()
