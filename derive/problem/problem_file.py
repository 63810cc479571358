"""Problems as TOML: read from a file or by a built-in name, changed by `section.key=value`, written back.

TOML text -> nested dictionary -> `Problem`. Every section and key is optional; what is missing takes the bimodal case's
value.
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
from derive.problem.schedules import make_schedule
from derive.problem.scope import outside
from derive.problem.specification import (
    DETAILS,
    LONGEST_NAME,
    NEEDED,
    BadInput,
    Flow,
    Init,
    Problem,
    Proposal,
    ScheduleSpec,
    Space,
    Target,
    require_name,
    shown,
)

SECTIONS: dict[str, type] = {
    "target": Target,
    "proposal": Proposal,
    "flow": Flow,
    "schedule": ScheduleSpec,
    "space": Space,
    "init": Init,
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
    """The problem of a TOML file or a built-in name, with `overrides` applied, fully checked, its schedule's formula
    included.

    path_or_name: a built-in name comes before a file of the same name; write ./bimodal for a file. A file that states
    no name is called
        by its own, without the ending.
    overrides: `section.key=value` or `name=value`, the value in TOML; a bare word counts as text, and so does the name
    of a file of
        points, so that `schedule.kind=linear` needs no quotes. Later ones win. A new schedule.kind sets aside what
        belongs to the file's, and a new formula the file's.
    Raises BadInput, one line that names the file (or --set), the key and a remedy.
    """
    source = os.fsdecode(path_or_name)
    if source in BUILT_IN:
        document = problem_as_dict(BUILT_IN[source])
    else:
        document = {"name": _name_of_file(source), **_beside(source, _read_toml(source))}
    changes = [_parse_override(text) for text in overrides]
    changed = dict(changes)
    if "schedule.kind" in changed:
        _drop_details_of_other_kinds(document, changed["schedule.kind"])
    _drop_replaced_formula(document, changed)
    for key, value in changes:
        _apply_override(document, key, value, source)
    try:
        problem = problem_from_dict(document)
        make_schedule(problem.schedule)
    except BadInput as mistake:
        raise mistake.at("--set" if mistake.key.split("[")[0] in changed else source) from None
    return problem


def with_changes(problem: Problem, changes: Mapping[str, Any]) -> Problem:
    """The problem with other values at some keys, checked like a file. BadInput for an unknown key and a value that a
    file may not have.

    A key is `name`, `section.key`, or one entry of a list, numbered from 0: `target.scales[1]`, `target.means[0][1]`.
    Another share of the weights at one entry leaves the others in their proportions, so that all sum to one. A whole
    float counts as an integer where the file wants one; a number for each component may be set where the problem has
    one for all.
    """
    document = problem_as_dict(problem)
    _drop_replaced_formula(document, changes)
    for key, value in changes.items():
        _set(document, key, value)
    if "schedule.kind" in changes:
        _drop_details_of_other_kinds(document, changes["schedule.kind"])
    changed = problem_from_dict(document)
    make_schedule(changed.schedule)
    return changed


def is_key(key: str) -> bool:
    """Whether `with_changes` knows a key, of whatever entry."""
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
    """The problem as nested dictionaries and lists, fit for JSON and for `problem_from_dict`. What is empty or not
    given is left out."""
    document: dict[str, Any] = {"name": problem.name}
    for name in SECTIONS:
        section = getattr(problem, name)
        values = {f.name: _as_lists(getattr(section, f.name)) for f in fields(section)}
        document[name] = {key: value for key, value in values.items() if value not in ([], "", None)}
    return document


def problem_to_toml(problem: Problem) -> str:
    """TOML text from which `load_problem` makes the same problem."""
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
    """A file's name without its ending, and with what no problem's name may hold left out or as a hyphen."""
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
    """A key and the numbers of an entry behind it."""
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
    content = document[section].get(leaf)
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
    document[section][leaf] = content


def _beside(source: str, document: dict[str, Any]) -> dict[str, Any]:
    """The document of a file with the name of its points' file relative to its own folder."""
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
    """A new formula for T or for beta takes the place of either."""
    schedule, formulas = document.get("schedule"), NEEDED["expression"][0]
    if isinstance(schedule, dict) and any(f"schedule.{formula}" in changed for formula in formulas):
        for formula in formulas:
            schedule.pop(formula, None)


def _unknown(key: str, value: Any) -> BadInput:
    """What to say of a section, or of section.key, that no problem file has. Its value tells what is looked for."""
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
    """A message of at most 205 characters, with its ends: it may quote a key of any length, and says at the end
    where."""
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
    # JSON's escapes of printable text, and of blanks, are TOML's
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
