"""The tables on flows in README.md, made from the result files.

A test looks for their lines in README.md. Run as a program, this file prints the tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from annealvi.realnvp.mode_coverage import MISSED

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "flows"
HALF = 0.5
MANY = [name for name in ("ring-8", "fab-40") if (RESULTS / f"{name}.nc").is_file()]
"""The targets of many modes for which there is a result file."""


def load(name: str) -> xr.Dataset:
    return xr.load_dataset(RESULTS / f"{name}.nc")


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def head(*cells: object) -> list[str]:
    return [row(*cells), "|" + "---|" * len(cells)]


def short(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"


def lost(cell: xr.Dataset) -> str:
    """How many flows give some mode less than a tenth of its weight."""
    return str(int(cell["collapsed"].sum()))


def map_table(name: str) -> list[str]:
    flows = load(name)
    starts = flows["schedule.T0"].to_numpy()
    lines = head(f"`{name}`: of {flows.sizes['seed']}; t₀ \\ T₀", *map(short, starts))
    for n, scale in enumerate(flows["schedule.t0"].to_numpy()):
        lines.append(
            row(short(scale), *(lost(flows.isel({"schedule.t0": n, "schedule.T0": k})) for k in range(len(starts))))
        )
    return lines


def schedules(flows: xr.Dataset) -> Iterator[tuple[str, list[xr.Dataset]]]:
    """Yields the name and the cells of each row.

    Rows without annealing come first, one for each number of steps. Then each kind has a row with a cell for each
    start.
    """
    kinds = flows["kind"].to_numpy()
    for n in np.flatnonzero(kinds == "none"):
        yield f"no annealing, {int(flows['steps'][n])} steps", [flows.isel(schedule=n)]
    for kind in dict.fromkeys(kinds[kinds != "none"].tolist()):
        yield kind, [flows.isel(schedule=n) for n in np.flatnonzero(kinds == kind)]


def kinds_table(name: str) -> list[str]:
    flows = load(name)
    starts = sorted(set(flows["T0"].to_numpy()[flows["kind"].to_numpy() != "none"].tolist()))
    theory = xr.load_dataset(RESULTS / f"{name}-theory.nc")
    lines = head(f"`{name}`: of {flows.sizes['seed']}; T₀", *map(short, starts), "theory's best, at T₀")
    for kind, cells in schedules(flows):
        counts = [lost(cell) for cell in cells] + [""] * (len(starts) - len(cells))
        lines.append(row(kind, *counts, best_by_theory(theory, kind)))
    return lines


def best_by_theory(theory: xr.Dataset, kind: str) -> str:
    if kind.startswith("no annealing"):
        return f"{float(theory['none']):.2f}"
    if kind not in theory["kind"].to_numpy().tolist():
        return "not covered"
    p = theory["p"].sel(kind=kind)
    best = int(p.to_numpy().argmin())
    return f"{float(p[best]):.2f}, {short(float(theory['T0'][best]))}"


def quality_table(name: str) -> list[str]:
    """Counts and medians over all starts of a kind; one of the counts is stricter than that of `lost`."""
    flows = load(name)
    lines = head(
        *(
            f"`{name}`: all T₀",
            "lost",
            "lost or below half its weight",
            "first mode's weight",
            "KL(q‖p*)",
            "ESS(q)",
            "uncovered",
        ),
        "T ≤ 1.05 at step",
    )
    for kind, cells in schedules(flows):
        own = xr.concat(cells, "schedule")
        short_of = (own["mode_weights"] < HALF * own["target_weights"]).any("mode")
        total = own["collapsed"].size
        medians = (float(own[name].median()) for name in ("reverse_kl", "reverse_ess", "uncovered", "annealed_at"))
        kl, ess, uncovered, annealed = medians
        weight = float(own["mode_weights"].isel(mode=0).median())
        counts = f"{int(own['collapsed'].sum())} of {total}", f"{int(short_of.sum())} of {total}"
        lines.append(
            row(kind, *counts, f"{weight:.3f}", f"{kl:.3f}", f"{ess:.2f}", f"{uncovered:.3f}", f"{annealed:.0f}")
        )
    return lines


def weights_table() -> list[str]:
    """The medians over the flows at the last step, with the least and the largest value."""
    runs = load("weights-128")
    lines = head(
        "`weights-128`: gradient, rate; schedule",
        "steps",
        "weight of the first mode",
        "KL(q‖p*)",
        "ESS(q)",
        "half-life",
    )
    for n in range(runs.sizes["run"]):
        run = runs.isel(run=n)
        last = run.sel(step=int(run["steps"]))
        numbers = (
            over_flows(last["mode_weights"].isel(mode=0)),
            over_flows(last["reverse_kl"]),
            over_flows(last["reverse_ess"], 2),
        )
        lines.append(
            row(
                f"{run['gradient'].item()}, {run['decay'].item()}; {in_words(run)}",
                int(run["steps"]),
                *numbers,
                recovered(run),
            )
        )
    return lines


def default_table() -> list[str]:
    """Each flow of the command's defaults, and of the same command with another seed."""
    runs = load("default-128").isel(step=-1)
    lines = head(
        f"`default-128`, {runs.attrs['seconds']} s on {runs.attrs['cores']} cores: flow",
        *map(str, runs["seed"].to_numpy()),
    )
    for seed in runs["run"].to_numpy():
        last = runs.sel(run=seed)
        divergences = zip(last["reverse_kl"].to_numpy(), last["reverse_kl_error"].to_numpy(), strict=True)
        of_each = {
            "weight of the first mode": [f"{w:.3f}" for w in last["mode_weights"].isel(mode=0).to_numpy()],
            "KL(q‖p*)": [f"{kl:.3f} ± {error:.3f}" for kl, error in divergences],
            "ESS(q)": [f"{size:.2f}" for size in last["reverse_ess"].to_numpy()],
        }
        lines += [row(f"`--seed {seed}`: {name}", *cells) for name, cells in of_each.items()]
    return lines


def in_words(run: xr.Dataset) -> str:
    """The schedule of a run of `weights-128`, in words."""
    kind, cooling = str(run["kind"].item()), int(run["cooling"])
    return f"{kind}, T₀ = {short(float(run['T0']))}, {cooling}" if cooling else "no annealing"


def over_flows(values: xr.DataArray, digits: int = 3) -> str:
    """The median over flows, with the least and the largest value."""
    return f"{float(values.median()):.{digits}f} ({float(values.min()):.{digits}f} to {float(values.max()):.{digits}f})"


def recovered(flows: xr.Dataset) -> str:
    """How many flows recover of those whose weights were wrong in the first record at T <= 1.05."""
    found = flows["half_life"].to_numpy().ravel()
    lost, seen = found[found > 0], found[(found > 0) & np.isfinite(found)]
    if not len(lost):
        return "none was wrong"
    return f"{len(seen)} of {len(lost)}" + (f", after {np.median(seen):.0f} steps" if len(seen) else "")


def modes_table() -> list[str]:
    """Targets of many modes: how many modes flows keep, and how well."""
    lines = head("schedule", "modes kept", "error of the weights", "KL(q‖p*)", "ESS(q)", "uncovered")
    for name in MANY:
        flows = load(name)
        for kind, (cell,) in schedules(flows):
            kept = (cell["mode_weights"] >= MISSED * cell["target_weights"]).sum("mode")
            numbers = (
                (cell["weight_error"], 3),
                (cell["reverse_kl"], 2),
                (cell["reverse_ess"], 2),
                (cell["uncovered"], 3),
            )
            lines.append(row(f"`{name}`, {kind}", over_flows(kept, 0), *(over_flows(*number) for number in numbers)))
    return lines


def slips_table() -> list[str]:
    flows = load("slips")
    kinds, steps = flows["kind"].to_numpy(), flows["steps"].to_numpy()
    count = flows.sizes["seed"]
    names = [f"no annealing, {steps[n]} steps" if kind == "none" else kind for n, kind in enumerate(kinds)]
    lines = head(f"`slips`: lost, of {count}; error of the weight. d", *names)
    for d in flows["dimension"].to_numpy():
        cells = [flows.sel(dimension=d).isel(schedule=n) for n in range(len(kinds))]
        lines.append(row(d, *(f"{lost(cell)}; {float(cell['weight_error'].mean()):.2f}" for cell in cells)))
    return lines


def cost_table() -> list[str]:
    lines = head(
        "d",
        "couplings and networks",
        "batch",
        "flows",
        "ms for a step of one flow, path gradient",
        "total",
        "ratio",
        "path, in one program",
    )
    for found in json.loads((RESULTS / "cost.json").read_text(encoding="utf-8")):
        setting = found["dimension"], found["network"], found["batch"], found["flows"]
        numbers = (f"{found[name]:.2f}" for name in ("path", "total", "ratio", "together"))
        lines.append(row(*setting, *numbers))
    return lines


def all_tables() -> list[list[str]]:
    return [
        map_table("map-16-linear"),
        map_table("map-16"),
        map_table("map-128"),
        kinds_table("kinds-16"),
        kinds_table("kinds-128"),
        quality_table("kinds-16"),
        quality_table("kinds-128"),
        weights_table(),
        default_table(),
        modes_table(),
        slips_table(),
        cost_table(),
    ]


if __name__ == "__main__":
    for table in all_tables():
        print("\n".join(table), end="\n\n")
