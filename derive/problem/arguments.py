"""Checks of public functions' arguments against their annotations.

A wrong argument gives one clear line instead of an error from deep within the package.
"""

from __future__ import annotations

import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from derive.problem.field_checks import BadInput, shown, without_axes

P = ParamSpec("P")
T = TypeVar("T")

LEAST = {"n": 1, "replicas": 1, "particles": 1, "points": 2, "seed": 0, "workers": 1, "chunk": 1}
"""The smallest value that a whole number may have, by the name of the argument."""

_KINDS: dict[Any, tuple[type, ...]] = {
    float: (numbers.Real,),
    int: (numbers.Integral,),
    complex: (numbers.Complex,),
    os.PathLike: (str, os.PathLike),
}
_WORDS = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "True or False",
    os.PathLike: "a path",
    type(None): "None",
}
_REMEDIES = {
    "Problem": 'make one by annealvi.load_problem("bimodal") or annealvi.Problem(...)',
    "Session": "open one by annealvi.open_session(problem)",
    "State": 'give {"means": [[3, 0], [0, 3]], "beta": 0.5}, say',
}


def checked(function: Callable[P, T], least: Mapping[str, int] = types.MappingProxyType(LEAST)) -> Callable[P, T]:
    """The function with its arguments checked against their annotations.

    A wrong argument raises BadInput, which names the argument and says what is wanted.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            require_argument(name, value, _hints(function).get(name, Any), least)
        return function(*args, **kwargs)

    return call


def require_fields(instance: Any) -> None:
    """Raise BadInput unless each field of a dataclass is what its annotation says."""
    for name, hint in _hints(instance.__class__).items():
        require_argument(name, getattr(instance, name), hint)


def require_argument(
    name: str, value: Any, hint: Any, least: Mapping[str, int] = types.MappingProxyType(LEAST)
) -> None:
    """Raise BadInput unless a value is what an annotation says and is not below the least number for its name."""
    if not _fits(value, hint):
        wanted = _in_words(hint)
        remedy = next((text for key, text in _REMEDIES.items() if key in wanted.split()), f"give {wanted}")
        raise BadInput(name, f"{_described(value)} is not {wanted}", remedy, "")
    if isinstance(value, numbers.Integral) and value < least.get(name, value):
        raise BadInput(name, f"{value} is below {least[name]}", f"give a whole number of at least {least[name]}", "")


def require_choice(name: str, values: Iterable[Any], allowed: Sequence[str]) -> None:
    """Raise BadInput for the first value that is not allowed."""
    for value in values:
        if value not in allowed:
            raise BadInput(name, f"{shown(value)} is unknown", f"choose from {', '.join(allowed)}", "")


@cache
def _hints(owner: Any) -> dict[str, Any]:
    """The annotations by name, without those whose types only type checkers import."""
    space = vars(inspect.getmodule(owner))
    hints: dict[str, Any] = {}
    for name, text in owner.__annotations__.items():
        try:
            hints |= typing.get_type_hints(types.SimpleNamespace(__annotations__={name: text}), globalns=space)
        except NameError:
            continue
    return hints


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    value = without_axes(value)
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, each) for each in inside)
    if hint is None or hint is type(None):
        return value is None
    kind = origin or hint
    if not isinstance(kind, type):  # a type variable or an alias
        return True
    if isinstance(value, bool) or hint is bool:
        return kind in (bool, object) and type(value).__name__ in ("bool", "bool_")
    if kind.__name__ == "ndarray":
        return value is not None and not isinstance(value, str | bytes | Mapping)
    if kind is tuple or (issubclass(kind, Iterable) and kind not in (str, bytes) and not issubclass(kind, Mapping)):
        return _is_list(value, inside)
    if issubclass(kind, os.PathLike):
        kind = os.PathLike
    return isinstance(value, _KINDS.get(kind, kind))


def _is_list(value: Any, inside: tuple[Any, ...]) -> bool:
    """Whether a value is an iterable other than text; the items of a list or tuple are checked one by one.

    Any iterable is accepted, because an array is not a Sequence.
    """
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        return False
    if not isinstance(value, list | tuple) or not inside:
        return True
    hints: Sequence[Any] = inside if len(inside) > 1 and inside[-1] is not ... else [inside[0]] * len(value)
    return len(hints) == len(value) and all(map(_fits, value, hints))


def _described(value: Any) -> str:
    plain = value is None or isinstance(value, str | bytes | numbers.Number | list | tuple | Mapping)
    return shown(value) if plain else f"a {type(value).__name__}"


def _in_words(hint: Any) -> str:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_in_words(each) for each in inside)
    kind = origin or hint
    if kind is None or not isinstance(kind, type):
        return "None"
    if issubclass(kind, os.PathLike):
        kind = os.PathLike
    if kind.__name__ == "ndarray":
        return "an array of numbers"
    if kind is tuple and inside and inside[-1] is not ...:
        return f"{len(inside)} of {_in_words(inside[0])}"
    if inside and kind is not os.PathLike and issubclass(kind, Iterable):
        return f"a list, each {_in_words(inside[0])}"
    return _WORDS.get(kind, f"a {kind.__name__}")
