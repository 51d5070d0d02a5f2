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


_KINDS = {dis.opmap[name]: kind for name, kind in _code._PLAIN.items()}
_BINARY = dis.opmap["BINARY_OP"]
_IN_PLACE = {number for number, (_, sign) in enumerate(dis._nb_ops) if sign.endswith("=")}
_LOAD_ATTR, _LOAD_GLOBAL = dis.opmap["LOAD_ATTR"], dis.opmap["LOAD_GLOBAL"]
# Of these the lowest bit of the operand says something else than the name.
_SHIFTED = {_LOAD_ATTR, _LOAD_GLOBAL}
_NAMED = {dis.opmap[name] for name in (*_STORES, *_GLOBAL_STORES)} | _SHIFTED
_STORE_OPCODES = {dis.opmap[name] for name in _STORES}
_GLOBAL_STORE_OPCODES = {dis.opmap[name] for name in _GLOBAL_STORES}
_END_OPCODES = {dis.opmap[name] for name in _code._ENDS}
_JUMPS = {*dis.hasjrel, *dis.hasjabs}
_ALWAYS = {opcode for opcode in _JUMPS if dis.opname[opcode].startswith("JUMP")}


def _unpacked(code):
    """`(offset, opcode, operand)` of each instruction; what `dis.get_instructions` says takes ten times as long."""
    return [(offset, opcode, argument) for offset, _, opcode, argument in dis._unpack_opargs(code.co_code)]


def sites(code):
    """As `raceproof.instrument._code.description`, without words: offset, kind, depth of the stack, operand, name."""
    unpacked = _unpacked(code)
    depths = _depths(code, unpacked)
    found = []
    for number, (offset, opcode, argument) in enumerate(unpacked):
        kind = ("in place" if argument in _IN_PLACE else "binary") if opcode == _BINARY else _KINDS.get(opcode)
        if kind is None or number not in depths:
            continue
        name = ""
        if opcode in _NAMED:
            name = code.co_names[argument >> 1 if opcode in _SHIFTED else argument]
            if name == "__dict__" and opcode == _LOAD_ATTR:
                continue
        found.append((offset, kind, depths[number], argument or 0, name))
    return found


def _depths(code, unpacked):
    index = {offset: number for number, (offset, _, _) in enumerate(unpacked)}
    depths = {}
    work = [(0, 0)]
    work += [(index[entry.target], entry.depth + 1 + bool(entry.lasti)) for entry in dis._parse_exception_table(code)]
    while work:
        number, depth = work.pop()
        while number < len(unpacked) and number not in depths:
            offset, opcode, argument = unpacked[number]
            depths[number] = depth
            if opcode in _END_OPCODES:
                break
            if opcode in _JUMPS:
                target = index[dis._get_jump_target(opcode, argument, offset)]
                work.append((target, depth + dis.stack_effect(opcode, argument, jump=True)))
                if opcode in _ALWAYS:
                    break
            depth += dis.stack_effect(opcode, argument, jump=False)
            number += 1
    return depths


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
        cells = [name for name in code.co_cellvars if name not in code.co_varnames]
        n_locals = len(code.co_varnames) + len(cells) + len(code.co_freevars)
        found = [site for site in sites(code) if site[1] != "load global" or site[4] in stored]
        return n_locals, code.co_name in _CONSTRUCTORS, found

    def _learn(self, code):
        names, globals_ = set(), self._globals.setdefault(code.co_filename, set())
        work = [code]
        while work:
            code = work.pop()
            if id(code) in self._known:
                continue
            self._known[id(code)] = code
            work += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
            for _, opcode, argument in _unpacked(code):
                if opcode in _STORE_OPCODES:
                    names.add(code.co_names[argument])
                elif opcode in _GLOBAL_STORE_OPCODES:
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
        line, text = instruction.positions.lineno or line, _code._text(code, instruction)
    linecache.checkcache(code.co_filename)
    return code.co_filename, line, code.co_qualname, text, is_seen(code)


def branches(code, first, last):
    """Is there a conditional jump between two offsets?"""
    return any(
        first < instruction.offset < last and instruction.opname.startswith("POP_JUMP_IF")
        for instruction in dis.get_instructions(code)
    )
