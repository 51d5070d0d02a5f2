"""Imports the files of a scenario: under the name that the program gives them, with stubs for what is missing, and
with texts laid over those of the disk. What they start is left out."""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import sys
import sysconfig
from pathlib import Path

from raceproof.prove import _started, _stubs

_INSTALLED = tuple({sysconfig.get_path(name) + "/" for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_IMPORTED = set()


class CannotImport(Exception):
    """A module cannot be imported, and why."""


class TimeUp(BaseException):
    """The time that was given is used up. Not for code of the program to catch."""


class _Overlay(importlib.machinery.SourceFileLoader):
    """Loads a module from a text that takes the place of the one on the disk."""

    def __init__(self, name, path, text):
        super().__init__(name, path)
        self._text = text

    def get_data(self, path):
        return self._text.encode() if path == self.path else super().get_data(path)

    def get_code(self, fullname):
        return self.source_to_code(self._text.encode(), self.path)


class _OverlayFinder(importlib.abc.MetaPathFinder):
    def __init__(self, texts):
        self.texts = texts

    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        text = self.texts.get(spec.origin) if spec is not None and spec.origin else None
        if text is None:
            return None
        loader = _Overlay(name, spec.origin, text)
        return importlib.util.spec_from_file_location(
            name, spec.origin, loader=loader, submodule_search_locations=spec.submodule_search_locations
        )


class Modules:
    """The modules of a scenario."""

    def __init__(self, overlay=None, root=""):
        self.overlay = overlay or {}
        self._root = Path(root) if root else None
        self.starts = _started.Starts()
        for path, text in self.overlay.items():
            # Stories quote the text that runs, not that of the disk.
            linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        self._finder = _stubs.Finder()
        self._by_file = {}
        self._failed = {}

    @property
    def stubbed(self):
        """The top-level packages that are stubbed."""
        return sorted({name.partition(".")[0] for name in self._finder.stubbed})

    def get(self, file):
        """The module of a file, imported if it is not yet."""
        if file in self._failed:
            raise CannotImport(self._failed[file])
        if file not in self._by_file:
            try:
                self._by_file[file] = self._import(file)
            except CannotImport as cause:
                # A second try would do again what the first has done.
                self._failed[file] = str(cause)
                raise
        return self._by_file[file]

    def try_to_get(self, file):
        """Imports a file, as far as it goes: why it does not is told to who asks for it."""
        with contextlib.suppress(CannotImport):
            self.get(file)

    def imported(self):
        """The modules of the program: those that were imported for a scenario, of this process, and that are neither
        installed nor stubs."""
        known = [sys.modules.get(name) for name in sorted(_IMPORTED)]
        return [it for it in known if getattr(it, "__file__", None) and not it.__file__.startswith(_INSTALLED)]

    def _import(self, file):
        roots = list(_roots(Path(file)))
        if self._root is not None and self._root not in roots and Path(file).is_relative_to(self._root):
            roots.append(self._root)
        with self._finders(roots):
            error = None
            for root in roots:
                name = _name_below(Path(file), root)
                if name is None:
                    continue
                try:
                    return self._import_as(name, file)
                except BaseException as cause:
                    if isinstance(cause, KeyboardInterrupt):
                        raise
                    sys.modules.pop(name, None)
                    if isinstance(cause, TimeUp):
                        raise CannotImport(f"`{Path(file).name}` cannot be imported: {cause}") from None
                    # A name that the standard library has, or a relative import beyond the root: another root may do.
                    error = error or cause
        what = f"{type(error).__name__}: {error}" if error is not None else "its path is not one of a module"
        raise CannotImport(f"`{Path(file).name}` cannot be imported: {what}")

    def _import_as(self, name, file):
        known = sys.modules.get(name)
        if known is not None and getattr(known, "__file__", None) != file:
            # Another file of this name, from an earlier scenario in this process.
            del sys.modules[name]
        before = set(sys.modules)
        with self.starts.left_out():
            module = importlib.import_module(name)
        _IMPORTED.update(set(sys.modules) - before, [name])
        return module

    @contextlib.contextmanager
    def _finders(self, roots):
        paths = [str(root) for root in roots]
        overlay = _OverlayFinder(self.overlay)
        sys.path[:0] = paths
        sys.meta_path.insert(0, overlay)
        sys.meta_path.append(self._finder)
        try:
            yield
        finally:
            # What functions import when they are called has to be found too: only the overlay goes.
            sys.meta_path.remove(overlay)
            sys.meta_path.remove(self._finder)
            sys.meta_path.append(self._finder)
            sys.path[:] = [path for path in sys.path if path not in paths] + paths


def _roots(file):
    """The folders that may be those from which the program imports, the likeliest first: the one above the package of
    the file, the folders above that, and its own."""
    folder = file.parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    yield folder
    above = folder.parent
    for _ in range(3):
        if above == above.parent:
            break
        if any(
            (above / name).exists() for name in ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", ".git")
        ):
            yield above
            break
        above = above.parent
    if file.parent != folder:
        yield file.parent


def _name_below(file, root):
    parts = file.with_suffix("").relative_to(root).parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    name = ".".join(parts)
    if not parts or not all(part.isidentifier() for part in parts):
        return None
    return None if parts[0] in sys.stdlib_module_names else name
