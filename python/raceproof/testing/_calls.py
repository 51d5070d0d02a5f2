"""Calling what testers are given: plain or async, with or without a number."""

import asyncio
import inspect

from raceproof._native import AtomicInt
from raceproof.testing._stress import awaited


def called(function, *arguments):
    """What a function gives, awaited if it can be, in this thread."""
    result = function(*arguments)
    return awaited(result) if inspect.isawaitable(result) else result


async def in_background(function, *arguments):
    """Calls what blocks in another thread, so that the loop that asks goes on."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def takes_number(function):
    """Does it want exactly one argument?"""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(it.default is it.empty and it.kind in kinds for it in parameters) == 1


def numbered(operation):
    """The operation as one without arguments: one that wants a number is given the next."""
    if not takes_number(operation):
        return operation
    numbers = AtomicInt(0)
    return lambda: operation(numbers.fetch_add(1))
