"""Figures of paths: the derived equations beside the particles, and all paths of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from annealvi.show import style
from annealvi.verification.against_particles import PathComparison
from derive.objects.notation import symbol_tex
from derive.objects.parameters import PARAMETERS

MOST_COLUMNS = 5
OVERLAPS = ("m", "M", "s", "Q")
"""The first letters of overlaps' names."""


def draw_comparisons(comparisons: tuple[PathComparison, ...], states: tuple[Any, ...], path: Path) -> Path:
    """Draw ODE paths as lines, with the particles' means as points and bands of two standard errors.

    A panel below each shows the differences in standard errors. states: their symbols, in order. Returns the path.
    """
    layout: dict[str, Any] = {"sharex": "col", "sharey": "row", "height_ratios": (3, 1), "squeeze": False}
    width = style.TWO_COLUMNS if len(comparisons) > 1 else style.ONE_COLUMN
    with style.figure(width, 3.6, 2, len(comparisons), **layout) as (figure, grid):
        for column, comparison in enumerate(comparisons):
            above, below = grid[:, column]
            for n, state in enumerate(states):
                colour = style.line(n)["color"]
                above.plot(comparison.drawn_t, comparison.drawn[:, n], **style.line(n), label=f"${symbol_tex(state)}$")
                mean, error = comparison.particles[:, n], comparison.standard_error[:, n]
                above.fill_between(comparison.t, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.25, lw=0)
                above.plot(comparison.t, mean, **style.points(n), ms=3.5)
                below.plot(comparison.t[1:], comparison.z[:, n], **style.points(n), ms=3)
            above.set_title(comparison.setting.name)
            below.axhspan(-2, 2, color=style.BAND, zorder=0)
            below.set_xlabel(style.LABELS["t"])
        overlaps = all(state.name.split("_")[0] in OVERLAPS for state in states)
        grid[0, 0].set_ylabel("overlap" if overlaps else "state")
        grid[1, 0].set_ylabel("difference / s.e.")
        grid[0, -1].legend(loc="best", title="line: ODE\npoints: particles", alignment="left")
    return style.save(figure, path)


def draw_paths(paths: Any, path: Path) -> Path:
    """Draw up to 200 paths of each state as thin lines, and the mean over replicas where the paths are of particles.

    The last panel shows the inverse temperature. Returns the path.
    """
    columns = min(MOST_COLUMNS, len(paths.states) + 1)
    rows = -(-(len(paths.states) + 1) // columns)
    with style.figure(style.TWO_COLUMNS, 1.6 * rows + 0.5, rows, columns, sharex=True, squeeze=False) as (figure, grid):
        panels = grid.ravel()
        shown = paths.values[: min(len(paths.values), 200)]
        alpha = max(0.08, min(0.7, 8 / len(shown)))
        for n, (panel, name) in enumerate(zip(panels, paths.states, strict=False)):
            panel.plot(paths.t, shown[:, :, n].T, color=_colour_of(name), lw=0.6, alpha=alpha)
            if paths.standard_error is not None and len(paths.values) > 1:
                panel.plot(paths.t, paths.values[:, :, n].mean(0), color=style.BLACK, lw=1.2)
            panel.set_title(f"${_state_tex(name)}$")
        last = len(paths.states)
        panels[last].plot(paths.t, np.atleast_2d(paths.beta)[: len(shown)].T, color=style.REFERENCE["color"], lw=1.2)
        panels[last].set_title(r"$\beta$")
        panels[last].set_ylim(0, 1.05)
        for panel in panels[last + 1 :]:
            panel.remove()
        for panel in panels[max(0, last + 1 - columns) : last + 1]:
            panel.set_xlabel(style.LABELS["t"])
            panel.tick_params(labelbottom=True)
    return style.save(figure, path)


def _colour_of(name: str) -> str:
    """The colour of a state's kind: overlaps with the target or coordinates in its span, overlaps within the proposal,
    or what is learned.
    """
    kinds = ("m M X", "s Q", *(parameter.letter for parameter in PARAMETERS), "Sigma")
    (place,) = (n for n, letters in enumerate(kinds) if name.split("_")[0] in letters.split())
    return style.SERIES[place % len(style.SERIES)]


def _state_tex(name: str) -> str:
    import sympy as sp

    return symbol_tex(sp.Symbol(name))
