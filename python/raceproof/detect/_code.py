"""Code objects for the detector: which of their instructions may touch shared state, and which names they store."""

import dis
import linecache
import types

from raceproof._native import detect
from raceproof.instrument import _code, _places

_CONSTRUCTORS = ("__init__", "__new__", "__post_init__", "__set_name__")
# An object that dies has no other thread, but nothing that is seen says so.
_UNSEEN_NAMES = ("__del__",)


def is_seen(code) -> bool:
    """Is what this code touches seen?"""
    return code.co_name not in _UNSEEN_NAMES and _places.place(code.co_filename)[0] in ("own", "package")


class Describer:
    """Describes each code object once. Which names are stored at all is learnt a file at a time: the code of a module
    holds that of its functions."""

    def __init__(self):
        # By identity: code is compared by what it does. It is kept, so that no identity is used twice.
        self._known = {}
        self._globals = {}

    def describe(self, code):
        """What the native side asks for when it meets a code object."""
        if not is_seen(code):
            return None
        self._learn(code)
        stored = self._globals.get(code.co_filename, ())
        found = [site for site in _code.sites(code) if site[1] != "load global" or site[4] in stored]
        return _code.n_locals(code), code.co_name in _CONSTRUCTORS, found

    def _learn(self, code):
        names, globals_ = set(), self._globals.setdefault(code.co_filename, set())
        work = [code]
        while work:
            code = work.pop()
            if id(code) in self._known:
                continue
            self._known[id(code)] = code
            work += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
            for _, opcode, argument in _code.unpacked(code):
                if opcode in _code.ATTRIBUTE_STORES:
                    names.add(code.co_names[argument])
                elif opcode in _code.GLOBAL_STORES:
                    globals_.add(code.co_names[argument])
                    names.add(code.co_names[argument])
        if names:
            detect.stored(list(names))


def tell(code, offset):
    """File, line, function and text of an instruction, and whether it is seen."""
    line, text = code.co_firstlineno, ""
    for instruction in dis.get_instructions(code):
        if instruction.offset > offset:
            break
        line, text = instruction.positions.lineno or line, _code.text_of(code, instruction)
    linecache.checkcache(code.co_filename)
    return code.co_filename, line, code.co_qualname, text, is_seen(code)


def branches(code, first, last):
    """Is there a conditional jump between two offsets?"""
    return any(
        first < instruction.offset < last and instruction.opname.startswith("POP_JUMP_IF")
        for instruction in dis.get_instructions(code)
    )
