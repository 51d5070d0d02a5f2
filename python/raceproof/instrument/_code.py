"""Describes code objects: which instructions may touch shared state, and how deep the value stack is before each.

The depth is found by walking the control flow with `dis.stack_effect`; it does not depend on the run. The words for
kinds of instructions are those of the native module.
"""

import dis
import linecache
import re

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
_ENDS = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE"}
_WRITES = {"store attribute", "store global", "store cell", "store item", "delete item", "store slice", "in place"}
_TEXT_MAX = 60


def description(code):
    """`(number of locals, file, instructions)`, each of these `(offset, kind, depth, operand, attribute, name in a
    schedule, line, text)`."""
    cells = [name for name in code.co_cellvars if name not in code.co_varnames]
    n_locals = len(code.co_varnames) + len(cells) + len(code.co_freevars)
    depths = _depths(code)
    found = []
    names = {}
    for instruction in dis.get_instructions(code):
        kind = _kind(instruction)
        depth = depths.get(instruction.offset)
        if kind is None or depth is None:
            continue
        line = instruction.positions.lineno or code.co_firstlineno
        text = _text(code, instruction)
        attribute = instruction.argval if isinstance(instruction.argval, str) else ""
        short = (text or attribute or instruction.opname) + ("=" if kind in _WRITES else "")
        name = f"{code.co_qualname}:{short}"
        names[name] = names.get(name, 0) + 1
        if names[name] > 1:
            name = f"{name}~{names[name]}"
        found.append((instruction.offset, kind, depth, instruction.arg or 0, attribute, name, line, text or attribute))
    return n_locals, code.co_filename, found


def _kind(instruction):
    if instruction.opname == "BINARY_OP":
        return "in place" if instruction.argrepr.endswith("=") else "binary"
    if instruction.opname == "LOAD_ATTR" and instruction.argval == "__dict__":
        return "load dict"
    return _PLAIN.get(instruction.opname)


def _text(code, instruction):
    at = instruction.positions
    if at.lineno is None or at.col_offset is None:
        return ""
    line = linecache.getline(code.co_filename, at.lineno)
    end = at.end_col_offset if at.end_lineno == at.lineno else None
    text = line.encode()[at.col_offset : end].decode(errors="replace")
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 3] + "..."


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
            if instruction.opname in _ENDS:
                break
            argument = instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None
            if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
                jumped = depth + dis.stack_effect(instruction.opcode, argument, jump=True)
                work.append((index[instruction.argval], jumped))
                if instruction.opname.startswith("JUMP"):
                    break
            depth += dis.stack_effect(instruction.opcode, argument, jump=False)
            number += 1
    return {instructions[number].offset: depth for number, depth in depths.items()}
