"""Figures, drawn without a display and written whole. One style: Okabe–Ito colours, which the colour-blind can tell apart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure

from annealvi.checks.particles import PathComparison
from annealvi.output import write_file
from derive.notation import symbol_tex

MOST_COLUMNS = 5
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "mathtext.fontset": "cm",
    "axes.prop_cycle": cycler(color=COLOURS),
}


def draw_comparisons(comparisons: tuple[PathComparison, ...], states: tuple[Any, ...], path: Path) -> Path:
    """ODE paths as lines with the particles' means and bands of two standard errors; below, their difference in standard errors.

    states: the symbols, in order.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.3 * len(comparisons), 4.6), layout="constrained")
        grid = figure.subplots(2, len(comparisons), sharex="col", sharey="row", height_ratios=(3, 1), squeeze=False)
        for column, comparison in enumerate(comparisons):
            above, below = grid[:, column]
            for n, state in enumerate(states):
                colour, name = COLOURS[n % len(COLOURS)], f"${symbol_tex(state)}$"
                above.plot(comparison.drawn_t, comparison.drawn[:, n], color=colour, lw=1.4, label=name)
                mean, error = comparison.particles[:, n], comparison.standard_error[:, n]
                above.fill_between(comparison.t, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.25, lw=0)
                above.plot(comparison.t, mean, "o", color=colour, ms=3.5, mfc="white")
                below.plot(comparison.t[1:], comparison.z[:, n], "o", color=colour, ms=3)
            above.set_title(comparison.setting.name)
            below.axhspan(-2, 2, color="0.92", zorder=0)
            below.set_xlabel("time $t$")
        grid[0, 0].set_ylabel("overlap")
        grid[1, 0].set_ylabel("difference / s.e.")
        grid[0, -1].legend(loc="best", title="line: ODE\npoints: particles", alignment="left")
        return save_figure(figure, path)


def draw_paths(paths: Any, path: Path) -> Path:
    """Every path of every state, thin, with the mean over replicas; the inverse temperature in a panel of its own, the last."""
    with mpl.rc_context(STYLE):
        columns = min(MOST_COLUMNS, len(paths.states) + 1)
        rows = -(-(len(paths.states) + 1) // columns)
        figure = Figure(figsize=(max(6.0, 2.3 * columns), 2.1 * rows + 0.6), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
        shown = paths.values[: min(len(paths.values), 200)]
        alpha = max(0.08, min(0.7, 8 / len(shown)))
        for n, (panel, name) in enumerate(zip(panels, paths.states, strict=False)):
            panel.plot(paths.t, shown[:, :, n].T, color=_colour_of(name), lw=0.6, alpha=alpha)
            if paths.standard_error is not None and len(paths.values) > 1:
                panel.plot(paths.t, paths.values[:, :, n].mean(0), color="black", lw=1.2)
            panel.set_title(f"${_state_tex(name)}$", pad=3)
        last = len(paths.states)
        panels[last].plot(paths.t, np.atleast_2d(paths.beta)[: len(shown)].T, color="0.3", lw=1.2)
        panels[last].set_title(r"$\beta$", pad=3)
        panels[last].set_ylim(0, 1.05)
        for panel in panels[last + 1 :]:
            panel.remove()
        for panel in panels[max(0, last + 1 - columns) : last + 1]:
            panel.set_xlabel("time $t$")
            panel.tick_params(labelbottom=True)
        return save_figure(figure, path)


def _colour_of(name: str) -> str:
    """One colour for each kind of state: overlaps with the target, overlaps within the proposal, weights, scales."""
    kinds = ("m", "M", "s", "Q", "w", "sigma")
    return COLOURS[kinds.index(name.split("_")[0]) // 2 + (name.startswith("sigma"))]


def _state_tex(name: str) -> str:
    import sympy as sp

    return symbol_tex(sp.Symbol(name))


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure in the format of the file's name, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix.lstrip("."), dpi=160)
    write_file(path, buffer.getvalue())
    return path
