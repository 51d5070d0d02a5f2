"""The pytest file of a scenario: it fails as long as a schedule of the threads fails, and passes once none does."""

import os
from pathlib import Path

_PAGE = '''"""{title}

Written by `raceproof prove`. It fails while a schedule of the threads fails, and passes once none does. It imports and
calls the program; packages that are not installed are stubbed.
"""

from pathlib import Path

from raceproof.prove import Call, Case, explore, replay

ROOT = Path(__file__).resolve().parent / {root!r}
CASE = Case(
    calls=({calls}),
    before=({before}),
    place={place!r},
    place_file={place_file!r},
    loops={loops!r},
    arguments={arguments!r},
    keyed={keyed!r},
    background={background!r},
    expects={expects!r},
    fault_file={fault_file!r},
    fault={fault!r},
)
# {ending}
SCHEDULE = {schedule!r}


def test_the_schedule_that_failed():
    assert replay(CASE, SCHEDULE, ROOT).verdict != "failed"


def test_every_schedule():
    explore(CASE, ROOT).assert_holds()
'''


def page(title, case, schedule, ending, folder):
    """The text of the file, for a folder in which it is to stand."""
    root = Path(os.path.commonpath([call.file for call in (*case.calls, *case.before)])).parent
    case = case.relative(root)
    return _PAGE.format(
        title=title.replace('"""', "'''").replace("\\", "/"),
        root=os.path.relpath(root, folder),
        calls=_calls(case.calls),
        before=_calls(case.before),
        place=case.place,
        place_file=case.place_file,
        loops=case.loops,
        arguments=case.arguments,
        keyed=case.keyed,
        background=case.background,
        expects=case.expects,
        fault_file=case.fault_file,
        fault=case.fault,
        ending=" ".join(ending.split()),
        schedule=schedule,
    )


def _calls(calls):
    words = [f"Call({call.file!r}, {call.function!r}{', once=True' if call.once else ''})" for call in calls]
    if len(words) > 1:
        return "".join(f"\n        {word}," for word in words) + "\n    "
    return "".join(f"{word}," for word in words)
