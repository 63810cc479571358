"""Problems as TOML: read from a file or by a built-in name, changed by `section.key=value`, and written back.

A problem goes from TOML text to nested dictionaries to a `Problem`. Every section and key is optional; a missing one
takes the value of the bimodal case.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from derive.problem.arguments import checked
from derive.problem.built_in import BUILT_IN
from derive.problem.field_checks import LONGEST_NAME, BadInput, require_name, shown
from derive.problem.schedules import make_schedule
from derive.problem.scope import outside
from derive.problem.specification import (
    COVARIANCES,
    DETAILS,
    NEEDED,
    Flow,
    Init,
    Objective,
    Problem,
    Proposal,
    ScheduleSpec,
    Space,
    Target,
)

SECTIONS: dict[str, type] = {
    "target": Target,
    "proposal": Proposal,
    "flow": Flow,
    "schedule": ScheduleSpec,
    "space": Space,
    "init": Init,
    "objective": Objective,
}

KEYS = tuple(f"{name}.{f.name}" for name, section in SECTIONS.items() for f in fields(section))

MOST_BYTES = 2**20
MOST_POINTS_IN_LINE = 200
_BARE_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_ENTRY = re.compile(r"\[([0-9]{1,4})\]")
_PLACE = re.compile(r"([^\[\]]*)((?:\[[0-9]{1,4}\])+)")
_POINT_IN_NAME = re.compile(r"\.[ \t]*(?:[^0-9 \t]|[0-9]+[ \t]*\.)")  # not the point of a decimal number


@checked
def load_problem(path_or_name: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Problem:
    """Read a problem from a TOML file or by a built-in name, with changes, and check it fully.

    The check includes the schedule's formula.

    Parameters
    ----------
    path_or_name : str or path
        A TOML file, or the name of a built-in problem. A built-in name comes before a file of the same name: write
        ./bimodal for the file. A file that states no name is called by its own name without the ending.
    overrides : iterable of str
        Changes `section.key=value` or `name=value`, the value in TOML; later ones win. One entry of a list is numbered
        from 0, as in `target.means[0][1]=2`; such changes come last. A bare word counts as text, and so does the name
        of a file of points, so `schedule.kind=linear` needs no quotes. A new schedule.kind sets aside
        what belongs to the old kind alone, and a new formula replaces the old one. A new objective.kind other than
        "mixed" sets the old weight aside.

    Returns
    -------
    Problem
        The checked problem.

    Raises
    ------
    BadInput
        For anything wrong: one line that names the file (or --set), the key and a remedy.

    Examples
    --------
    >>> import annealvi
    >>> problem = annealvi.load_problem("bimodal", ["schedule.kind=linear", "schedule.T0=100"])
    >>> problem.schedule.kind, problem.schedule.T0
    ('linear', 100.0)
    """
    source = os.fsdecode(path_or_name)
    if source in BUILT_IN:
        document = problem_as_dict(BUILT_IN[source])
    else:
        document = {"name": _name_of_file(source), **_beside(source, _read_toml(source))}
    changes = [_parse_override(text) for text in overrides]
    entries = {key: value for key, value in changes if _split(key)[1] and is_key(key)}
    changed = {_split(key)[0]: value for key, value in changes}
    if "schedule.kind" in changed:
        _drop_details_of_other_kinds(document, changed["schedule.kind"])
    _drop_replaced_formula(document, changed)
    _drop_weight_of_another_objective(document, changed)
    for key, value in changes:
        if key not in entries:
            _apply_override(document, key, value, source)
    try:
        problem = problem_from_dict(document)
        problem = with_changes(problem, entries) if entries else problem
        make_schedule(problem.schedule)
    except BadInput as mistake:
        at_fault = source in BUILT_IN or mistake.key.split("[")[0] in changed  # a built-in problem itself is right
        raise mistake.at("--set" if at_fault else source) from None
    return problem


def with_changes(problem: Problem, changes: Mapping[str, Any]) -> Problem:
    """The problem with other values at some keys, checked like a file.

    A key is `name`, `section.key`, or one entry of a list, numbered from 0: `target.scales[1]`, `target.means[0][1]`.
    A new weight at one entry keeps the proportions of the other weights, so that all still sum to one. A new entry of a
    covariance off the diagonal is set on both sides of it, so that the matrix stays symmetric. A whole float
    counts as an integer where the file wants an integer. One component's radius may be set where the problem has one
    radius for all. Raises BadInput for an unknown key and for a value that a file may not have.
    """
    document = problem_as_dict(problem)
    _drop_replaced_formula(document, changes)
    _drop_weight_of_another_objective(document, changes)
    for key, value in changes.items():
        _set(document, key, value)
    if "schedule.kind" in changes:
        _drop_details_of_other_kinds(document, changes["schedule.kind"])
    changed = problem_from_dict(document)
    make_schedule(changed.schedule)
    return changed


def is_key(key: str) -> bool:
    """Whether `with_changes` knows a key, with or without numbers of an entry."""
    plain, _ = _split(key)
    return plain in KEYS


def problem_from_dict(document: Mapping[str, Any], source: str = "problem") -> Problem:
    """The problem that nested dictionaries (a TOML document) state. Raises BadInput for an unknown section or key."""
    try:
        values: dict[str, Any] = {}
        for name, content in document.items():
            if name == "name":
                require_name(name, content)
                values[name] = content
                continue
            section = SECTIONS.get(name)
            if section is None:
                raise _unknown(name, content)
            if not isinstance(content, Mapping):
                raise BadInput(name, f"{shown(content)} is not a section", f"write [{name}] and its keys below it")
            for key in content:
                if key not in _keys(name):
                    raise _unknown(f"{name}.{key}", content[key])
            values[name] = section(**content)
        return Problem(**values)
    except BadInput as mistake:
        raise mistake.at(source) from None


def problem_as_dict(problem: Problem) -> dict[str, Any]:
    """The problem as nested dictionaries and lists, for JSON and for `problem_from_dict`.

    Empty values are left out, and so is the section of the objective where that is the tempered reverse KL.
    """
    document: dict[str, Any] = {"name": problem.name}
    for name in SECTIONS:
        section = getattr(problem, name)
        values = {f.name: _as_lists(getattr(section, f.name)) for f in fields(section)}
        document[name] = {key: value for key, value in values.items() if value not in ([], "", None)}
    if problem.objective == Objective():  # files and results from before there were others stay as they are
        del document["objective"]
    if COVARIANCES not in problem.flow.learn:
        del document["flow"]["metric"]
    return document


def problem_to_toml(problem: Problem) -> str:
    """Write a problem as TOML text, from which `load_problem` makes the same problem.

    Parameters
    ----------
    problem : Problem
        The problem.

    Returns
    -------
    str
        The text of a problem file: every section and key, but the objective only if it is not the tempered reverse KL.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.problem_to_toml(annealvi.Problem()).splitlines()[:4]
    ['name = "bimodal"', '', '[target]', 'weights = [0.8, 0.2]']
    """
    document = problem_as_dict(problem)
    lines = [f"name = {_toml_value(document.pop('name'))}"]
    for name, values in document.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml_value(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def _read_toml(source: str) -> dict[str, Any]:
    if not source:
        raise BadInput("", "an empty name", f"give a TOML file or one of {', '.join(BUILT_IN)}")
    try:
        with Path(source).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        known = _choice(source, list(BUILT_IN))
        raise BadInput(
            "", "no such file or built-in problem", f"give a TOML file; of the built-in names, {known}", source
        ) from None
    except IsADirectoryError:
        raise BadInput("", "a directory", "give a TOML file in it", source) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput("", f"cannot be read ({reason})", "give a readable TOML file", source) from None
    if len(content) > MOST_BYTES:
        raise BadInput("", "larger than 1 MiB", "give a problem file; one is a few hundred bytes", source)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadInput("", f"line {line} is not UTF-8", "save the file as UTF-8 text", source) from None
    return _parse_toml(text, source, "correct it there")


def _name_of_file(path: str) -> str:
    """A file's name without its ending, with hyphens or nothing in place of what no problem's name may hold."""
    plain = "".join(c if c.isprintable() and c != "\\" else "-" for c in Path(path).stem)
    return plain.lstrip(".")[:LONGEST_NAME] or "unnamed"


def _parse_toml(text: str, source: str, remedy: str) -> dict[str, Any]:
    # tomllib takes a time quadratic in the parts of one dotted name, tens of seconds for 100 kB
    for number, line in enumerate(text.split("\n"), start=1):
        if len(_POINT_IN_NAME.findall(line)) > MOST_POINTS_IN_LINE:
            raise BadInput(
                "", f"line {number} has over {MOST_POINTS_IN_LINE} points outside numbers", "shorten it", source
            )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput("", f"not TOML: {_without_middle(str(error))}", remedy, source) from None
    except RecursionError:
        raise BadInput("", "not TOML: nested too deeply", remedy, source) from None
    except ValueError:
        raise BadInput("", "not TOML: an integer of thousands of digits, or no such date", remedy, source) from None


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key:
        raise BadInput("", f"{shown(text)} sets nothing", "write section.key=value, such as schedule.T0=100", "--set")
    if len(value) > MOST_BYTES or "\n" in value:
        raise BadInput(key, "a value of many lines or over 1 MiB", "put it into a problem file", "--set")
    if _BARE_WORD.fullmatch(value) and value not in ("true", "false", "inf", "nan"):
        return key, value
    if key == "schedule.points" and value[:1].isalnum():  # a file's name, as a shell completes it
        return key, value
    remedy = "write a TOML value; text needs quotes: 'key=\"text\"'"
    return key, _parse_toml(f"value = {value}", f"--set {_short(key)}", remedy)["value"]


def _apply_override(document: dict[str, Any], key: str, value: Any, source: str) -> None:
    if key == "name":
        document["name"] = value
        return
    section, point, leaf = key.partition(".")
    if section not in SECTIONS:
        raise _unknown(key, value).at("--set")
    if not point:
        raise BadInput(
            section,
            "a section, not a key",
            f"write {section}.KEY=value with KEY one of {', '.join(_keys(section))}",
            "--set",
        )
    if leaf not in _keys(section):
        raise _unknown(key, value).at("--set")
    content = document.setdefault(section, {})
    if not isinstance(content, dict):
        raise BadInput(
            section, f"{shown(content)} is not a section", f"write [{section}] and its keys below it", source
        )
    content[leaf] = value


def _split(key: str) -> tuple[str, list[int]]:
    """A key without the numbers of an entry, and these numbers."""
    found = _PLACE.fullmatch(key)
    return (key, []) if found is None else (found[1], [int(n) for n in _ENTRY.findall(found[2])])


def _set(document: dict[str, Any], key: str, value: Any) -> None:
    plain, indices = _split(key)
    section, _, leaf = plain.partition(".")
    if plain == "space.dimension" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if not indices:
        _apply_override(document, plain, value, "problem")
        return
    if plain not in KEYS:
        raise BadInput(_short(plain), "an unknown key", _choice(plain, KEYS))
    content = document.get(section, {}).get(leaf)
    if plain == "proposal.radius" and not isinstance(content, list):
        content = [content] * len(document[section]["weights"])
    entries: Any = content
    for index in indices[:-1]:
        entries = entries[index] if isinstance(entries, list) and index < len(entries) else None
    last = indices[-1]
    if not isinstance(entries, list) or last >= len(entries):
        raise BadInput(_short(key), "no such entry", f"{plain} is {shown(content)}; entries are numbered from 0")
    if leaf == "weights" and isinstance(value, float | int) and (rest := sum(entries) - entries[last]) > 0:
        entries[:] = [w * (1 - value) / rest for w in entries]
    entries[last] = value
    if leaf == COVARIANCES and len(indices) == 3 and len(content[indices[0]]) > last:
        content[indices[0]][last][indices[1]] = value
    document[section][leaf] = content


def _beside(source: str, document: dict[str, Any]) -> dict[str, Any]:
    """The document of a file, with the name of a points file in it taken relative to the document's folder."""
    schedule = document.get("schedule")
    if isinstance(schedule, dict) and isinstance(schedule.get("points"), str) and schedule["points"]:
        schedule["points"] = str(Path(source).parent / schedule["points"])
    return document


def _drop_details_of_other_kinds(document: dict[str, Any], kind: Any) -> None:
    schedule = document.get("schedule")
    if isinstance(schedule, dict):
        for detail, owner in DETAILS.items():
            if kind != owner:
                schedule.pop(detail, None)


def _drop_replaced_formula(document: dict[str, Any], changed: Collection[str]) -> None:
    """Drop the formula of the schedule where the changes give a new one, for T or for beta."""
    schedule, formulas = document.get("schedule"), NEEDED["expression"][0]
    if isinstance(schedule, dict) and any(f"schedule.{formula}" in changed for formula in formulas):
        for formula in formulas:
            schedule.pop(formula, None)


def _drop_weight_of_another_objective(document: dict[str, Any], changed: Mapping[str, Any]) -> None:
    objective = document.get("objective")
    if isinstance(objective, dict) and changed.get("objective.kind", "mixed") != "mixed":
        objective.pop("weight", None)


def _unknown(key: str, value: Any) -> BadInput:
    """The error for a section, or for a section.key, that no problem file has.

    The value helps to tell which feature outside the theory the user is looking for.
    """
    section, point, leaf = key.partition(".")
    if known := outside(key, value):
        return BadInput(_short(key), *known)
    if section not in SECTIONS:
        return BadInput(_short(section), "an unknown section", _choice(section, ("name", *SECTIONS)))
    return BadInput(f"{section}{point}{_short(leaf)}", "an unknown key", _choice(leaf, _keys(section)))


def _keys(section: str) -> list[str]:
    return [f.name for f in fields(SECTIONS[section])]


def _short(name: str) -> str:
    return shown(name)[1:-1]


def _without_middle(text: str) -> str:
    """A message cut in its middle to at most 205 characters.

    The message may quote a key of any length, and its end says where the mistake is.
    """
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-100:]}"


def _choice(given: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    close = difflib.get_close_matches(given[:100], allowed, n=1)
    return f"did you mean {close[0]}?" if close else f"choose one of {', '.join(allowed)}"


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, tuple) else value


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    # TOML has JSON's escapes of printable text and of blanks.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
