"""Docstrings of public names follow the NumPy convention, and every example in a docstring is right."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest
from places import ROOT

import annealvi

pytestmark = pytest.mark.quick

PACKAGES = ("derive", "kernels", "annealvi")
TEMPLATES = ROOT / "kernels" / "generate" / "templates"
"""The folder with the parts of generated modules, which cannot be imported."""
WITH_EXAMPLES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if TEMPLATES not in path.parents and ">>>" in path.read_text(encoding="utf-8")
)

NO_CODE = {"__version__", "BUILT_IN", "style"}
PUBLIC = sorted(set(annealvi.__all__) - NO_CODE)
TO_CONVERT: set[str] = set()
"""Public names whose docstrings do not follow the convention yet; one that does must leave this list."""

SECTION = re.compile(r"^(\S.*)\n-+$", re.MULTILINE)


def sections(docstring: str) -> dict[str, str]:
    """The text before the first section under "", and the text of each section under its heading."""
    before, *rest = SECTION.split(docstring)
    return {"": before, **dict(zip(rest[::2], rest[1::2], strict=True))}


def listed(section: str) -> list[str]:
    """The names in a Parameters or Attributes section, in order; "x, y : float" gives x and y."""
    entries = re.findall(r"^(\S.*)$", section, re.MULTILINE)
    return [name.strip(" *`") for entry in entries for name in entry.split(" : ")[0].split(",")]


def public_methods(cls: type) -> Iterator[tuple[str, Any]]:
    """The methods and properties of a class and of its base classes that are written in Python."""
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        function = getattr(member, "fget", None) or getattr(member, "func", None) or member
        if not name.startswith("_") and inspect.isfunction(function):
            yield name, member


def function_faults(name: str, function: Any) -> list[str]:
    docstring = inspect.getdoc(function) or ""
    found = sections(docstring)
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters if p not in ("self", "cls")]
    faults = summary_faults(name, docstring)
    if listed(found.get("Parameters", "")) != parameters:
        faults.append(
            f"{name}: Parameters are {parameters}, and the docstring lists {listed(found.get('Parameters', ''))}"
        )
    if signature.return_annotation not in ("None", None, "NoReturn") and not {"Returns", "Yields"} & set(found):
        faults.append(f"{name}: no section says what it returns")
    return faults


def class_faults(name: str, cls: type) -> list[str]:
    docstring = cls.__doc__ or ""
    found = sections(inspect.cleandoc(docstring))
    if dataclasses.is_dataclass(cls):
        wanted = [field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")]
    else:
        wanted = [p for p in inspect.signature(cls).parameters if p not in ("args", "kwargs")]
    named = [*listed(found.get("Parameters", "")), *listed(found.get("Attributes", ""))]
    faults = summary_faults(name, inspect.cleandoc(docstring))
    if missing := [field for field in wanted if field not in named]:
        faults.append(f"{name}: Attributes or Parameters do not name {missing}")
    for member_name, member in public_methods(cls):
        if isinstance(member, property | cached_property):
            faults += summary_faults(f"{name}.{member_name}", inspect.getdoc(member) or "")
        else:
            faults += function_faults(f"{name}.{member_name}", member)
    return faults


def summary_faults(name: str, docstring: str) -> list[str]:
    """The faults of a summary, which must be one sentence on one line with an empty line after it."""
    summary, *rest = docstring.splitlines() or [""]
    ends = summary.endswith(".") and (not rest or not rest[0])
    return [] if ends else [f"{name}: the first line is no sentence that an empty line follows"]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_docstring_follows_the_numpy_convention(name):
    member = getattr(annealvi, name)
    assert inspect.isclass(member) or inspect.isfunction(member)
    faults = class_faults(name, member) if inspect.isclass(member) else function_faults(name, member)
    if name in TO_CONVERT:
        assert faults, f"{name} follows the convention: take it off TO_CONVERT"
    else:
        assert not faults, "\n".join(faults)


def right(first: int, *rest: float) -> int:
    """Add.

    Parameters
    ----------
    first : int
        Any number.
    *rest : float
        More numbers.

    Returns
    -------
    int
        The sum.
    """


def wrong_names(first: int, second: int) -> None:
    """Do.

    Parameters
    ----------
    first, third : int
        Numbers.
    """


def silent_return(first: int) -> int:
    """Double.

    Parameters
    ----------
    first : int
        Any number.
    """


def long_summary() -> None:
    """A summary that goes on
    over two lines."""


@dataclasses.dataclass
class Half:
    """A point.

    Attributes
    ----------
    x : float
        The first coordinate.
    """

    x: float
    y: float

    def move(self, by: float) -> None:
        """Move the point."""


def test_faults_of_docstrings_are_found():
    assert function_faults("right", right) == []
    for function in (wrong_names, silent_return, long_summary):
        assert len(function_faults("wrong", function)) == 1
    assert class_faults("Half", Half) == [
        "Half: Attributes or Parameters do not name ['y']",
        "Half.move: Parameters are ['by'], and the docstring lists []",
    ]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_examples_of_a_module_are_right(path, tmp_path, monkeypatch):
    """The examples run in an empty folder, which receives what they write."""
    monkeypatch.chdir(tmp_path)
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    assert WITH_EXAMPLES
