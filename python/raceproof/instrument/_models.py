"""Functions in C that are not one step without the GIL, written out: other threads come between what they do.

This file is seen like the user's code.
"""

from raceproof._native import control


def count_elements(mapping, iterable):
    """`collections._count_elements`, which `Counter` uses."""
    for element in iterable:
        mapping[element] = mapping.get(element, 0) + 1


def stepwise(real):
    """A function of the interpreter that goes over its argument item by item, where the argument is not replaced."""

    def model(items, /, *others, **names):
        if control.seat() < 0 or others or control.is_iteration_atomic():
            return real(items, *others, **names)
        return real(_each(items), **names) if names else real(_each(items))

    return model


def _each(items):
    for item in items:  # noqa: UP028 - each is a step here
        yield item
