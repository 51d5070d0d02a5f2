"""Stands in for packages that are not installed, so that a module can be imported without them.

A stub takes part in whatever the module does with it while it is imported: it is called, subclassed, used as a
decorator or in an annotation, raised and caught. It does nothing. Only packages that cannot be found are stubbed, never
modules of the standard library or of the program itself that exist.
"""

import importlib.abc
import importlib.machinery
import sys
import types

_ERROR_ENDINGS = ("Error", "Exception", "Warning", "Interrupt", "Timeout")


class _Permissive(type):
    """The type of stub classes: a name that is missing is another stub."""

    def __getattr__(cls, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return named(f"{cls.__qualname__}.{name}")

    def __getitem__(cls, _):
        return cls

    def __or__(cls, other):
        return cls

    __ror__ = __or__


class StubClass(metaclass=_Permissive):
    """What stub classes derive from: keeps the keyword arguments of its making as attributes."""

    def __init__(self, *arguments, **named_arguments):
        fields = [name for kind in reversed(type(self).__mro__) for name in vars(kind).get("__annotations__", ())]
        for name, value in [*zip(fields, arguments, strict=False), *named_arguments.items()]:
            setattr(self, name, value)

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return named(f"{type(self).__qualname__}.{name}")


class Stub:
    """A function or value of a package that is not there."""

    def __init__(self, name, arguments=(), named_arguments=None):
        self.__dict__.update(_name=name, _arguments=arguments, _named=named_arguments or {})

    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return named(f"{self._name}.{name}")

    def __eq__(self, other):
        return isinstance(other, Stub) and other._name == self._name

    def __hash__(self):
        return hash(self._name)

    def __call__(self, *arguments, **named_arguments):
        # A decorator gives back what it decorates.
        if len(arguments) == 1 and not named_arguments and isinstance(arguments[0], (types.FunctionType, type)):
            if not self._name.endswith("Depends"):
                return arguments[0]
        return Stub(self._name, arguments, named_arguments)

    def __setattr__(self, name, value):
        """Nothing is kept: what a stub is told changes nothing."""

    def __getitem__(self, _):
        return self

    def __setitem__(self, _, value):
        """Nothing is kept."""

    def __or__(self, other):
        return self

    __ror__ = __or__

    def __mro_entries__(self, bases):
        return (StubClass,)

    def __iter__(self):
        return iter(())

    def __len__(self):
        return 0

    def __bool__(self):
        return True

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        return None

    def __await__(self):
        return self
        yield

    def __repr__(self):
        return f"<stub of {self._name}>"


def named(name):
    """The stub of a name: an exception, a class or something to call, by how it is spelled."""
    last = name.rpartition(".")[2]
    if last.endswith(_ERROR_ENDINGS):
        return type(last, (Exception,), {"__init__": _keep_all})
    if last[:1].isupper() and not last.isupper() and last != "Depends":
        return _Permissive(last, (StubClass,), {"__module__": name.rpartition(".")[0]})
    return Stub(name)


def _keep_all(self, *arguments, **named_arguments):
    Exception.__init__(self, *arguments)
    self.__dict__.update(named_arguments)


class _StubModule(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        value = named(f"{self.__name__}.{name}")
        setattr(self, name, value)
        return value


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Comes last among the finders: what it is asked for, nobody else has found."""

    def __init__(self):
        self.stubbed = []

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names:
            return None
        parent = sys.modules.get(name.rpartition(".")[0])
        if parent is not None and not isinstance(parent, _StubModule):
            return None
        self.stubbed.append(name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _StubModule(spec.name)

    def exec_module(self, module):
        module.__path__ = []
