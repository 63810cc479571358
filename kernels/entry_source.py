"""The entry points of every generated module: which trajectories a thread takes, and the arrays of its lanes."""

from __future__ import annotations

PATH = "(times[m], ends[m], kept[m], p[m], tables, layout[m], ranges[m], limits[m], traps[m], control)"
GROUP = "(y, trial, K, clock, place, betas, means, matrix, scratch)"

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
"""The arrays of a group of lanes: sizes, which are constants of the module, and types."""

ENTRIES = {
    "integrate": (
        "initial, times, ends, kept, p, tables, layout, ranges, limits, traps, control, out, reached, status, parts",
        [name for name in ARRAYS if name != "search"],
        [
            f"path, group = {PATH}, {GROUP}",
            "start = initial[min(m, initial.shape[0] - 1)]",
            "integrate_some(unit % parts, parts, start, path, group, out[m], reached[m], status[m])",
        ],
    ),
    "bisect": (
        "low, high, inside, width, times, ends, kept, p, tables, layout, ranges, limits, traps, control, "
        "out, bracket, runs, failed, places, parts",
        list(ARRAYS),
        [
            f"path, group = {PATH}, {GROUP}",
            "bisect_some(unit % parts, parts, low, high, inside, width, places, path, group, search, out, bracket, runs, failed)",
        ],
    ),
    "rates": (
        "all_betas, states, p, tables, layout, ranges, dy, counts, parts",
        ["y", "K", "betas", "means", "scratch"],
        [
            "arrays = (y, K, betas, means, scratch)",
            "rates_some(unit % parts, parts, all_betas, states, p[m], tables, layout[m], ranges[m], dy, counts, arrays)",
        ],
    ),
}
"""For each entry its arguments, the arrays that it needs, and what one unit of work does with them. A unit is a part of the trajectories
of one set of parameters, m: units run over the parts of set 0, then of set 1, and so on."""


def entry_functions(target: str, parallel_rates: bool) -> list[str]:
    """The texts of the arrays' sizes and of `integrate_all`, `bisect_all`, `rates_all` and `beta_all`."""
    sizes = "\n".join(f"{_size(name)} = {size}" for name, (size, _) in ARRAYS.items())
    make = _on_cuda if target == "cuda" else _on_cpu
    found = [text for name in ENTRIES for text in make(name, parallel_rates or name != "rates")]
    head = "@cuda.jit" if target == "cuda" else '@njit(cache=True, error_model="numpy")'
    loop = "for n in range(times.shape[0]):"
    if target == "cuda":
        loop = "n = cuda.grid(1)\n    if n < times.shape[0]:"
    return [sizes, *found, f"{head}\ndef beta_all(times, p, betas):\n    {loop}\n        betas[n] = beta_at(times[n], p)"]


def _size(name: str) -> str:
    """The constant of the module that has an array's size: CUDA's local arrays take nothing else."""
    return f"{name.upper()}_SIZE"


def _on_cpu(name: str, parallel: bool) -> list[str]:
    """A unit's function, which makes the arrays of its lanes, and the loop over the units."""
    arguments, arrays, body = ENTRIES[name]
    made = [f"{a} = np.zeros({_size(a)}, {ARRAYS[a][1]})" for a in arrays]
    unit = f"@device\ndef {name}_unit(unit, {arguments}):\n    m = unit // parts\n"
    unit += "".join(f"    {line}\n" for line in [*made, *body])
    loop = f'@njit(cache=True, parallel={parallel}, error_model="numpy")\ndef {name}_all({arguments}):\n'
    loop += f"    for unit in prange(p.shape[0] * parts):\n        {name}_unit(int64(unit), {arguments})"
    return [unit, loop]


def _on_cuda(name: str, _: bool) -> list[str]:
    arguments, arrays, body = ENTRIES[name]
    made = [f"{a} = cuda.local.array({_size(a)}, {ARRAYS[a][1]})" for a in arrays]
    head = f"@cuda.jit\ndef {name}_all({arguments}):\n    unit = cuda.grid(1)\n"
    head += "    if unit < p.shape[0] * parts:\n        m = unit // parts\n"
    return [head + "".join(f"        {line}\n" for line in [*made, *body])]
