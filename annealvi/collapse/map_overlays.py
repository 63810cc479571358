"""Overlays of a phase map: the same probability at fewer points, by the two routes that sample it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from annealvi.collapse.phase_maps import PhaseMap
from annealvi.collapse.probability_grid import CollapseGrid, Sampling
from annealvi.sweeps.axis import Axis, Choices
from annealvi.sweeps.running import run_sweep
from derive.problem.specification import BadInput, Problem

if TYPE_CHECKING:
    import xarray as xr


def ensemble_map(
    problem: Problem,
    x: Axis | Choices,
    y: Axis | Choices,
    count: int,
    n: int = 4000,
    seed: int = 0,
    device: str = "auto",
    least_weight: float | None = None,
) -> PhaseMap:
    """Return the map of P by ODE ensembles at count × count points over the ranges of x and y."""
    return PhaseMap(problem, coarser(x, count), coarser(y, count), "p_ode", n, seed, device, least_weight)


def overlay_by_ode(problem: Problem, x: Axis | Choices, y: Axis | Choices, count: int, **options: Any) -> xr.Dataset:
    """Map P(collapse) by ODE ensembles at count × count points, as an overlay for a finer phase map.

    Parameters
    ----------
    problem : Problem
        The problem; the two keys override its values.
    x, y : Axis
        The ranges of the finer map; a `Choices` has no range and is refused.
    count : int
        Number of points in each direction.
    **options
        `n` (trajectories at each point, 4000), `seed`, `device` and `least_weight`, as of `phase_map`.

    Returns
    -------
    xarray.Dataset
        The variable `p_ode` over (y, x), shape (count, count).

    Raises
    ------
    BadInput
        For an axis without a range, and for values that the problem refuses.

    Examples
    --------
    >>> import annealvi
    >>> T0 = annealvi.Axis("schedule.T0", 10, 1000, 50, log=True)
    >>> t0 = annealvi.Axis("schedule.t0", 10, 10_000, 50, log=True)
    >>> coarse = annealvi.overlay_by_ode(annealvi.load_problem("bimodal"), T0, t0, 6, n=1000)  # doctest: +SKIP
    """
    return run_sweep(ensemble_map(problem, x, y, count, **options))


def particle_grid(
    problem: Problem,
    x: Axis | Choices,
    y: Axis | Choices,
    count: int,
    replicas: int = 32,
    seed: int = 0,
    device: str = "auto",
    least_weight: float | None = None,
) -> CollapseGrid:
    """Return the grid of P by particle runs at count × count points inside the map.

    Each run is read after an ODE ensemble at the same point is decided (see `collapse_probability`).
    """
    axes = tuple(Choices(axis.key, coarser(axis, count + 2).settings[1:-1]) for axis in (y, x))
    sampling = Sampling(n=1000, replicas=replicas, seed=seed, least_weight=least_weight)
    return CollapseGrid(problem, axes, ("ode", "particles"), sampling, device)


def coarser(axis: Axis | Choices, count: int) -> Axis:
    """Return the same range with another number of points. Raises BadInput for an axis without a range."""
    if isinstance(axis, Choices):
        raise BadInput(
            "--ode", f"{axis.key} has no range to take points from", "write KEY=LO:HI:N, or leave the overlay out", ""
        )
    return replace(axis, count=count)
