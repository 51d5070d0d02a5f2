"""Describes code objects: which instructions may touch shared state, and how deep the value stack is before each.

The depth is found by walking the control flow with `dis.stack_effect`; it does not depend on the run. The words for
kinds of instructions are those of the native module. Where frames are not read, the sources of operands stand in the
place of the depth.
"""

import dis
import linecache
import re

from raceproof.instrument import _operands

_PLAIN = {
    "LOAD_ATTR": "load attribute",
    "STORE_ATTR": "store attribute",
    "DELETE_ATTR": "store attribute",
    "LOAD_GLOBAL": "load global",
    "STORE_GLOBAL": "store global",
    "DELETE_GLOBAL": "store global",
    "LOAD_DEREF": "load cell",
    "STORE_DEREF": "store cell",
    "DELETE_DEREF": "store cell",
    "BINARY_SUBSCR": "load item",
    "STORE_SUBSCR": "store item",
    "DELETE_SUBSCR": "delete item",
    "CONTAINS_OP": "contains",
    "GET_ITER": "read",
    "TO_BOOL": "read",
    "UNPACK_SEQUENCE": "read",
    "UNPACK_EX": "read",
    "CONVERT_VALUE": "read",
    "FORMAT_SIMPLE": "read",
    "BINARY_SLICE": "load slice",
    "STORE_SLICE": "store slice",
    "LIST_EXTEND": "merge",
    "SET_UPDATE": "merge",
    "DICT_UPDATE": "merge",
    "DICT_MERGE": "merge",
    "COMPARE_OP": "binary",
    "FOR_ITER": "iterate",
    "CALL": "call",
    "CALL_KW": "call with names",
    "CALL_FUNCTION_EX": "call spread",
    "BEFORE_WITH": "enter",
}
if "TO_BOOL" not in dis.opmap:
    _PLAIN |= dict.fromkeys(("POP_JUMP_IF_TRUE", "POP_JUMP_IF_FALSE", "UNARY_NOT", "FORMAT_VALUE"), "read")
_KINDS = {dis.opmap[name]: kind for name, kind in _PLAIN.items() if name in dis.opmap}
_BINARY = dis.opmap.get("BINARY_OP")
_SIGNS = [sign for _, sign in getattr(dis, "_nb_ops", ())]
_IN_PLACE = {number for number, sign in enumerate(_SIGNS) if sign.endswith("=")}
_ITEM = {number for number, sign in enumerate(_SIGNS) if sign == "[]"}
_LOAD_ATTR, _LOAD_GLOBAL = dis.opmap["LOAD_ATTR"], dis.opmap["LOAD_GLOBAL"]
# Of these the lowest bit of the operand says something else than the name.
_SHIFTED = {_LOAD_ATTR, _LOAD_GLOBAL}
ATTRIBUTE_STORES = {dis.opmap[name] for name in ("STORE_ATTR", "DELETE_ATTR")}
GLOBAL_STORES = {dis.opmap[name] for name in ("STORE_GLOBAL", "DELETE_GLOBAL")}
_NAMED = ATTRIBUTE_STORES | GLOBAL_STORES | _SHIFTED
_ENDS = {dis.opmap[name] for name in _operands.ENDS if name in dis.opmap}
_ALWAYS = {opcode for opcode in _operands.JUMPS if dis.opname[opcode].startswith("JUMP")}
_WRITES = {"store attribute", "store global", "store cell", "store item", "delete item", "store slice", "in place"}
_TEXT_MAX = 60
# Stands behind the name of a variable of a closure, where it is not told apart which closure it is; as in the native
# module.
OF_CLOSURE = " of a closure"


def n_locals(code) -> int:
    """How many locals, cells and free variables lie below the value stack."""
    cells = [name for name in code.co_cellvars if name not in code.co_varnames]
    return len(code.co_varnames) + len(cells) + len(code.co_freevars)


def unpacked(code):
    """`(offset, opcode, operand)` of each instruction; what `dis.get_instructions` says takes ten times as long."""
    return [(offset, opcode, argument) for offset, _, opcode, argument in dis._unpack_opargs(code.co_code)]


def sites(code):
    """The instructions that may touch shared state: offset, kind, depth of the stack, operand, name of the attribute or
    global."""
    instructions = unpacked(code)
    depths = _depths(code, instructions)
    found = []
    for number, (offset, opcode, argument) in enumerate(instructions):
        kind = _kind(opcode, argument)
        if kind is None or number not in depths:
            continue
        name = code.co_names[argument >> 1 if opcode in _SHIFTED else argument] if opcode in _NAMED else ""
        if name == "__dict__" and opcode == _LOAD_ATTR:
            kind = "load dict"
        found.append((offset, kind, depths[number], argument or 0, name))
    return found


def _kind(opcode, argument):
    if opcode != _BINARY:
        return _KINDS.get(opcode)
    return "load item" if argument in _ITEM else "in place" if argument in _IN_PLACE else "binary"


def _depths(code, instructions):
    index = {offset: number for number, (offset, _, _) in enumerate(instructions)}
    depths = {}
    work = [(0, 0)]
    work += [(index[entry.target], entry.depth + 1 + bool(entry.lasti)) for entry in dis._parse_exception_table(code)]
    while work:
        number, depth = work.pop()
        while number < len(instructions) and number not in depths:
            offset, opcode, argument = instructions[number]
            depths[number] = depth
            if opcode in _ENDS:
                break
            if opcode in _operands.JUMPS:
                target = index[dis._get_jump_target(opcode, argument, offset)]
                work.append((target, depth + dis.stack_effect(opcode, argument, jump=True)))
                if opcode in _ALWAYS:
                    break
            depth += dis.stack_effect(opcode, argument, jump=False)
            number += 1
    return depths


def description(code):
    """`(number of locals, file, instructions)`, each of these `(offset, kind, depth, operand, attribute, name in a
    schedule, line, text, sources, asked)`; the last two are for those who do not read frames, and say nothing here."""
    instructions = {instruction.offset: instruction for instruction in dis.get_instructions(code)}
    names = {}
    found = [
        (offset, kind, depth, argument, attribute, *_told(code, instructions[offset], kind, names), [], False)
        for offset, kind, depth, argument, attribute in sites(code)
    ]
    return n_locals(code), code.co_filename, found


def description_with_sources(code):
    """As `description`, with the sources of the operands from the top of the stack, and whether an instruction further
    on asks for what this one came to. The depth is 0."""
    instructions = list(dis.get_instructions(code))
    sources, asked = _operands.sources(code, instructions)
    names = {}
    found = []
    for it in instructions:
        kind = _kind(it.opcode, it.arg)
        if kind is None or it.offset not in sources:
            continue
        name = it.argval if it.opcode in _NAMED or kind.endswith("cell") else ""
        if name == "__dict__" and it.opcode == _LOAD_ATTR:
            kind = "load dict"
        told = _told(code, it, kind, names)
        found.append((it.offset, kind, 0, it.arg or 0, name, *told, sources[it.offset], it.offset in asked))
    return n_locals(code), code.co_filename, found


def _told(code, instruction, kind, names):
    """The name in a schedule, the line, and the text of an instruction. `names` counts those that there are."""
    line = instruction.positions.lineno or code.co_firstlineno
    text = text_of(code, instruction) or (instruction.argval if isinstance(instruction.argval, str) else "")
    short = (text or instruction.opname) + ("=" if kind in _WRITES else "")
    name = f"{code.co_qualname}:{short}"
    names[name] = names.get(name, 0) + 1
    if names[name] > 1:
        name = f"{name}~{names[name]}"
    return name, line, text


def text_of(code, instruction):
    """The source of an instruction as far as it stands in one line; empty if there is none."""
    at = instruction.positions
    if at.lineno is None or at.col_offset is None:
        return ""
    line = linecache.getline(code.co_filename, at.lineno)
    end = at.end_col_offset if at.end_lineno == at.lineno else None
    text = line.encode()[at.col_offset : end].decode(errors="replace")
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 3] + "..."
