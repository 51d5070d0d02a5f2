"""The parts of `raceproof.prove`: values, comparable outcomes, globals that are put back, scenarios as data."""

import dataclasses
import enum
import inspect
import sys
import textwrap
import types
import uuid
from typing import Protocol

import pytest

if sys.version_info[:2] != (3, 13):
    pytest.skip("exploration needs CPython 3.13", allow_module_level=True)

from raceproof.prove import Call, CannotBuild, Case, _case, _search, _stubs, explore
from raceproof.prove._globals import Globals
from raceproof.prove._outcomes import Form
from raceproof.prove._values import Builder


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Alert:
    source: str
    level: Level
    tags: list[str]
    weight: float = 1.0


class Store:
    def __init__(self, alert: Alert, limit, callback, name: str | None, *, id: uuid.UUID):
        self.made_of = (alert, limit, callback, name, id)


def test_values_are_made_from_annotations_names_and_defaults():
    alert, limit, callback, name, number = Builder().instance(Store).made_of
    assert alert == Alert("a", Level.LOW, ["a"])
    assert (limit, name, number) == (1, "a", uuid.UUID(int=1))
    assert callback("anything") is None
    assert Builder(1).instance(Store).made_of[0] == Alert("b", Level.HIGH, ["b"])
    assert Builder(0, 1_000_000).value(int) == 1_000_001


def test_what_cannot_be_made_says_why():
    class Strict:
        def __init__(self, name: str):
            raise ValueError("never")

    with pytest.raises(CannotBuild, match="Strict` cannot be made: ValueError: never"):
        Builder().instance(Strict)


def test_forms_compare_by_contents_and_by_who_is_who():
    def form(*values):
        made = Form()
        return tuple(map(made.of, values))

    one, other = Alert("a", Level.LOW, []), Alert("a", Level.LOW, [])
    assert form(one, one) == form(other, other)
    assert form(one, one) != form(one, other)
    assert form({"a": 1, "b": 2}) == form({"b": 2, "a": 1})
    assert form([1, 2]) != form([2, 1])
    assert form(1) != form(True)
    ring = []
    ring.append(ring)
    assert form(ring) == form(ring)


def test_globals_are_put_back_in_place():
    module = types.ModuleType("some_module")
    code = """
        class Kind:
            known = []
            n = 0

        names = {"a": [1]}
        alias = names["a"]
        one = Kind()
        one.size = 1
        count = 0
    """
    exec(textwrap.dedent(code), module.__dict__)
    module.Kind.__module__ = "some_module"
    kept = Globals([module])
    module.names["a"].append(2)
    module.names["b"] = []
    module.Kind.known.append(1)
    module.Kind.n = 7
    module.Kind.added = True
    module.one.size = 5
    module.count = 3
    module.made = object()
    names, alias, one = module.names, module.alias, module.one
    kept.restore()
    assert module.names is names and module.alias is alias and module.one is one
    assert names == {"a": [1]} and names["a"] is alias
    assert (module.Kind.known, module.Kind.n, hasattr(module.Kind, "added")) == ([], 0, False)
    assert (one.size, module.count, hasattr(module, "made")) == (1, 0, False)


COUNTER = """
    import random
    import threading
    import uuid

    _lock = threading.Lock()
    _total = 0
    _seen = {}


    def right(name: str):
        global _total
        with _lock:
            _total += 1
            _seen[name] = random.random()
            return _total, uuid.uuid4()


    def wrong(name: str):
        global _total
        _total += 1
"""


def case(file, function):
    return Case(calls=(Call(file, function),) * 2, place="_total", place_file=file)


def test_a_right_program_is_proved_though_it_draws_random_numbers(tmp_path):
    (tmp_path / "counter_a.py").write_text(textwrap.dedent(COUNTER))
    outcome = explore(case("counter_a.py", "right"), tmp_path)
    assert outcome.verdict == "proved", outcome.explanation or outcome.reason


def test_a_wrong_program_fails_and_the_case_survives_as_data(tmp_path):
    (tmp_path / "counter_b.py").write_text(textwrap.dedent(COUNTER))
    wrong = Case.of(case("counter_b.py", "wrong").data())
    outcome = explore(wrong, tmp_path)
    assert outcome.verdict == "failed" and "`_total` is 1 at the end" in outcome.explanation
    assert wrong.below(tmp_path).relative(tmp_path) == wrong


def test_what_stands_for_an_interface_waits_where_the_interface_does():
    class Sink(Protocol):
        async def write(self, line: str) -> None: ...

        def close(self) -> None: ...

    sink = Builder().value(Sink)
    assert inspect.iscoroutinefunction(type(sink).write) and sink.close() is None


def test_stubs_of_one_name_are_one_key():
    first, second = _stubs.named("request.remote_address"), _stubs.named("request.remote_address")
    assert first == second and {first: 1}[second] == 1 and first != _stubs.named("request.url")


def test_a_line_is_found_again_after_edits(tmp_path):
    path = str(tmp_path / "lines.py")
    (tmp_path / "lines.py").write_text("a = 1\nb = 2\nc = 3\n")
    overlay = {path: "import x\na = 1\nif x:\n    c = 3\n"}
    assert _search._moved((path, 1, 1), overlay) == (path, 2, 2)
    assert _search._moved((path, 2, 2), overlay) is None
    assert _search._moved((path, 2, 3), overlay) == (path, 4, 4)


def test_a_difference_is_named_where_it_is():
    class Trial:
        def __init__(self, n):
            self.n_asked, self.name = n, "a"

    one, other = Form().of({"a": Trial(1), "b": 2}), Form().of({"a": Trial(2), "b": 2})
    path, now, before = _case._apart(one, other)
    assert (path, now, before) == ("['a'].n_asked", ("int", 1), ("int", 2))
    path, now, _ = _case._apart(Form().of([1, 2]), Form().of([1, 3]))
    assert path == "" and now == Form().of([1, 2])
