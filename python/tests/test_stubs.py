"""`_native.pyi` says what the module holds: the same names, the same methods, the same argument names."""

import ast
import inspect
from pathlib import Path

import pytest

import raceproof
from raceproof import _native

STUB = ast.parse((Path(raceproof.__file__).parent / "_native.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}

# What every class has without saying so.
SILENT = set(dir(object)) | {
    "__dict__",
    "__weakref__",
    "__module__",
    "__annotations__",
    "__slotnames__",  # what copyreg remembers
    "__static_attributes__",
    "__firstlineno__",
    "__orig_bases__",
    "__parameters__",
    "__abstractmethods__",
    "__vectorcalloffset__",
    "_abc_impl",
}


def members(node):
    """What the stub of a class says; a base with a private name is no class of the module, but a part of the stub."""
    named = {}
    for base in node.bases:
        base = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(base, ast.Name) and base.id.startswith("_"):
            named.update(members(CLASSES[base.id]))
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            named[item.name] = item
        elif isinstance(item, ast.AnnAssign):
            named[item.target.id] = item
        elif isinstance(item, ast.Assign):
            named.update((target.id, item) for target in item.targets)
    return named


def parameters(node):
    """The names of the parameters in a stub, without `self` and `cls`."""
    named = [*node.args.posonlyargs, *node.args.args]
    if node.args.vararg:
        named.append(node.args.vararg)
    named += node.args.kwonlyargs
    if node.args.kwarg:
        named.append(node.args.kwarg)
    names = [argument.arg for argument in named]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def test_the_module_and_the_stub_have_the_same_names():
    held = {name for name in dir(_native) if not name.startswith("__")}
    stubbed = {name for name in CLASSES | FUNCTIONS if not name.startswith("_")}
    stubbed |= {node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign)}
    assert held == stubbed


@pytest.mark.parametrize("name", sorted(name for name in CLASSES if not name.startswith("_")))
def test_a_class_and_its_stub_have_the_same_members(name):
    class_ = getattr(_native, name)
    own = set(vars(class_)) - SILENT
    stubbed = set(members(CLASSES[name]))
    assert own - stubbed == set(), "not in the stub"
    assert {member for member in stubbed if not hasattr(class_, member)} == set(), "not in the module"


def functions():
    yield from ((name, getattr(_native, name), node) for name, node in FUNCTIONS.items())
    for name, class_ in CLASSES.items():
        if name.startswith("_"):
            continue
        for member, node in members(class_).items():
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{name}.{member}", getattr(getattr(_native, name), member, None), node


@pytest.mark.parametrize(("name", "function", "node"), [pytest.param(*case, id=case[0]) for case in functions()])
def test_a_function_and_its_stub_have_the_same_parameters(name, function, node):
    if any(getattr(decorator, "id", None) in ("property", "overload") for decorator in node.decorator_list):
        return
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # inherited from C without a signature
    held = [parameter for parameter in signature.parameters if parameter not in ("self", "cls", "type")]
    if held in (["args", "kwargs"], ["args"]):
        return  # a slot: C says nothing of its parameters
    assert held == parameters(node)
