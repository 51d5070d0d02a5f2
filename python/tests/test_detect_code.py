"""What the detector knows of code is what exploration knows of it."""

import argparse
import asyncio.base_events
import inspect
import sys
import types
from pathlib import Path

import pytest

if sys.version_info[:2] != (3, 13):
    pytest.skip("frames of CPython 3.13 are read", allow_module_level=True)

from raceproof.detect import _code as quick
from raceproof.instrument import _code as slow


def _all(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all(constant)


@pytest.mark.parametrize("module", [argparse, inspect, asyncio.base_events, quick])
def test_sites_are_the_same(module):
    file = module.__file__
    n = 0
    for code in _all(compile(Path(file).read_text(encoding="utf-8"), file, "exec")):
        expected = [
            (offset, kind, depth, argument, name if kind.endswith(("attribute", "global")) else "")
            for offset, kind, depth, argument, name, *_ in slow.description(code)[2]
            if kind != "load dict"
        ]
        assert quick.sites(code) == expected, code
        n += len(expected)
    assert n > 100
