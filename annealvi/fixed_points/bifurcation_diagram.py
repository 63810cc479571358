"""The bifurcation diagram: every branch of fixed points over the temperature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from annealvi.fixed_points.branches import Branch, Branches
from annealvi.show import style
from annealvi.show.output import PathLike
from derive.objects.notation import symbol_tex
from derive.problem.specification import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS = 6
UNSTABLE: dict[str, Any] = {"color": style.FAINT, "lw": 1.0, "ls": (0, (4, 2.5))}
MARKERS = {"fold": ("o", "fold"), "pitchfork": ("D", "pitchfork"), "branch point": ("s", "branch point")}
"""The marker and legend text of each kind of bifurcation."""


def bifurcation_figure(branches: Branches, path: PathLike | None = None, states: Sequence[str] | None = None) -> Figure:
    """Draw branches of fixed points with all their images over the temperature.

    Stable parts are solid, with a colour for each branch. Unstable parts are dashed, and bifurcations are marked.

    Parameters
    ----------
    branches : Branches
        The branches, as `continue_branches` returns them.
    path : path-like, optional
        A PNG, PDF or SVG file to write.
    states : sequence of str, optional
        One panel for each of these states; by default all states whose panels differ, at most six.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    BadInput
        For a name that is no state.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))  # doctest: +SKIP
    >>> annealvi.bifurcation_figure(annealvi.continue_branches(session), "branches.pdf")  # doctest: +SKIP
    """
    names = list(branches.state_names)
    shown = _telling_apart(branches) if states is None else [_place_of(name, names) for name in states]
    coloured = iter(style.SERIES * (1 + len(branches.branches) // len(style.SERIES)))
    colours = {n: next(coloured) for n, branch in enumerate(branches.branches) if branch.stable.any()}
    rows = -(-len(shown) // 3)
    columns = -(-len(shown) // rows)
    width = 4.6 if columns == 1 else style.TWO_COLUMNS
    with style.figure(width, 2.4 * rows + 0.35, rows, columns, sharex=True, squeeze=False) as (figure, grid):
        panels = grid.ravel()
        for panel, state in zip(panels, shown, strict=False):
            for n, branch in enumerate(branches.branches):
                _draw_branch(panel, branch, state, colours.get(n, style.FAINT))
            panel.set_xscale("log")
            panel.set_xlim(*_range_of(branches))
            panel.set_xlabel(style.LABELS["T"])
            panel.set_ylabel(f"${symbol_tex(sp.Symbol(names[state]))}$", rotation=0, labelpad=10)
        for panel in panels[len(shown) :]:
            panel.remove()
        kinds = {b.kind for b in branches.bifurcations}
        handles = [
            style.Line2D([], [], color=style.BLACK, lw=1.8, label="stable, a colour for each branch"),
            style.Line2D([], [], **UNSTABLE, label="unstable"),
        ]
        handles += [_marker(kind, label=text) for kind, (_, text) in MARKERS.items() if kind in kinds]
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    if path is not None:
        style.save(figure, path)
    return figure


def _draw_branch(panel: Axes, branch: Branch, state: int, colour: str) -> None:
    for image in branch.images:
        values, stable = image[:, state], branch.stable
        for first, last, solid in _runs(stable):
            part = slice(first, last + 1)
            look = {"color": colour, "lw": 1.8, "zorder": 3} if solid else {**UNSTABLE, "zorder": 2}
            panel.plot(branch.temperature[part], values[part], solid_capstyle="butt", **look)
    for bifurcation in branch.bifurcations:
        for image in bifurcation.images:
            panel.add_line(_marker(bifurcation.kind, [bifurcation.temperature], [image[state]]))


def _marker(kind: str, x: Sequence[float] = (), y: Sequence[float] = (), label: str = "") -> style.Line2D:
    shape = MARKERS[kind][0]
    return style.Line2D(x, y, ls="", marker=shape, ms=4.5, mfc="white", mec=style.BLACK, mew=1.0, zorder=4, label=label)


def _runs(flags: np.ndarray) -> list[tuple[int, int, bool]]:
    """Return (first, last, flag) of each run of equal flags.

    An unstable run reaches to the points on either side, so that the curve has no gap.
    """
    edges = np.flatnonzero(np.diff(flags.astype(int))) + 1
    runs: list[tuple[int, int, bool]] = []
    for first, after in zip([0, *edges], [*edges, len(flags)], strict=True):
        flag = bool(flags[first])
        runs.append((first, after - 1, flag) if flag else (max(0, first - 1), min(len(flags) - 1, after), flag))
    return runs


def _telling_apart(branches: Branches) -> list[int]:
    """Return the states whose panels differ, at most MOST_PANELS: equal components have equal panels."""
    kept: list[int] = []
    curves: list[np.ndarray] = []
    for n in range(len(branches.state_names)):
        values = np.sort(np.concatenate([image[:, n] for branch in branches.branches for image in branch.images]))
        if not any(np.allclose(values, other, atol=1e-6 * max(1.0, np.abs(values).max())) for other in curves):
            kept.append(n)
            curves.append(values)
    return kept[:MOST_PANELS]


def _place_of(name: str, names: list[str]) -> int:
    if name not in names:
        raise BadInput("states", f"{name!r} is no state", f"the states are {', '.join(names)}", "")
    return names.index(name)


def _range_of(branches: Branches) -> tuple[float, float]:
    temperatures = np.concatenate([branch.temperature for branch in branches.branches])
    return float(temperatures.min()), float(temperatures.max())
