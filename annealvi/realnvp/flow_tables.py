"""Printed tables of one training run, and of flows under many schedules."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from annealvi.collapse.outcome import CONFIDENCE
from annealvi.show.printing import Printer, Terminal, in_blocks

if TYPE_CHECKING:
    import xarray as xr

    from annealvi.realnvp.training_run import FlowRun

MOST_ROWS = 20
MOST_WEIGHTS = 4
"""Largest number of modes whose weights stand side by side in a table."""
MOST_NAMED = 8
"""Largest number of entries, single or ranges, in a list of modes or flows."""
MOST_LISTS = 8
FEWEST_FOR_QUANTILES = 10
"""Number of flows from which on a range over flows leaves out the outermost tenths."""
HALF_LIVES = {
    "right": "the weights were right there within sampling error",
    "not seen": "not by the last record",
    "T > 1.05": "no record is at T <= 1.05",
}
"""Words for half-lives that are no number of steps, with their meanings."""
INTERVAL = f"{100 * CONFIDENCE:g} % interval"
WEIGHT_ERROR = "half the sum of |w − w*|"


def print_flow(run: FlowRun, name: str, to: Printer | None = None) -> None:
    """Print one row for each of the first MOST_ROWS flows, then the missed modes and a summary with uncertainties.

    Rows show the mode weights of a few modes, or for many modes the number of kept modes and the weight error.
    """
    to = to or Terminal()
    table, few = _table_of_weights(run, name), run.data.sizes["mode"] <= MOST_WEIGHTS
    few = few and len(in_blocks(table, to.width)) == 1
    to.print(table if few else _table_of_errors(run, name))
    if run.data.sizes["seed"] > MOST_ROWS:
        _say(to, f"and {run.data.sizes['seed'] - MOST_ROWS} more")
    for line in _missed_in_words(run.outcomes.covered):
        _say(to, line)
    _print_summary(run, few, to)
    half_lives = run.data["half_life"].to_numpy()
    _say(to, _recovery_in_words(half_lives))
    _say(to, _half_lives_in_words(half_lives))
    _say(
        to,
        "EMC: entropic mode coverage; ESS: of samples of q, relative; uncovered: share of the target "
        "at which q < p/100; KL: KL(q‖p)",
    )
    _say(to, f"{run.method} · {run.device}")


def _table_of_weights(run: FlowRun, name: str) -> Table:
    weights = run.data["mode_weights"].isel(step=-1).to_numpy()
    return _flow_table(run, name, {"mode weights": [" ".join(f"{w:.3f}" for w in row) for row in weights]})


def _table_of_errors(run: FlowRun, name: str) -> Table:
    covered, errors = run.outcomes.covered, run.weight_errors
    kept = [f"{count}/{covered.shape[1]}" for count in covered.sum(1)]
    return _flow_table(run, name, {"kept": kept, "weight error": [f"{error:.3f}" for error in errors]})


def _flow_table(run: FlowRun, name: str, begins: dict[str, list[str]]) -> Table:
    """The table of flows at their last record. begins: the first columns after the flow's number."""
    last = run.data.isel(step=-1)
    numbers = {"EMC": "entropic_mode_coverage", "ESS": "reverse_ess", "uncovered": "uncovered", "KL": "reverse_kl"}
    digits = {"EMC": 2, "ESS": 2}
    columns = {
        heading: [f"{value:.{digits.get(heading, 3)}f}" for value in last[of].to_numpy()]
        for heading, of in numbers.items()
    }
    columns = {**begins, **columns, "half-life": [_half_life(steps) for steps in last["half_life"].to_numpy()]}
    table = _table(" · ".join(filter(None, ("flows in the end", name))), "flow", *columns)
    for n in range(min(last.sizes["seed"], MOST_ROWS)):
        table.add_row(str(n), *(column[n] for column in columns.values()))
    return table


def _print_summary(run: FlowRun, few: bool, to: Printer) -> None:
    """Print when the flows were judged, how many collapsed, and their weights."""
    last, outcomes = run.data.isel(step=-1), run.outcomes
    weights, step = last["mode_weights"].to_numpy(), int(last["step"])
    _say(to, f"judged at step {step}, {_time_since(step - last['annealed_at'].to_numpy())}")
    low, high = outcomes.interval
    counted = f"{outcomes.collapsed.sum()} of {_flows(len(weights))}"
    _say(to, f"P(collapse) = {outcomes.p:.3f}, {INTERVAL} {low:.3f} to {high:.3f}: {counted} missed a mode")
    if few:
        for k, wanted in enumerate(last["target_weights"].to_numpy()):
            median, least, most = _spread(weights[:, k])
            _say(to, f"weight of mode {k + 1}: {median:.3f} ({least:.3f} to {most:.3f}), of the target {wanted:.3g}")
    else:
        median, least, most = _spread(run.weight_errors)
        right = f"right weights, counted in as many samples, have up to {run.sampling_error:.3f}"
        _say(to, f"weight error, {WEIGHT_ERROR}: {median:.3f} ({least:.3f} to {most:.3f}); {right}")
    _say(to, f"weights: {_spread_in_words(len(weights))}")


def _missed_in_words(covered: np.ndarray) -> list[str]:
    """One line for each set of missed modes, most common first. covered: (flows, modes)."""
    of_set: dict[bytes, list[int]] = {}
    for n, row in enumerate(covered):
        of_set.setdefault(row.tobytes(), []).append(n)
    sets = sorted((flows for flows in of_set.values() if not covered[flows[0]].all()), key=len, reverse=True)
    lines = []
    for flows in sets[:MOST_LISTS]:
        missed = np.flatnonzero(~covered[flows[0]]) + 1
        who = f"flow {flows[0]} misses" if len(flows) == 1 else f"flows {_listed(np.array(flows))} miss"
        lines.append(f"{who} mode{'s' if len(missed) > 1 else ''} {_listed(missed)}")
    if others := sum(map(len, sets[MOST_LISTS:])):
        lines.append(f"and {_flows(others)} miss others")
    return lines


def print_map(data: xr.Dataset, name: str) -> None:
    """Print P(collapse), the weight error and the recovery of a map in three tables.

    Rows are values of the second key, columns are values of the first.
    """
    to, flows = Terminal(), data.sizes["seed"]
    steps, annealed = data["steps"].to_numpy()[..., None], data["annealed_at"].to_numpy()
    shares = tuple(data[of].to_numpy() for of in ("p", "p_low", "p_high"))
    errors, half_lives = data["weight_error"].to_numpy(), data["half_life"].to_numpy()
    _print_cells(
        to, data, f"P(collapse) of flows · {name}", lambda at: _share(shares[0][at], shares[1][at], shares[2][at], "\n")
    )
    _say(to, f"below it: its {INTERVAL}; nan: a flow was no longer finite")
    _print_cells(to, data, "weight error", lambda at: _error(errors[at], "\n"))
    _say(to, f"{WEIGHT_ERROR}: {_spread_in_words(flows)}")
    _print_cells(to, data, "recovered", lambda at: "\n".join(_recovery(half_lives[at])))
    _say(to, _recovery_explained("below it"))
    finite = np.isfinite(data["p"].to_numpy())
    _say(to, f"judged at the last of {_range(steps)} steps, {_time_since((steps - annealed)[finite])}")
    _say(to, f"{data.attrs['method']} · {data.attrs['device']}")


def _print_cells(to: Printer, data: xr.Dataset, title: str, cell: Any) -> None:
    """Print one table of a map. cell: gives the text at an index (row, column)."""
    y, x = (str(key) for key in data["p"].dims)
    table = _table(title, f"{y} \\\n{x}", *(_short(value) for value in data[x].to_numpy()))
    table.show_lines = True
    for j, value in enumerate(data[y].to_numpy()):
        table.add_row(_short(value), *(cell((j, i)) for i in range(data.sizes[x])))
    to.print(table)


def print_kinds(data: xr.Dataset, name: str) -> None:
    """Print the best initial temperature of each kind: fewest collapses, then smallest error of the mode weights."""
    to = Terminal()
    headings = ("T0", "after", "P(collapse)", "mean P", "weight error", "KL", "recovered", "half-life")
    table = _table(f"kinds of schedule at equal numbers of steps · {name}", "kind", *headings)
    table.columns[0].justify = "left"
    error, divergence = data["weight_error"].median("seed").to_numpy(), data["reverse_kl"].median("seed").to_numpy()
    kinds, steps = data["kind"].to_numpy(), data["steps"].to_numpy()
    for kind, count in dict.fromkeys(zip(kinds.tolist(), steps.tolist(), strict=True)):
        own = np.flatnonzero((kinds == kind) & (steps == count))
        p = data["p"].to_numpy()[own]
        best = own[np.lexsort((error[own], p))[0]]
        chosen = data.isel(schedule=best)
        recovered, half_life = _recovery(chosen["half_life"].to_numpy())
        table.add_row(
            f"none, {count} steps" if kind == "none" else kind,
            "" if kind == "none" else f"{float(chosen['T0']):.4g}",
            "never" if chosen["annealed_at"].isnull().all() else f"{count - float(chosen['annealed_at'].median()):.0f}",
            _share(float(chosen["p"]), float(chosen["p_low"]), float(chosen["p_high"]), " "),
            f"{p.mean():.2f}",
            _error(chosen["weight_error"].to_numpy(), " "),
            f"{divergence[best]:.3f}",
            recovered,
            half_life,
        )
    to.print(table)
    _say(
        to,
        f"at the best T0 of each kind, judged at step {_range(steps)}; after: the median "
        f"flow's steps at T <= 1.05 by then",
    )
    _say(to, f"P(collapse): with its {INTERVAL}; mean P: over all T0 that were tried; KL: KL(q‖p), the median")
    _say(to, f"weight error, {WEIGHT_ERROR}: {_spread_in_words(data.sizes['seed'])}")
    _say(to, _recovery_explained("half-life"))
    _say(to, f"{data.attrs['method']} · {data.attrs['device']}")


def _recovery_explained(half_life: str) -> str:
    which = "those that halved their weight error, of the flows whose weights were wrong at the first look at T <= 1.05"
    words = "; ".join(f"{word}: {HALF_LIVES[word]}" for word in ("right", "T > 1.05"))
    return f"recovered: {which}; {half_life}: after how many steps, in the median; {words}"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _say(to: Printer, text: str) -> None:
    """Print a paragraph with a hanging indent."""
    for line in textwrap.wrap(text, to.width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False):
        to.print(line, highlight=False)


def _half_life(steps: float) -> str:
    """A half-life, or a word of HALF_LIVES."""
    if np.isnan(steps):
        return "T > 1.05"
    if steps == 0:
        return "right"
    return "not seen" if np.isinf(steps) else _number(steps)


def _half_lives_in_words(half_lives: np.ndarray) -> str:
    there = {_half_life(steps) for steps in half_lives}
    words = "".join(f"; {word}: {meaning}" for word, meaning in HALF_LIVES.items() if word in there)
    return f"half-life: steps from the largest weight error at T <= 1.05 until it has halved{words}"


def _recovery_in_words(half_lives: np.ndarray) -> str:
    recovered, half_life = _recovery(half_lives)
    if recovered in HALF_LIVES:
        return "recovered: no flow was seen to have wrong weights at T <= 1.05"
    return f"recovered: {recovered} flows whose weights were wrong" + (
        f", with a median half-life of {half_life}" if half_life else ""
    )


def _recovery(half_lives: np.ndarray) -> tuple[str, str]:
    """How many of the flows with wrong weights recovered, and their median half-life.

    The first word is "right" if no flow had wrong weights.
    """
    judged = half_lives[~np.isnan(half_lives)]
    wrong = judged[judged > 0]
    recovered = wrong[np.isfinite(wrong)]
    if not len(wrong):
        return ("right" if len(judged) else "T > 1.05"), ""
    return f"{len(recovered)} of {len(wrong)}", _number(float(np.median(recovered))) if len(recovered) else ""


def _time_since(steps: np.ndarray) -> str:
    """The time since T <= 1.05 in words. steps: of each flow since then; NaN for a flow that never was at T <= 1.05."""
    there = steps[np.isfinite(steps)]
    never = steps.size - there.size
    if not there.size:
        return "before any flow was at T <= 1.05"
    short = f"; {never} of {_flows(steps.size)} never at T <= 1.05" if never else ""
    return f"{_range(there)} steps after T = 1.05{short}"


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    """The median and the range over flows, without the outermost tenths of many flows."""
    ends = (0.1, 0.9) if len(values) >= FEWEST_FOR_QUANTILES else (0, 1)
    median, least, most = np.quantile(values, (0.5, *ends))
    return float(median), float(least), float(most)


def _spread_in_words(flows: int) -> str:
    return (
        f"median of {_flows(flows)} ({'10 to 90 % of them' if flows >= FEWEST_FOR_QUANTILES else 'least to largest'})"
    )


def _share(p: Any, low: Any, high: Any, between: str) -> str:
    return "nan" if np.isnan(p) else f"{p:.2f}{between}({low:.2f}–{high:.2f})"


def _error(errors: np.ndarray, between: str) -> str:
    median, least, most = _spread(errors)
    return "nan" if np.isnan(median) else f"{median:.3f}{between}({least:.2f}–{most:.2f})"


def _range(values: np.ndarray) -> str:
    least, most = np.min(values), np.max(values)
    return f"{least:.0f}" if least == most else f"{least:.0f} to {most:.0f}"


def _number(steps: float) -> str:
    return f"{steps:.0f}" if steps >= 10 else f"{steps:.2g}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _flows(count: int) -> str:
    return f"{count} flow" if count == 1 else f"{count} flows"


def _listed(numbers: np.ndarray) -> str:
    """Rising numbers in words, with ranges joined and a long list cut off: 1, 3–7, 9 and 4 more."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    parts = [part for run in runs for part in ([run] if len(run) > 2 else run[:, None])]
    shown = ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts[:MOST_NAMED])
    left = sum(map(len, parts[MOST_NAMED:]))
    return f"{shown} and {left} more" if left else shown
