"""Functions in C that are not one step without the GIL, written out: other threads come between what they do.

This file is seen like the user's code.
"""


def count_elements(mapping, iterable):
    """`collections._count_elements`, which `Counter` uses."""
    for element in iterable:
        mapping[element] = mapping.get(element, 0) + 1
