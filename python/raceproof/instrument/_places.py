"""Where code comes from: the interpreter's library, an installed package, raceproof itself, or the user."""

import sysconfig
from pathlib import Path


def _folders(*names):
    return tuple({str(Path(sysconfig.get_path(name)).resolve()) + "/" for name in names})


LIBRARY = _folders("stdlib", "platstdlib")
SITE = _folders("purelib", "platlib")
OURS = str(Path(__file__).resolve().parent.parent) + "/"
# Packages that run other code rather than being part of it.
_RUNNERS = ("pytest", "_pytest/", "pluggy/", "hypothesis/", "_hypothesis", "coverage/", "xdist/", "execnet/")


def place(file: str) -> tuple[str, str]:
    """`library`, `package`, `runner` (pytest and its kind), `raceproof` or `own`, and the path below its folder."""
    if file.startswith("<frozen"):
        return "library", file
    if file.startswith(OURS):
        return "raceproof", file.removeprefix(OURS)
    # The folder of packages lies within that of the library.
    for site in SITE:
        if file.startswith(site):
            below = file.removeprefix(site)
            return "runner" if below.startswith(_RUNNERS) else "package", below
    for library in LIBRARY:
        if file.startswith(library):
            return "library", file.removeprefix(library)
    return "own", file
