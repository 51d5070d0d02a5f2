"""What is read out of code objects quickly is what `dis` says slowly: which instructions may touch shared state, how deep
the value stack is before each, and which attribute or global they name."""

import argparse
import asyncio.base_events
import dis
import inspect
import sys
import types
from pathlib import Path

import pytest

if sys.version_info[:2] != (3, 13):
    pytest.skip("frames of CPython 3.13 are read", allow_module_level=True)

from raceproof.instrument import _code

ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")


def _all(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all(constant)


def _kind(instruction):
    if instruction.opname == "BINARY_OP":
        return "in place" if instruction.argrepr.endswith("=") else "binary"
    if instruction.opname == "LOAD_ATTR" and instruction.argval == "__dict__":
        return "load dict"
    return _code._PLAIN.get(instruction.opname)


def _depths(code):
    instructions = list(dis.get_instructions(code))
    index = {instruction.offset: number for number, instruction in enumerate(instructions)}
    depths = {}
    work = [(0, 0)]
    for entry in dis.Bytecode(code).exception_entries:
        work.append((index[entry.target], entry.depth + 1 + bool(entry.lasti)))
    while work:
        number, depth = work.pop()
        while number < len(instructions) and number not in depths:
            instruction = instructions[number]
            depths[number] = depth
            if instruction.opname in ENDS:
                break
            argument = instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None
            if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
                work.append(
                    (index[instruction.argval], depth + dis.stack_effect(instruction.opcode, argument, jump=True))
                )
                if instruction.opname.startswith("JUMP"):
                    break
            depth += dis.stack_effect(instruction.opcode, argument, jump=False)
            number += 1
    return {instructions[number].offset: depth for number, depth in depths.items()}


@pytest.mark.parametrize("module", [argparse, inspect, asyncio.base_events, _code])
def test_sites_are_the_same(module):
    file = module.__file__
    n = 0
    for code in _all(compile(Path(file).read_text(encoding="utf-8"), file, "exec")):
        depths = _depths(code)
        expected = [
            (
                it.offset,
                _kind(it),
                depths[it.offset],
                it.arg or 0,
                it.argval if it.opname.endswith(("_ATTR", "_GLOBAL")) else "",
            )
            for it in dis.get_instructions(code)
            if _kind(it) is not None and it.offset in depths
        ]
        assert _code.sites(code) == expected, code
        n += len(expected)
    assert n > 100
