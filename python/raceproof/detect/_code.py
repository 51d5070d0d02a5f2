"""Code objects for the detector: which of their instructions may touch shared state, and which names they store."""

import dis
import linecache
import sysconfig
import types
from pathlib import Path

from raceproof._native import detect
from raceproof.instrument import _code

_LIBRARY = tuple({str(Path(sysconfig.get_path(name)).resolve()) + "/" for name in ("stdlib", "platstdlib")})
_SITE = tuple({str(Path(sysconfig.get_path(name)).resolve()) + "/" for name in ("purelib", "platlib")})
_OURS = str(Path(__file__).resolve().parent.parent) + "/"
_TOOLS = ("pytest/", "_pytest/", "pluggy/", "hypothesis/", "_hypothesis", "coverage/", "pytest_", "xdist/", "execnet/")
_STORES = ("STORE_ATTR", "DELETE_ATTR")
_GLOBAL_STORES = ("STORE_GLOBAL", "DELETE_GLOBAL")
_CONSTRUCTORS = ("__init__", "__new__", "__post_init__", "__set_name__")
# An object that dies has no other thread, but nothing that is seen says so.
_UNSEEN_NAMES = ("__del__",)


def is_seen(code) -> bool:
    """Is what this code touches seen?"""
    file = code.co_filename
    if file.startswith(("<frozen", _OURS)) or code.co_name in _UNSEEN_NAMES:
        return False
    for site in _SITE:
        if file.startswith(site):
            return not file.removeprefix(site).startswith(_TOOLS)
    return not file.startswith(_LIBRARY)


class Describer:
    """Describes each code object once. Which names are stored at all is learnt a file at a time: the code of a module
    holds that of its functions."""

    def __init__(self):
        self._known = set()
        self._globals = {}

    def describe(self, code):
        """What the native side asks for when it meets a code object."""
        if not is_seen(code):
            return None
        self._learn(code)
        stored = self._globals.get(code.co_filename, ())
        n_locals, _file, instructions = _code.description(code)
        found = []
        for offset, kind, depth, argument, attribute, *_ in instructions:
            if kind == "load global" and attribute not in stored:
                continue
            found.append((offset, kind, depth, argument, attribute))
        return n_locals, code.co_name in _CONSTRUCTORS, found

    def _learn(self, code):
        names, globals_ = set(), self._globals.setdefault(code.co_filename, set())
        work = [code]
        while work:
            code = work.pop()
            if code in self._known:
                continue
            self._known.add(code)
            work += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
            for instruction in dis.get_instructions(code):
                if instruction.opname in _STORES:
                    names.add(instruction.argval)
                elif instruction.opname in _GLOBAL_STORES:
                    globals_.add(instruction.argval)
                    names.add(instruction.argval)
        if names:
            detect.stored(list(names))


def tell(code, offset):
    """File, line, function and text of an instruction, and whether it is seen."""
    line, text = code.co_firstlineno, ""
    for instruction in dis.get_instructions(code):
        if instruction.offset > offset:
            break
        line, text = instruction.positions.lineno or line, _code._text(code, instruction)
    linecache.checkcache(code.co_filename)
    return code.co_filename, line, code.co_qualname, text, is_seen(code)


def branches(code, first, last):
    """Is there a conditional jump between two offsets?"""
    return any(
        first < instruction.offset < last and instruction.opname.startswith("POP_JUMP_IF")
        for instruction in dis.get_instructions(code)
    )
