"""Where the operands of instructions come from, as far as the code alone says it: for interpreters whose frames are not
read.

The value stack is walked through with sources in the place of values. A source is a local, a constant, what an
instruction came to, or a plain value, which no thread can share: a number, or an object that was just made. What is not
certain is unknown, and an instruction that is not known here makes everything below it unknown. Names of instructions,
jumps and effects on the stack are those that `dis` of the running version gives.
"""

import dis

# What a source is. The numbers are those of the native module.
UNKNOWN, PLAIN = (0, None), (1, None)
_LOCAL, _CONSTANT, _RESULT = 2, 3, 4
# Arguments of calls beyond these are unknown.
_OPERANDS_MAX = 12
_ROUNDS_MAX = 200_000

_LOADS = set("LOAD_FAST LOAD_FAST_CHECK LOAD_FAST_BORROW".split())
_LOADS_TWO = set("LOAD_FAST_LOAD_FAST LOAD_FAST_BORROW_LOAD_FAST_BORROW".split())
_CONSTANTS = set("LOAD_CONST LOAD_SMALL_INT LOAD_CONST_IMMORTAL LOAD_CONST_MORTAL".split())
# They only take values off the stack, or leave it as it is.
_POPS = set(
    "POP_TOP POP_ITER END_FOR STORE_ATTR STORE_GLOBAL STORE_NAME STORE_DEREF STORE_SUBSCR DELETE_ATTR DELETE_GLOBAL "
    "DELETE_NAME DELETE_DEREF DELETE_SUBSCR STORE_SLICE POP_JUMP_IF_TRUE POP_JUMP_IF_FALSE POP_JUMP_IF_NONE "
    "POP_JUMP_IF_NOT_NONE LIST_APPEND SET_ADD MAP_ADD LIST_EXTEND SET_UPDATE DICT_UPDATE DICT_MERGE NOP RESUME CACHE "
    "KW_NAMES JUMP_FORWARD JUMP_BACKWARD JUMP_BACKWARD_NO_INTERRUPT NOT_TAKEN MAKE_CELL COPY_FREE_VARS EXTENDED_ARG "
    "SETUP_ANNOTATIONS POP_EXCEPT".split()
)
# They take values off and put one on that no thread shares.
_MAKES = set(
    "BUILD_TUPLE BUILD_LIST BUILD_SET BUILD_MAP BUILD_CONST_KEY_MAP BUILD_STRING BUILD_SLICE IS_OP CONTAINS_OP "
    "UNARY_NOT TO_BOOL CONVERT_VALUE FORMAT_SIMPLE FORMAT_VALUE FORMAT_WITH_SPEC MAKE_FUNCTION SET_FUNCTION_ATTRIBUTE "
    "GET_LEN LOAD_CLOSURE PUSH_NULL BUILD_INTERPOLATION BUILD_TEMPLATE CHECK_EXC_MATCH".split()
)
# They put one value on that is remembered.
_RESULTS = set(
    "LOAD_DEREF BINARY_SUBSCR BINARY_SLICE BINARY_OP COMPARE_OP GET_ITER CALL CALL_KW CALL_FUNCTION_EX".split()
)
# They put values on of which nothing is known, and leave those below as they are.
_OPAQUE = set(
    "LOAD_NAME LOAD_BUILD_CLASS LOAD_COMMON_CONSTANT LOAD_LOCALS IMPORT_NAME UNARY_NEGATIVE UNARY_INVERT "
    "LOAD_ASSERTION_ERROR CALL_INTRINSIC_1 CALL_INTRINSIC_2 GET_AWAITABLE GET_AITER GET_ANEXT GET_YIELD_FROM_ITER "
    "LOAD_FROM_DICT_OR_GLOBALS LOAD_FROM_DICT_OR_DEREF YIELD_VALUE".split()
)
# Nothing comes after them.
ENDS = set("RETURN_VALUE RETURN_CONST RAISE_VARARGS RERAISE INTERPRETER_EXIT".split())
JUMPS = {*dis.hasjrel, *dis.hasjabs}
# The last value that they take off comes back, with others above it.
_ABOVE = set("UNPACK_SEQUENCE UNPACK_EX BEFORE_WITH BEFORE_ASYNC_WITH LOAD_SPECIAL IMPORT_FROM PUSH_EXC_INFO".split())


def sources(code, instructions):
    """For each offset that is reached, the sources of the operands from the top of the stack; and the offsets whose
    results others ask for."""
    walk = _Walk(code, instructions)
    if not walk.run():
        # Too intricate: the operands of all instructions are unknown, but none goes unseen.
        return {it.offset: [] for it in instructions}, set()
    found = {}
    asked = set()
    for number, stack in walk.stacks.items():
        top = stack[: -_OPERANDS_MAX - 1 : -1]
        found[instructions[number].offset] = list(top)
        asked.update(value for kind, value in top if kind == _RESULT)
    return found, asked


class _Walk:
    def __init__(self, code, instructions):
        self.instructions = instructions
        self.index = {it.offset: number for number, it in enumerate(instructions)}
        self.cells = {*code.co_cellvars, *code.co_freevars}
        entries = dis.Bytecode(code).exception_entries
        self.handlers = {
            number: entry
            for entry in entries
            for number, it in enumerate(instructions)
            if entry.start <= it.offset < entry.end
        }
        self.stacks = {}
        self.work = []

    def run(self):
        """Walks until nothing is new; False if that takes too long."""
        self._reach(0, ())
        rounds = 0
        while self.work and rounds < _ROUNDS_MAX:
            rounds += 1
            number = self.work.pop()
            instruction, stack = self.instructions[number], self.stacks[number]
            if entry := self.handlers.get(number):
                above = [UNKNOWN] * (1 + bool(entry.lasti))
                self._reach(self.index[entry.target], (*stack[: entry.depth], *above))
            if instruction.opcode in JUMPS:
                effect = dis.stack_effect(instruction.opcode, instruction.arg, jump=True)
                self._reach(self.index[_target(instruction)], self._after(instruction, stack, effect))
                if instruction.opname.startswith("JUMP"):
                    continue
            if instruction.opname in ENDS or number + 1 == len(self.instructions):
                continue
            argument = instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None
            effect = dis.stack_effect(instruction.opcode, argument, jump=False)
            self._reach(number + 1, self._after(instruction, stack, effect))
        return not self.work

    def _reach(self, number, stack):
        known = self.stacks.get(number)
        if known is not None:
            pairs = zip(known, stack, strict=False)
            stack = tuple(one if one is two or one == two else UNKNOWN for one, two in pairs)
        if stack != known:
            self.stacks[number] = stack
            self.work.append(number)

    def _local(self, name):
        # What is loaded of a cell in this way is the cell itself, for a function that is being made.
        return PLAIN if name in self.cells else (_LOCAL, name)

    def _after(self, instruction, stack, effect):
        """The stack after an instruction whose effect is that."""
        name, size = instruction.opname, len(stack) + effect
        if name in _LOADS:
            return (*stack, self._local(instruction.argval))
        if name in _LOADS_TWO:
            return (*stack, *(self._local(it) for it in instruction.argval))
        if name in _CONSTANTS:
            return (*stack, (_CONSTANT, instruction.argval))
        if name == "COPY":
            return (*stack, stack[-instruction.arg])
        if name == "SWAP":
            changed = list(stack)
            changed[-1], changed[-instruction.arg] = changed[-instruction.arg], changed[-1]
            return tuple(changed)
        if name.startswith(("STORE_FAST", "DELETE_FAST", "LOAD_FAST_AND_CLEAR")):
            return self._store(name, instruction.argval, stack)
        if name in _POPS and effect <= 0:
            return stack[:size]
        return self._made(instruction, stack, size)

    def _made(self, instruction, stack, size):
        name, result = instruction.opname, (_RESULT, instruction.offset)
        if name in _MAKES or (name == "COMPARE_OP" and instruction.argrepr.startswith("bool(")):
            return (*stack[: size - 1], PLAIN)
        if name == "WITH_EXCEPT_START":
            # What `__exit__` gives back is asked whether it is true, and nothing else.
            return (*stack, *[PLAIN] * (size - len(stack)))
        if name == "GET_ITER" and size != len(stack):
            return (*stack[:-1], *[UNKNOWN] * (size - len(stack) + 1))
        if name in _RESULTS:
            return (*stack[: size - 1], result)
        if name == "LOAD_GLOBAL":
            if size - len(stack) == 1:
                return (*stack, result)
            return (*stack, PLAIN, result) if instruction.argrepr.startswith("NULL") else (*stack, result, PLAIN)
        if name == "LOAD_ATTR" and size == len(stack):
            return (*stack[:-1], result)
        if name == "FOR_ITER":
            # On the way out the iterator may go at once or later.
            return (*stack, result) if size == len(stack) + 1 else (*stack, UNKNOWN, UNKNOWN)[:size]
        if name in _OPAQUE:
            kept = stack[: max(min(size, len(stack)) - 1, 0)]
            return (*kept, *[UNKNOWN] * (size - len(kept)))
        if name == "LOAD_ATTR" or name in _ABOVE:
            return (*stack[:-1], *[UNKNOWN] * (size - len(stack) + 1))
        return (UNKNOWN,) * max(size, 0)

    def _store(self, name, variables, stack):
        variables = variables if isinstance(variables, tuple) else (variables,)
        if name == "DELETE_FAST":
            return _without(stack, variables)
        if name == "LOAD_FAST_AND_CLEAR":
            return (*_without(stack, variables), UNKNOWN)
        if name == "STORE_FAST_LOAD_FAST":
            return (*_without(stack[:-1], variables[:1]), self._local(variables[1]))
        return _without(stack[: -len(variables)], variables)


def _target(instruction):
    """Where a jump goes."""
    target = getattr(instruction, "jump_target", None)
    return instruction.argval if target is None else target


def _without(stack, variables):
    """The stack when locals change: what came of them before is not there any more."""
    return tuple(UNKNOWN if kind == _LOCAL and value in variables else (kind, value) for kind, value in stack)
