"""Signatures that are held to: a store takes what its methods' annotations say, and refuses all else."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from learngate.stores.errors import InvalidInput
from learngate.stores.text import check_name, check_namespace, check_storable

Class = TypeVar("Class", bound=type)
Check = Callable[[Any, str], None]
"""Refuses a value, and says of what it is."""
LARGEST = 2**63 - 1
"""The largest number that a database takes for a row."""
MOST = 2**31 - 1
"""The largest count, position or revision."""


def _is_count(value: int, what: str) -> None:
    if not 0 <= value <= MOST:
        raise InvalidInput(f"{what} is a number from 0 to {MOST:,}, not {value:,}")


def _is_name(value: str, what: str) -> None:
    check_name(value, what=what)


def _is_namespace(value: str, what: str) -> None:
    check_namespace(value, what=what)


Count = Annotated[int, _is_count]
"""How many rows, turns or tokens are wanted, at most."""
Name = Annotated[str, _is_name]
"""An id or a name that is going to be stored."""
Namespace = Annotated[str, _is_namespace]
"""Segments joined by single slashes, such as `acme/finance`."""
AnyText = Annotated[str, "as it comes"]
"""Text that need not be fit to be stored: it is checked, or made fit, where it is used."""


def guarded(store: Class) -> Class:
    """Hold every public method of a class to its signature, before it begins.

    A value of a type that the annotation does not name, a number that no database holds and a text with NUL or
    a lone surrogate in it are an `InvalidInput`; so are such values inside records. A wrong number of arguments
    stays Python's own `TypeError`.
    """
    for name, method in [*vars(store).items()]:
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(store, name, _held(method))
    return store


def _held(method: Callable[..., Any]) -> Callable[..., Any]:
    names = [*inspect.signature(method).parameters]

    @functools.wraps(method)
    def held(*given: Any, **named: Any) -> Any:
        checks = _checks(method)
        # What does not go with the signature is Python's own to refuse, when the method is called.
        for name, value in [*zip(names, given, strict=False), *named.items()]:
            if name in checks:
                checks[name](value, f"the {name.replace('_', ' ')}")
        return method(*given, **named)

    return held


@functools.cache
def _checks(annotated: Any) -> dict[str, Check]:
    # Read at the first call: at the time of the definition not every name in the annotations is there yet.
    kinds = get_type_hints(annotated, include_extras=True)
    return {name: _check_of(kind) for name, kind in kinds.items() if name != "return"}


def _check_of(kind: Any) -> Check:
    """Return what refuses a value that is not of a kind, as an annotation names it; a union is one and `None`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (some,) = (_check_of(one) for one in inner if one is not NoneType)
        return lambda value, what: None if value is None else some(value, what)
    if origin is Annotated:
        return _by_rules(inner[0], [rule for rule in inner[1:] if callable(rule)])
    if origin is Literal:
        return functools.partial(_check_choice, inner)
    if origin is tuple:
        return _tuple_of([_check_of(one) for one in inner if one is not Ellipsis], endless=Ellipsis in inner)
    if origin in (list, Sequence):
        return functools.partial(_check_list, _check_of(inner[0]))
    if is_dataclass(kind):
        return functools.partial(_check_record, kind)
    if kind is Any:
        return lambda _value, _what: None
    return functools.partial(_check_plain, origin or kind)


def _check_choice(choices: Sequence[str], value: Any, what: str) -> None:
    if not isinstance(value, str) or value not in choices:
        raise InvalidInput(f"{what} is one of {', '.join(map(repr, choices))}, not {_shown(value)}")


def _check_list(check: Check, value: Any, what: str) -> None:
    if not isinstance(value, list | tuple):
        raise _wrong(what, "a list", value)
    for number, one in enumerate(value, 1):
        check(one, f"number {number} of {what}")


def _check_plain(kind: Any, value: Any, what: str) -> None:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) <= LARGEST else math.inf
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(what, _WORDS.get(kind, kind.__name__), value)
    if isinstance(value, str):
        check_storable(value, what=what)
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise InvalidInput(f"{what} is a number of more than 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{what} is a number, not {value}")
    elif isinstance(value, datetime):
        _check_moment(value, what)


def _check_moment(value: datetime, what: str) -> None:
    try:
        value.astimezone(UTC)
    except (OverflowError, ValueError) as error:
        raise InvalidInput(f"{what} is no time that can be stored: {error}") from None


def _by_rules(kind: Any, rules: Sequence[Check]) -> Check:
    plain = _check_of(kind)

    def check(value: Any, what: str) -> None:
        if kind is not str:
            plain(value, what)
        elif not isinstance(value, str):
            raise _wrong(what, "text", value)
        for rule in rules:
            rule(value, what)

    return check


def _tuple_of(checks: Sequence[Check], *, endless: bool) -> Check:
    def check(value: Any, what: str) -> None:
        if not isinstance(value, tuple | list):
            raise _wrong(what, "a tuple", value)
        each = [*checks] * len(value) if endless else checks
        if len(each) != len(value):
            raise InvalidInput(f"{what} has {len(each)} parts, not {len(value)}")
        for number, (one, part) in enumerate(zip(each, value, strict=True), 1):
            one(part, f"number {number} of {what}")

    return check


def _check_record(kind: Any, value: Any, what: str) -> None:
    if not isinstance(value, kind):
        raise _wrong(what, kind.__name__, value)
    checks = _checks(kind)
    for field in fields(kind):
        checks[field.name](getattr(value, field.name), f"{what}: its {field.name.replace('_', ' ')}")


_WORDS: Mapping[Any, str] = {str: "text", int: "a number", float: "a number", bool: "True or False", dict: "a dict"}


def _wrong(what: str, wanted: str, value: object) -> InvalidInput:
    return InvalidInput(f"{what} must be {wanted}, not {type(value).__name__}")


def _shown(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else type(value).__name__
