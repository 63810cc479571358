"""The entry points of every integrator. An entry gives a thread its trajectories and the arrays of its lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kernels.generate.system_calls import OWN
from kernels.generate.templates.integrator import Control, Group, Path

WITHOUT_SETS = {"tables", "control"}
"""The arrays of a path that all sets of parameters share; every other array has one row per set."""

PATH_ARGUMENTS = ", ".join(Path._fields)
CONTROL = f"Control({', '.join(f'control[{n}]' for n in range(len(Control._fields)))})"
PATH = f"Path({', '.join(CONTROL if f == 'control' else f if f in WITHOUT_SETS else f'{f}[m]' for f in Path._fields)})"
GROUP = f"Group({', '.join(Group._fields)})"

ARRAYS = {
    "y": ("STATES", "real"),
    "trial": ("TRIAL_PARTS * STATES", "real"),
    "K": ("(STAGES + 1) * STATES", "real"),
    "clock": ("CLOCK_ROWS", "real"),
    "place": ("PLACE_ROWS", "int64"),
    "betas": ("1", "real"),
    "means": ("MEAN_ROWS", "real"),
    "matrix": ("GRAM_ENTRIES", "real"),
    "scratch": ("SCRATCH", "real"),
    "search": ("SEARCH_ROWS", "real"),
}
"""The arrays of a group of lanes: their rows of LANES entries, in constants of the modules, and their types."""

OF_THE_SYSTEM = ("STATES", "MEAN_ROWS", "GRAM_ENTRIES", "SCRATCH")
"""The constants of a system's module that its integrator's entries take as arguments on the CPU."""


class Entry(NamedTuple):
    """An entry of an integrator.

    arguments: the text of the arguments after the flag. arrays: the arrays of ARRAYS that the entry needs. body: the
    lines that do one unit of work. A unit is one part of the trajectories of one set of parameters, m. Units run over
    the parts of set 0, then of set 1, and so on.
    """

    arguments: str
    arrays: Sequence[str]
    body: Sequence[str]


ENTRIES = {
    "integrate": Entry(
        f"initial, {PATH_ARGUMENTS}, out, reached, status, parts",
        [name for name in ARRAYS if name != "search"],
        [
            f"path, group = {PATH}, {GROUP}",
            "start = initial[min(m, initial.shape[0] - 1)]",
            "integrate_some(unit % parts, parts, start, path, group, out[m], reached[m], status[m])",
        ],
    ),
    "bisect": Entry(
        f"low, high, inside, width, {PATH_ARGUMENTS}, out, bracket, runs, failed, places, parts",
        list(ARRAYS),
        [
            f"path, group = {PATH}, {GROUP}",
            "bisect_some(unit % parts, parts, low, high, inside, width, places, path, group, "
            "search, out, bracket, runs, failed)",
        ],
    ),
    "rates": Entry(
        "all_betas, states, p, tables, layout, ranges, dy, counts, parts",
        ["y", "K", "betas", "means", "scratch"],
        [
            "arrays = RateArrays(y, K, betas, means, scratch)",
            "rates_some(unit % parts, parts, system, all_betas, states, p[m], tables, layout[m], "
            "ranges[m], dy, counts, arrays, flag)",
        ],
    ),
    "beta": Entry(
        "times, p, found, parts", ["betas"], ["betas_some(unit % parts, parts, system, times, p[m], found, betas)"]
    ),
}


def sizes() -> str:
    """The constants with the arrays' sizes for CUDA, where the size of a local array must be a constant."""
    return "\n".join(f"{_size(name)} = {rows} * LANES" for name, (rows, _) in ARRAYS.items())


def entry_functions(target: str) -> list[str]:
    """The texts of the entries `integrate_all`, `bisect_all`, `rates_all` and `beta_all`.

    A CUDA thread does one unit. On the CPU an entry does the units from its argument `first` to before its argument
    `stop`; `run_on_threads` hands out such ranges. The argument `flag` stops an entry on both targets. On the CPU the
    system's own functions and the constants OF_THE_SYSTEM follow as arguments.
    """
    return [_entry(name, target) for name in ENTRIES]


def _size(name: str) -> str:
    return f"{name.upper()}_SIZE"


def _entry(name: str, target: str) -> str:
    entry = ENTRIES[name]
    if target == "cuda":
        made = [f"{a} = cuda.local.array({_size(a)}, {ARRAYS[a][1]})" for a in entry.arrays]
        head = f"@cuda.jit\ndef {name}_all(flag, {entry.arguments}):"
        unit = ["system = 0", *made, "m = unit // parts", *entry.body]
        lines = ["unit = cuda.grid(1)", "if unit < p.shape[0] * parts:", *_indented(unit)]
    else:
        made = [f"{a} = np.zeros({_of_arguments(ARRAYS[a][0])} * LANES, {ARRAYS[a][1]})" for a in entry.arrays]
        of_system = ", ".join([*OWN.values(), *map(_argument, OF_THE_SYSTEM)])
        head = f"@entry\ndef {name}_all(first, stop, flag, {of_system}, {entry.arguments}):"
        unit = ["m = unit // parts", *entry.body]
        system = f"system = System({', '.join(OWN.values())})"
        lines = [system, *made, "for unit in range(first, stop):", *_indented(unit)]
    return "\n".join([head, *_indented(lines)])


def _argument(constant: str) -> str:
    return f"own_{constant.lower()}"


def _of_arguments(rows: str) -> str:
    return " ".join(_argument(word) if word in OF_THE_SYSTEM else word for word in rows.split(" "))


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
