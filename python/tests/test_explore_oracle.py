"""Random programs, explored and walked through by brute force: no outcome may be missed, and none may be made up.

`RACEPROOF_PROGRAMS` says how many; a few dozen without it.
"""

import linecache
import os
import random
import sys
import threading
from types import SimpleNamespace

import pytest

from raceproof.testing import explore

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="frames of CPython 3.13 are read")

N_PROGRAMS = int(os.environ.get("RACEPROOF_PROGRAMS", "60"))
PER_TEST = 20
BLOCKS = ("with", "try", "if")
SIMPLE = ("read", "write", "add", "get", "set", "setdefault", "append", "length", "pop")


def block(rng, depth, longest):
    """Statements as tuples. Each thread has two registers, which it reads into and writes from."""
    statements = []
    for _ in range(rng.randint(1, longest if depth == 0 else 2)):
        kind = rng.choice(SIMPLE + BLOCKS)
        register = rng.randrange(2)
        if kind not in BLOCKS:
            statements.append((kind, rng.choice("xy"), rng.choice("ab"), register, rng.randint(1, 9)))
        elif depth < 2:
            statements.append((kind, rng.choice("lm"), register, block(rng, depth + 1, longest)))
    return statements


def threads_of(seed):
    rng = random.Random(seed)
    n = rng.choice([2, 2, 3])
    return [block(rng, 0, 4 if n == 2 else 3) for _ in range(n)]


def source(statements, number):
    """The thread as Python code."""
    lines = [f"def thread_{number}(s):", "    r = [0, 0]"]

    def emit(statements, depth):
        indent = "    " * depth
        if not statements:
            lines.append(indent + "pass")
        for statement in statements:
            if statement[0] in BLOCKS:
                kind, lock, register, inner = statement
                opening = {
                    "with": f"with s.{lock}:",
                    "try": f"if s.{lock}.acquire(False):",
                    "if": f"if r[{register}] > 3:",
                }
                lines.append(indent + opening[kind])
                emit(inner, depth + 1)
                if kind == "try":
                    lines.append(f"{indent}    s.{lock}.release()")
                continue
            kind, name, key, r, value = statement
            code = {
                "read": f"r[{r}] = s.{name}",
                "write": f"s.{name} = r[{r}] + {value}",
                "add": f"s.{name} += {value}",
                "get": f"r[{r}] = s.table.get('{key}', 0)",
                "set": f"s.table['{key}'] = {value} + r[{r}]",
                "setdefault": f"r[{r}] = s.table.setdefault('{key}', {value})",
                "append": f"s.items.append({value} + r[{r}])",
                "length": f"r[{r}] = len(s.items)",
                "pop": f"r[{r}] = s.table.pop('{key}', 0)",
            }
            lines.append(indent + code[kind])

    emit(statements, 1)
    lines.append(f"    s.registers[{number}] = tuple(r)")
    return "\n".join(lines) + "\n"


def flat(statements, code):
    """The thread as a list of atomic steps with jumps."""
    for statement in statements:
        kind = statement[0]
        if kind == "with":
            code.append(("acquire", statement[1]))
            flat(statement[3], code)
            code.append(("release", statement[1]))
        elif kind in ("try", "if"):
            at = len(code)
            code.append(None)
            flat(statement[3], code)
            if kind == "try":
                code.append(("release", statement[1]))
            code[at] = ("try", statement[1], len(code)) if kind == "try" else ("branch", statement[2], len(code))
        elif kind == "add":
            code += [("load", statement[1]), ("store", statement[1], statement[4])]
        else:
            code.append(statement)
    return code


def step(op, thread, machine):
    """Does one step on a mutable machine. The next place in the code relative to this one or absolute; None to wait."""
    registers, names, table, items, locks = machine
    kind = op[0]
    if kind in ("acquire", "try"):
        at = "lm".index(op[1])
        if locks[at] is not None:
            return op[2] if kind == "try" else None
        locks[at] = thread
    elif kind == "release":
        locks["lm".index(op[1])] = None
    elif kind == "branch":
        return -1 if registers[op[1]] > 3 else op[2]
    elif kind == "load":
        registers[2] = names["xy".index(op[1])]
    elif kind == "store":
        names["xy".index(op[1])] = registers[2] + op[2]
    else:
        _, name, key, r, value = op
        at = "xy".index(name)
        if kind == "read":
            registers[r] = names[at]
        elif kind == "write":
            names[at] = registers[r] + value
        elif kind == "get":
            registers[r] = table.get(key, 0)
        elif kind == "set":
            table[key] = value + registers[r]
        elif kind == "setdefault":
            registers[r] = table.setdefault(key, value)
        elif kind == "append":
            items.append(value + registers[r])
        elif kind == "length":
            registers[r] = len(items)
        else:
            registers[r] = table.pop(key, 0)
    return -1


def all_outcomes(threads):
    """The outcomes of all interleavings, and whether one of them is a deadlock."""
    codes = [flat(thread, []) for thread in threads]
    n = len(codes)
    first = ((0,) * n, ((0, 0, 0),) * n, (0, 0), (), (), (None, None))
    seen, work, outcomes, has_deadlock = {first}, [first], set(), False
    while work:
        places, registers, names, table, items, locks = work.pop()
        has_moved = False
        for thread in (it for it in range(n) if places[it] < len(codes[it])):
            machine = (list(registers[thread]), list(names), dict(table), list(items), list(locks))
            target = step(codes[thread][places[thread]], thread, machine)
            if target is None:
                continue
            has_moved = True
            target = places[thread] + 1 if target == -1 else target
            following = (
                (*places[:thread], target, *places[thread + 1 :]),
                (*registers[:thread], tuple(machine[0]), *registers[thread + 1 :]),
                tuple(machine[1]),
                tuple(machine[2].items()),
                tuple(machine[3]),
                tuple(machine[4]),
            )
            if following not in seen:
                seen.add(following)
                work.append(following)
        if all(place == len(code) for place, code in zip(places, codes, strict=True)):
            outcomes.add((tuple(it[:2] for it in registers), names, table, items))
        elif not has_moved:
            has_deadlock = True
    return outcomes, has_deadlock


def explored(threads, seed):
    text = "".join(source(thread, number) for number, thread in enumerate(threads))
    file = f"<program {seed}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    names = {}
    exec(compile(text, file, "exec"), names)
    outcomes = set()

    def setup():
        return SimpleNamespace(
            x=0, y=0, table={}, items=[], l=threading.Lock(), m=threading.Lock(), registers=[None] * len(threads)
        )

    def note(s):
        outcomes.add((tuple(s.registers), (s.x, s.y), tuple(s.table.items()), tuple(s.items)))

    functions = [names[f"thread_{number}"] for number in range(len(threads))]
    return explore(setup, functions, note, strategy="dpor"), outcomes, text


@pytest.mark.parametrize("first", range(0, N_PROGRAMS, PER_TEST))
def test_no_outcome_is_missed(first):
    for seed in range(first, min(first + PER_TEST, N_PROGRAMS)):
        threads = threads_of(seed)
        expected, has_deadlock = all_outcomes(threads)
        outcome, seen, text = explored(threads, seed)
        assert seen <= expected, text
        if has_deadlock:
            assert (outcome.verdict, outcome.kind) == ("failed", "deadlock"), text
        else:
            assert seen == expected, text
            is_vacuous = "touch the same thing" in (outcome.reason or "")
            assert outcome.verdict == "proved" or is_vacuous, (text, outcome)
