"""Which lines calls come to, and which functions stand at a line."""

import ast
import contextlib
import inspect
import linecache
import sys

from raceproof.instrument import _tools
from raceproof.prove import _quiet

_NUMBERS = (5, 1, 0)


class Watch:
    """Notes, while it is active, to which of some lines runs come. Each of `wanted` is a list of spans of which one
    is enough: file, first line, last line."""

    def __init__(self, wanted):
        self._wanted = wanted
        self._spans = {span for spans in wanted for span in spans}
        self._met = set()
        self._orders = []
        self._tool = None

    def __enter__(self):
        monitoring = sys.monitoring
        self._tool = _tools.take("raceproof-lines", _NUMBERS)
        monitoring.register_callback(self._tool, monitoring.events.LINE, self._at)
        monitoring.set_events(self._tool, monitoring.events.LINE)
        return self

    def __exit__(self, *error):
        sys.monitoring.set_events(self._tool, 0)
        sys.monitoring.register_callback(self._tool, sys.monitoring.events.LINE, None)
        sys.monitoring.free_tool_id(self._tool)

    def _at(self, code, line):
        is_near = False
        for span in self._spans:
            file, first, last = span
            if code.co_filename == file:
                is_near = True
                if first <= line <= last:
                    self._met.add((_quiet.number_of_call(), span))
        return None if is_near else sys.monitoring.DISABLE

    def look_for(self, wanted):
        """From now on these lines are those that are wanted."""
        self._wanted = wanted
        self._spans = {span for spans in wanted for span in spans}
        sys.monitoring.restart_events()

    def clear(self):
        """Forgets what was met."""
        self._met.clear()
        self._orders.clear()

    def end_order(self):
        """What follows is another order of the calls."""
        self._orders.append(frozenset(self._met))
        self._met.clear()

    def missing(self, in_one_order):
        """Of the wanted ones, those of which no span was met; with `in_one_order`, those that their own call did not
        come to in the best of the orders."""
        if in_one_order:
            return min((self._missed(order) for order in self._orders), key=len, default=list(self._wanted))
        met = {span for order in self._orders for _, span in order}
        return [spans for spans in self._wanted if met.isdisjoint(spans)]

    def _missed(self, order):
        numbered = enumerate(self._wanted)
        return [spans for number, spans in numbered if order.isdisjoint((number, span) for span in spans)]

    @contextlib.contextmanager
    def paused(self):
        """Notes nothing, and costs nothing."""
        sys.monitoring.set_events(self._tool, 0)
        try:
            yield
        finally:
            sys.monitoring.set_events(self._tool, sys.monitoring.events.LINE)


def functions_at(file, line):
    """The names of the functions around a line, the innermost first, those made inside of functions left out."""
    found = [(name.count("."), name) for name, first, last, _ in _functions(file) if first <= line <= last]
    return [name for _, name in sorted(found, reverse=True)]


def class_at(file, line):
    """The name of the innermost class whose definition begins at a line."""
    todo = [(node, node.name) for node in _classes(ast.parse("".join(linecache.getlines(file))))]
    while todo:
        node, name = todo.pop()
        if min([node.lineno, *(it.lineno for it in node.decorator_list)]) <= line <= node.body[0].lineno:
            return name
        todo += [(inner, f"{name}.{inner.name}") for inner in _classes(node)]
    return None


def _classes(node):
    return [it for it in node.body if isinstance(it, ast.ClassDef)]


def users_of(file, maker, name):
    """The methods beside `maker` that use an attribute: name, first line, last line."""
    owner = maker.rpartition(".")[0]
    known = sorted(_functions(file), key=lambda it: it[1])
    return [
        (other, first, last)
        for other, first, last, names in known
        if other.rpartition(".")[0] == owner and other != maker and name in names
    ]


def _functions(file):
    """Name, first line, last line and the names that it uses, of each function that is not made inside of another."""
    text = "".join(linecache.getlines(file))
    todo = [compile(text, file, "exec")]
    while todo:
        code = todo.pop()
        todo += [it for it in code.co_consts if hasattr(it, "co_code")]
        is_function = code.co_flags & inspect.CO_NEWLOCALS and "<" not in code.co_qualname
        if is_function:
            last = max((number for _, _, number in code.co_lines() if number), default=0)
            yield code.co_qualname, code.co_firstlineno, last, code.co_names
