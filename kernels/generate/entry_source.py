"""The entry points of every generated module. An entry gives a thread its trajectories and the arrays of its lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kernels.generate.templates.integrator import Control, Group, Path

WITHOUT_SETS = {"tables", "control"}
"""The arrays of a path that all sets of parameters share; every other array has one row per set."""

PATH_ARGUMENTS = ", ".join(Path._fields)
CONTROL = f"Control({', '.join(f'control[{n}]' for n in range(len(Control._fields)))})"
PATH = f"Path({', '.join(CONTROL if f == 'control' else f if f in WITHOUT_SETS else f'{f}[m]' for f in Path._fields)})"
GROUP = f"Group({', '.join(Group._fields)})"

ARRAYS = {
    "y": ("WIDTH", "real"),
    "trial": ("WIDTH", "real"),
    "K": ("(STAGES + 1) * WIDTH", "real"),
    "clock": ("CLOCK_ROWS * LANES", "real"),
    "place": ("PLACE_ROWS * LANES", "int64"),
    "betas": ("LANES", "real"),
    "means": ("MEAN_ROWS * LANES", "real"),
    "matrix": ("GRAM_ENTRIES * LANES", "real"),
    "scratch": ("SCRATCH * LANES", "real"),
    "search": ("SEARCH_ROWS * LANES", "real"),
}
"""The arrays of a group of lanes: their sizes, in constants of the module, and their types."""


class Entry(NamedTuple):
    """An entry of the generated module.

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
            "rates_some(unit % parts, parts, all_betas, states, p[m], tables, layout[m], "
            "ranges[m], dy, counts, arrays, flag)",
        ],
    ),
}


def entry_functions(target: str) -> list[str]:
    """The texts of the arrays' sizes and of the entries `integrate_all`, `bisect_all`, `rates_all` and `beta_all`.

    A CUDA thread does one unit. On the CPU an entry does the units from its argument `first` to before its argument
    `stop`; `run_on_threads` hands out such ranges. The argument `flag` stops an entry on both targets.
    """
    sizes = "\n".join(f"{_size(name)} = {size}" for name, (size, _) in ARRAYS.items())
    return [sizes, *(_entry(name, target) for name in ENTRIES), _beta_entry(target)]


def _size(name: str) -> str:
    """The name of the constant that holds an array's size. The size of a local array on CUDA must be a constant."""
    return f"{name.upper()}_SIZE"


def _entry(name: str, target: str) -> str:
    entry = ENTRIES[name]
    allocate = "cuda.local.array" if target == "cuda" else "np.zeros"
    made = [f"{a} = {allocate}({_size(a)}, {ARRAYS[a][1]})" for a in entry.arrays]
    if target == "cuda":
        work = [*_lines_of_one("unit", "p.shape[0] * parts"), *_indented([*made, "m = unit // parts", *entry.body])]
    else:
        work = [*made, "for unit in range(first, stop):", *_indented(["m = unit // parts", *entry.body])]
    return _function(f"{name}_all", entry.arguments, work, target)


def _beta_entry(target: str) -> str:
    head = _lines_of_one("n", "times.shape[0]") if target == "cuda" else ["for n in range(first, stop):"]
    return _function("beta_all", "times, p, betas", [*head, *_indented(["betas[n] = beta_at(times[n], p)"])], target)


def _lines_of_one(name: str, count: str) -> list[str]:
    """The first lines of a CUDA kernel whose threads have the numbers from 0 to before `count`."""
    return [f"{name} = cuda.grid(1)", f"if {name} < {count}:"]


def _function(name: str, arguments: str, lines: Sequence[str], target: str) -> str:
    head = (
        f"@cuda.jit\ndef {name}(flag, {arguments}):"
        if target == "cuda"
        else f"@entry\ndef {name}(first, stop, flag, {arguments}):"
    )
    return "\n".join([head, *_indented(lines)])


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
