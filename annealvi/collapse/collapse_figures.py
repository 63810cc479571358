"""Figures of the probability of collapse: maps over two keys and curves over one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annealvi.show import style

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis, YAxis
    from matplotlib.collections import QuadMesh

NAMES = {"formula": "formula", "ode": "ODE ensemble", "particles": "particles"}
FEW_DECADES = 100.0
"""A logarithmic axis whose ends have a smaller ratio than this gets labels at 1, 2 and 5 as well."""
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""Probabilities at which contours are drawn."""


def draw_phase(
    data: xr.Dataset, path: Path, ode: xr.Dataset | None = None, particles: xr.Dataset | None = None
) -> Path:
    """Draw a map to a file: colours with labelled contours, and optional overlays.

    Dashed lines are the contours of an ODE ensemble's coarser map, and discs are particle runs.
    """
    with style.figure(4.6, 3.6) as (figure, axes):
        mesh = phase_panel(axes, data, ode, particles)
        values = next(iter(data.data_vars.values()))
        figure.colorbar(mesh, label=values.attrs["long_name"])
        if ode is not None or particles is not None:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return style.save(figure, path)


def phase_panel(
    axes: Axes, data: xr.Dataset, ode: xr.Dataset | None = None, particles: xr.Dataset | None = None
) -> QuadMesh:
    """Draw a phase map into a panel of an existing figure.

    Colours show the mapped result. A probability over two numeric keys also gets labelled contours.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        The panel.
    data : xarray.Dataset
        A map with one result over two keys, as `phase_map` returns it.
    ode : xarray.Dataset, optional
        A coarser map of `p_ode` by ODE ensembles over the same keys, drawn as dashed contours; see `overlay_by_ode`.
    particles : xarray.Dataset, optional
        A grid of `p_particles` over the same keys, drawn as discs.

    Returns
    -------
    matplotlib.collections.QuadMesh
        The coloured mesh, from which a colour bar can be made.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from annealvi import phase_panel, style
    >>> p = (("schedule.t0", "schedule.T0"), np.array([[0.9, 0.5], [0.4, 0.1]]), {"long_name": "P(collapse)"})
    >>> data = xr.Dataset({"p": p}, {"schedule.T0": [10.0, 100.0], "schedule.t0": [30.0, 300.0]})
    >>> with style.figure(4.6, 3.6) as (figure, axes):
    ...     mesh = phase_panel(axes, data)
    >>> mesh.get_array().shape
    (2, 2)
    """
    result = next(iter(data.data_vars))
    data = _in_order(data)
    values = data[result]
    y, x = (str(key) for key in values.dims)
    probability = str(result).startswith("p")
    limits = style.Normalize(0, 1) if probability else None
    places = _places(data[x]), _places(data[y])
    mesh = axes.pcolormesh(*places, values, cmap=style.MAP, norm=limits, shading="nearest", rasterized=True)
    continuous = data[x].dtype.kind == data[y].dtype.kind == "f" and min(values.shape) > 1
    if probability and continuous:
        lines = axes.contour(*places, values, levels=LEVELS, colors=style.OVERLAY, linewidths=0.9)
        axes.clabel(lines, fontsize=style.SMALL, fmt="%g")
    if ode is not None:
        axes.contour(
            ode[x], ode[y], ode["p_ode"], levels=LEVELS, colors=style.ORANGE, linewidths=1.1, linestyles="dashed"
        )
        axes.plot([], [], "--", color=style.ORANGE, lw=1.1, label="ODE ensemble")
    if particles is not None:
        grid = np.meshgrid(particles[x], particles[y])
        shown = particles["p_particles"]
        axes.scatter(
            *grid,
            c=shown,
            cmap=style.MAP,
            norm=limits,
            s=45,
            edgecolors=style.OVERLAY,
            linewidths=1.2,
            label="particles",
        )
    for axis, key, scale in ((axes.xaxis, x, axes.set_xscale), (axes.yaxis, y, axes.set_yscale)):
        _graduate(axis, data[key], scale)
    axes.set_xlabel(style.label(x))
    axes.set_ylabel(style.label(y))
    return mesh


def draw_grid(data: xr.Dataset, methods: Sequence[str], path: Path) -> Path:
    """Draw a grid of P(collapse) to a file.

    Over one key the figure shows every method, with standard errors. Over two keys it is a map by the first method.
    """
    columns = [f"p_{method}" for method in methods]
    if len(data.dims) == 2:
        return draw_phase(data[columns[:1]], path)
    (key,) = (str(dim) for dim in data.dims)
    data = _in_order(data)
    with style.figure(style.ONE_COLUMN, 2.7) as (figure, axes):
        for n, (method, column) in enumerate(zip(methods, columns, strict=True)):
            error = data.get(f"stderr_{method}")
            look = {**style.points(n), **style.line(n), "ms": 3.5, "lw": 1.1, "elinewidth": 0.8}
            if data[key].dtype.kind != "f":
                look["linestyle"] = "none"  # nothing lies between words
            axes.errorbar(_places(data[key]), data[column], error, **look, label=NAMES[method])
        _graduate(axes.xaxis, data[key], axes.set_xscale)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(style.label(key))
        axes.set_ylabel(style.LABELS["p"])
        axes.legend()
    return style.save(figure, path)


def _in_order(data: xr.Dataset) -> xr.Dataset:
    """Sort numeric coordinates in ascending order."""
    return data.sortby([str(key) for key in data.dims if data[key].dtype.kind == "f"])


def _places(coordinate: xr.DataArray) -> np.ndarray:
    """Return where the values of a coordinate stand on its axis: numbers at their value, words side by side."""
    return coordinate.to_numpy() if coordinate.dtype.kind == "f" else np.arange(len(coordinate))


def _graduate(axis: XAxis | YAxis, coordinate: xr.DataArray, set_scale: Callable[[str], None]) -> None:
    """Set an axis's scale and labels: words as ticks, numbers in equal ratios on a logarithmic scale."""
    steps = coordinate.to_numpy()
    if coordinate.dtype.kind != "f":
        axis.set_ticks(range(len(steps)), labels=[str(word) for word in steps])
    elif len(steps) > 2 and steps[0] > 0 and np.allclose(steps[1:] / steps[:-1], steps[1] / steps[0]):
        set_scale("log")
        if steps[-1] < FEW_DECADES * steps[0]:  # powers of ten would give one label or two
            axis.set_major_locator(style.ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(style.ticker.FormatStrFormatter("%g"))
            axis.set_minor_formatter(style.ticker.NullFormatter())
