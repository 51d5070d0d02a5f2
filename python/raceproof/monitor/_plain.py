"""What is kept of a Python object: JSON, of bounded size. User code such as `__repr__` runs here, under no lock."""

import dataclasses
import json

# Characters of the JSON text of one context, detail or event.
TEXT_MAX = 65_536
# Attributes that name an incident, and are not part of its context.
_NAMING = {"id", "title", "severity", "kind"}


def text(value) -> str:
    """The JSON text of an object with string keys: of a mapping as it is, of anything else its fields."""
    plain = value if isinstance(value, dict) else fields(value)
    return _bounded(_dumped(plain))


def any_text(value) -> str:
    """The JSON text of any value."""
    return _bounded(_dumped(value))


def fields(value) -> dict:
    """The fields of an object by name."""
    if value is None:
        return {}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    for dump in ("model_dump", "_asdict"):
        if callable(getattr(value, dump, None)):
            return dict(getattr(value, dump)())
    try:
        return {name: held for name, held in list(vars(value).items()) if not name.startswith("_")}
    except TypeError:
        return {"repr": _repr(value)}


def context(incident) -> str:
    """What is kept of an incident of the user's own class, besides what names it."""
    return text({name: held for name, held in fields(incident).items() if name not in _NAMING})


def _dumped(plain) -> str:
    try:
        return json.dumps(plain, default=_default, allow_nan=False)
    except Exception:  # Also what a `__str__` of the user's raises.
        return json.dumps({"repr": _repr(plain)})


def _default(value):
    if isinstance(value, (set, frozenset)):
        return list(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return fields(value)
    return str(value)


def _repr(value) -> str:
    try:
        return repr(value)[:TEXT_MAX]
    except Exception as error:
        return f"<{type(value).__name__}: repr raised {type(error).__name__}>"


def _bounded(written: str) -> str:
    if len(written) <= TEXT_MAX:
        return written
    return json.dumps({"cut": written[: TEXT_MAX // 2]})
