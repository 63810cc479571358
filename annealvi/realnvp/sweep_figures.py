"""Figures of flows under many schedules, with the theory of Gaussian mixtures beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annealvi.collapse.collapse_figures import phase_panel
from annealvi.show import style

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MOST_LABELLED = 150
"""Largest number of cells with their values written in them."""


def draw_map(flows: xr.Dataset, theory: xr.Dataset | None, title: str, path: Path) -> Path:
    """Write the map."""
    return style.save(map_figure(flows, theory, title), path)


def draw_kinds(flows: xr.Dataset, theory: xr.Dataset | None, title: str, path: Path) -> Path:
    """Write the comparison of kinds."""
    return style.save(kinds_figure(flows, theory, title), path)


def map_figure(flows: xr.Dataset, theory: xr.Dataset | None, title: str) -> Figure:
    """Draw P(collapse) of flows, cell by cell, and the theory's map beside it.

    Grey cells have a flow that was no longer finite. A dot marks a cell whose β has not reached 0.95 in the last step,
    so that its flows are judged before the annealing has ended.

    Parameters
    ----------
    flows : xarray.Dataset
        The dataset of `annealvi.flow_map`.
    theory : xarray.Dataset or None
        The theory's map over the same keys, or None for the flows alone.
    title : str
        Title of the flows' panel.

    Returns
    -------
    matplotlib.figure.Figure
        One panel, or two with the theory's.

    Examples
    --------
    >>> figure = map_figure(annealvi.flow_map(problem, T0, t0), None, "d = 128")  # doctest: +SKIP
    """
    width = style.ONE_COLUMN + 0.4 if theory is None else style.TWO_COLUMNS
    with style.figure(width, 2.9, columns=1 if theory is None else 2, squeeze=False) as (figure, grid):
        panels = grid[0]
        mesh = _cells(panels[0], flows, title)
        if theory is not None:
            phase_panel(panels[1], theory)
            panels[1].set_title("two Gaussian components, by the theory")
            y, x = (str(name) for name in theory["p"].dims)
            _labels(panels[1], x, y, "gradient flow's time")
        figure.colorbar(mesh, ax=list(panels), label=style.LABELS["p"])
    return figure


def _cells(panel: Axes, flows: xr.Dataset, title: str) -> AxesImage:
    """Draw a table of coloured cells in the order of the axes' values, whatever their distances."""
    values = flows["p"].to_numpy()
    y, x = (str(name) for name in flows["p"].dims)
    panel.set_facecolor("0.8")
    mesh = panel.imshow(
        np.ma.masked_invalid(values), cmap=style.MAP, norm=style.Normalize(0, 1), origin="lower", aspect="auto"
    )
    unfinished = flows["beta"].min("seed").to_numpy() < 0.95
    for j, i in np.ndindex(*values.shape):
        if values.size <= MOST_LABELLED and np.isfinite(values[j, i]):
            ink = style.OVERLAY if values[j, i] < 0.6 else style.BLACK
            panel.text(i, j, f"{values[j, i]:.2g}", ha="center", va="center", fontsize=style.SMALL, color=ink)
        if unfinished[j, i]:
            panel.annotate(
                "•", (i, j), (0, -9), textcoords="offset points", ha="center", va="center", color=style.VERMILION
            )
    for key, set_ticks in ((x, panel.set_xticks), (y, panel.set_yticks)):
        every = np.arange(0, len(flows[key]), 1 + len(flows[key]) // 12)
        set_ticks(
            every,
            [
                value if isinstance(value, str) else f"{float(f'{value:.3g}'):g}"
                for value in flows[key].to_numpy()[every]
            ],
        )
    panel.set_title(title)
    _labels(panel, x, y, "steps")
    return mesh


def _labels(panel: Axes, x: str, y: str, unit: str) -> None:
    names = {**style.LABELS, "schedule.t0": f"{style.LABELS['schedule.t0']} ({unit})"}
    panel.set_xlabel(names.get(x, x))
    panel.set_ylabel(names.get(y, y))


def kinds_figure(flows: xr.Dataset, theory: xr.Dataset | None, title: str) -> Figure:
    """Draw P(collapse) and the error of the mode weights against the initial temperature, for each kind of schedule.

    Bars are 95 % intervals of P and one standard error of the weights' error. Grey lines are flows without annealing:
    for as many steps as the others have in all (dashed), and for as many as they have at T = 1 (dotted). The kinds are
    shifted a little sideways, so that their bars do not hide one another.

    Parameters
    ----------
    flows : xarray.Dataset
        The dataset of `annealvi.compare_kinds`.
    theory : xarray.Dataset or None
        The theory's P for the same kinds over T0, or None for the flows alone.
    title : str
        Title of the first panel.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels, or three with the theory's.

    Examples
    --------
    >>> figure = kinds_figure(annealvi.compare_kinds(problem, [5.0, 50.0]), None, "d = 128")  # doctest: +SKIP
    """
    kinds = [kind for kind in dict.fromkeys(flows["kind"].to_numpy().tolist()) if kind != "none"]
    place = {kind: n for n, kind in enumerate(kinds)}
    cold = [flows.isel(schedule=n) for n in np.flatnonzero(flows["kind"].to_numpy() == "none")]
    columns = 2 if theory is None else 3
    with style.figure(style.TWO_COLUMNS, 2.9, columns=columns) as (figure, panels):
        for n, kind in enumerate(kinds):
            own = flows.isel(schedule=np.flatnonzero(flows["kind"].to_numpy() == kind))
            shifted = own["T0"].to_numpy() * 1.025 ** (n - (len(kinds) - 1) / 2)
            look = {**style.points(n), **style.line(n), "ms": 3, "lw": 1.1, "elinewidth": 0.7, "capsize": 0}
            reach = np.stack([own["p"] - own["p_low"], own["p_high"] - own["p"]])
            panels[0].errorbar(shifted, own["p"], reach, **look, label=kind)
            errors = own["weight_error"].to_numpy()
            spread = errors.std(1) / np.sqrt(errors.shape[1])
            panels[1].errorbar(shifted, errors.mean(1), spread, **look)
        for untempered, dash in zip(cold, ("--", ":"), strict=True):
            look = {**style.REFERENCE, "linestyle": dash}
            panels[0].axhline(float(untempered["p"]), **look, label=f"no annealing, {int(untempered['steps'])} steps")
            panels[1].axhline(float(untempered["weight_error"].mean()), **look)
        panels[0].set_ylabel(style.LABELS["p"])
        panels[0].set_title(title)
        panels[1].set_ylabel("error of the mode weights")
        panels[1].set_title("the same flows")
        panels[1].set_ylim(bottom=0)
        if theory is not None:
            for kind in theory["kind"].to_numpy().tolist():
                panels[2].plot(theory["T0"], theory["p"].sel(kind=kind), **style.line(place[kind]), lw=1.1)
            panels[2].axhline(float(theory["none"]), **style.REFERENCE)
            panels[2].set_ylabel(style.LABELS["p"])
            panels[2].set_title("two components, by the theory")
            panels[2].set_ylim(-0.03, 1.03)
        panels[0].set_ylim(-0.03, 1.03)
        for panel in panels:
            panel.set_xscale("log")
            panel.set_xlabel(style.LABELS["schedule.T0"])
        for panel in panels[:2]:
            tried = np.unique(flows["T0"].to_numpy()[flows["kind"].to_numpy() != "none"])
            panel.set_xticks(tried, [f"{T0:.3g}" for T0 in tried])
            panel.minorticks_off()
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def rows_in_words(runs: xr.Dataset) -> list[str]:
    """The legend's line for each run of `training_figure`."""
    names = []
    for n in range(runs.sizes["run"]):
        run = runs.isel(run=n)
        cooling = f"{run['kind'].item()}, $T_0 = {float(run['T0']):g}$, {int(run['cooling'])} steps"
        told = ((str(run["gradient"].item()), "path", "gradient"), (str(run["decay"].item()), "cosine", "rate"))
        how = [f"{word} {what}" for word, usual, what in told if word != usual]
        names.append(" · ".join([cooling if int(run["cooling"]) else "no annealing", *how]))
    return names


def training_figure(runs: xr.Dataset) -> Figure:
    """Draw the first mode's weight and KL(q‖p*) at T <= 1.05 while flows are trained.

    Lines are medians over the seeds, shades the range. The left column compares gradient estimators and learning-rate
    decays, the right one schedules under the path gradient and the cosine decay.

    Parameters
    ----------
    runs : xarray.Dataset
        Diagnostics over (run, seed, step), with kind, T0, cooling, gradient and decay of each run.

    Returns
    -------
    matplotlib.figure.Figure
        Four panels.

    Examples
    --------
    >>> figure = training_figure(xr.open_dataset("runs.nc"))  # doctest: +SKIP
    """
    usual = (runs["gradient"].to_numpy() == "path") & (runs["decay"].to_numpy() == "cosine")
    first = int(np.flatnonzero(usual)[0])
    estimators = [first, *np.flatnonzero(~usual).tolist()]
    names, exact = rows_in_words(runs), float(runs["target_weights"].isel(run=0, mode=0))
    with style.figure(style.TWO_COLUMNS, 5.2, 2, 2, sharex="col", sharey="row") as (figure, grid):
        for column, (shown, title) in enumerate(
            ((estimators, "estimator and rate"), (np.flatnonzero(usual).tolist(), "schedules"))
        ):
            for place, n in enumerate(shown):
                run = runs.isel(run=n)
                cold = run["annealed_at"].to_numpy().max(0) < run["step"].to_numpy()
                values = {
                    0: run["mode_weights"].isel(mode=0).to_numpy(),
                    1: np.where(cold, run["reverse_kl"].to_numpy(), np.nan),
                }
                for line, value in values.items():
                    there = np.isfinite(value).all(0)
                    steps, value = run["step"].to_numpy()[there], value[:, there]
                    grid[line, column].fill_between(
                        steps, value.min(0), value.max(0), color=style.line(place)["color"], alpha=0.15, lw=0
                    )
                    grid[line, column].plot(steps, np.median(value, 0), **style.line(place), lw=1.2, label=names[n])
            grid[0, column].axhline(exact, **style.REFERENCE)
            grid[0, column].set_title(title)
            grid[1, column].set_xlabel("step")
            grid[1, column].legend(loc="upper right", fontsize=style.SMALL)
        grid[0, 0].set_ylabel("weight of the first mode")
        grid[1, 0].set_ylabel(r"$\mathrm{KL}(q\,\|\,p^\star)$ at $T \leq 1.05$")
        grid[1, 0].set_yscale("log")
        grid[1, 0].set_ylim(top=8)  # the legends' place
        grid[0, 0].set_ylim(0.45, 1.02)
    return figure
