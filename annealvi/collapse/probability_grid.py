"""P(collapse) by one or more methods over a grid of any keys. A grid is a sweep whose units are its points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.collapse.ensemble import seconds_of_ensemble
from annealvi.collapse.formula import collapse_by_formula
from annealvi.collapse.kernel_sweep import KernelSweep
from annealvi.collapse.outcome import Outcomes, judging
from annealvi.collapse.probability import Collapse, collapse_probability, default_methods
from annealvi.runs.trajectories import seconds_of_simulation
from annealvi.session.session import Session, open_session
from annealvi.show.output import PathLike
from annealvi.sweeps.axis import Axis, Choices, at_ends, require_ends
from annealvi.sweeps.keys import in_words, require_independent, vary
from annealvi.sweeps.pilot import seconds_of
from annealvi.sweeps.running import run_sweep
from annealvi.sweeps.sweep import Variable
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked, require_choice, require_fields
from derive.problem.problem_file import problem_to_toml
from derive.problem.specification import BadInput, Problem

if TYPE_CHECKING:
    import xarray as xr

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "formula": {
        "p_formula": "P(collapse)",
        "error_formula": "what finer quadrature and shooting change in it",
        "p_leading": "P(collapse), leading order",
        "b_c": "b_c, upper end",
        "growth": "growth exponent Λ; NaN where there is none",
    },
    "ode": {
        "p_ode": "P(collapse), ODE ensemble",
        "stderr_ode": "standard error of p_ode",
        "undecided": "trajectories that no proven set decided",
        "vanished_ode": "the part of p_ode in which a learned weight vanishes and no means align",
    },
    "particles": {
        "p_particles": "P(collapse), particles",
        "stderr_particles": "standard error of p_particles",
        "t_end": "when the particles were read",
        "vanished_particles": "the part of p_particles in which a learned weight vanishes and no means align",
    },
}
"""The columns that each method contributes to a grid, with their labels."""
MOST_POINTS = 10**7


@dataclass(frozen=True)
class Sampling:
    """How each point of a grid is sampled; every point uses the same seed.

    Attributes
    ----------
    n : int
        Number of ODE trajectories.
    replicas : int
        Number of independent particle simulations.
    particles : int
        Samples per component and step of a particle simulation.
    dt : float
        Time step of a particle simulation, in units of the flow's time.
    t_end : float or None
        Time of reading, as of `collapse_probability`.
    projected : bool
        Whether particles are drawn only in the span of modes and means.
    seed : int
        Seed at every point.
    least_weight : float or None
        With learned weights, the share of a mode's own weight below which the mode counts as missed; None for 0.1.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.Sampling(n=1000, seed=7).replicas
    64
    """

    n: int = 10_000
    replicas: int = 64
    particles: int = 256
    dt: float = 0.1
    t_end: float | None = None
    projected: bool = False
    seed: int = 0
    least_weight: float | None = None

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_fields(self)


@dataclass(frozen=True)
class CollapseGrid(KernelSweep):
    """P by `methods` at every combination of the axes' values. Raises BadInput for axes that do not make a grid."""

    problem: Problem
    axes: tuple[Axis | Choices, ...]
    methods: tuple[str, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    device: str = "auto"

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_choice("methods", self.methods, tuple(COLUMNS))
        keys = [axis.key for axis in self.axes]
        if not keys:
            raise BadInput("--over", "there is no axis", "give at least one", "")
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise BadInput("--over", f"{twice[0]!r} is given twice", "vary each key once", "")
        require_independent(keys)
        if self.units > MOST_POINTS:
            raise BadInput("--over", f"{self.units} points", f"ask for at most {MOST_POINTS:.0e}", "")
        self.settle_device()
        object.__setattr__(self, "methods", tuple(self.methods) or default_methods(open_session(self.problem)))

    @property
    def varied(self) -> tuple[Axis | Choices, ...]:
        return self.axes

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis.values) for axis in self.axes)

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(axis.key for axis in self.axes)

    @property
    def variables(self) -> Mapping[str, Variable]:
        return {
            name: Variable(attributes={"long_name": label})
            for method in self.methods
            for name, label in COLUMNS[method].items()
        }

    @property
    def coordinates(self) -> Mapping[str, tuple[tuple[str, ...], np.ndarray]]:
        return {axis.key: ((axis.key,), axis.values) for axis in self.axes}

    @property
    def request(self) -> Mapping[str, Any]:
        drawn = {
            "ode": ("n", "t_end", "least_weight", "seed"),
            "particles": ("replicas", "particles", "dt", "t_end", "least_weight", "projected", "seed"),
        }
        sampled = {name: getattr(self.sampling, name) for method in self.methods for name in drawn.get(method, ())}
        settings = {"methods": self.methods, **sampled, "device": self.processor}
        return {"problem": problem_to_toml(self.problem), "axes": [axis.stated for axis in self.axes], **settings}

    def check(self) -> None:
        """Try the ends of each axis, with the other axes at their first values."""
        require_ends(self.problem, self.axes)
        for settings in at_ends(self.axes):
            judging(self._session(settings), self.sampling.least_weight)  # refuses a meaningless least_weight

    def compute(self, unit: int, tell: Callable[[str], None] | None = None) -> Mapping[str, Any]:
        """Compute one point of the grid."""
        settings = self._settings(unit)
        try:
            found = collapse_probability(
                self._session(settings), self.methods, device=self.device, tell=tell, **vars(self.sampling)
            )
        except BadInput as wrong:
            raise wrong.at(f"at {in_words(settings)}") from None
        columns = _columns(found)
        return {name: columns[name] for name in self.variables}

    def seconds_per_unit(self) -> float:
        """Time the formula and a small ensemble at the middle point, and estimate particle runs from their size."""
        settings = self._settings(int(np.ravel_multi_index([n // 2 for n in self.shape], self.shape)))
        session = self._session(settings)
        sampling, seconds = self.sampling, 0.0
        if "formula" in self.methods:
            seconds += seconds_of(lambda: collapse_by_formula(session, device=self.device))
        if "ode" in self.methods:
            end = sampling.t_end
            seconds += seconds_of_ensemble(lambda: (self._session(settings), None), sampling.n, self.device, end)
        if "particles" in self.methods:
            drawn = (sampling.replicas, sampling.particles, sampling.dt, sampling.t_end, sampling.projected)
            seconds += seconds_of_simulation(session, *drawn, self.device)
        return seconds

    def _settings(self, unit: int) -> dict[str, Any]:
        place = np.unravel_index(unit, self.shape)
        return {axis.key: axis.settings[int(n)] for axis, n in zip(self.axes, place, strict=True)}

    def _session(self, settings: Mapping[str, Any]) -> Session:
        return open_session(vary(self.problem, settings))


def _columns(found: Collapse) -> dict[str, float]:
    columns: dict[str, float] = {}
    if found.formula is not None:
        formula = found.formula
        growth = np.nan if formula.growth is None else formula.growth
        columns |= {"p_formula": formula.p, "error_formula": formula.error, "p_leading": formula.leading}
        columns |= {"b_c": formula.b_c[1], "growth": growth}
    if found.ode is not None:
        columns |= {
            "p_ode": found.ode.outcomes.p,
            "stderr_ode": found.ode.outcomes.stderr,
            "undecided": found.ode.undecided,
        }
        columns["vanished_ode"] = _vanished(found.ode.outcomes)
    if found.particles is not None:
        runs = found.particles
        columns |= {"p_particles": runs.outcomes.p, "stderr_particles": runs.outcomes.stderr, "t_end": runs.t_end}
        columns["vanished_particles"] = _vanished(runs.outcomes)
    return columns


def _vanished(outcomes: Outcomes) -> float:
    return 0.0 if outcomes.mechanisms is None else outcomes.mechanisms["weight_vanishes"]


@checked
def collapse_grid(
    problem: Problem,
    axes: tuple[Axis | Choices, ...],
    methods: tuple[str, ...] = (),
    *,
    sampling: Sampling | None = None,
    device: str = "auto",
    path: PathLike | None = None,
    **running: Any,
) -> xr.Dataset:
    """Compute P(collapse) at every combination of the axes' values.

    Parameters
    ----------
    problem : Problem
        The problem; the axes' keys override its values.
    axes : tuple of Axis or Choices
        The keys and their values, each key once.
    methods : tuple of {"formula", "ode", "particles"}
        By default the methods that `collapse_probability` takes for the problem itself.
    sampling : Sampling, optional
        Sizes, seed and reading time of the runs at each point.
    device : {"auto", "cpu", "cuda"}
        Where kernels and particles run.
    path : path-like, optional
        A netCDF file to write. The same call continues an interrupted grid, to the same file byte for byte.
    **running
        `how` (an `Execution`), `progress` and `tell` of `annealvi.sweeps.running.run_sweep`.

    Returns
    -------
    xarray.Dataset
        The keys as coordinates, in the order of `axes`. "formula" gives `p_formula`, `error_formula`, `p_leading`,
        `b_c` and `growth`; "ode" gives `p_ode`, `stderr_ode`, `undecided` and `vanished_ode`; "particles" gives
        `p_particles`, `stderr_particles`, `t_end` and `vanished_particles`.

    Raises
    ------
    BadInput
        For no axis, for a key given twice, for keys that set the same number, and for values or methods that the
        problem refuses.

    Examples
    --------
    >>> import annealvi
    >>> axes = (annealvi.Axis("schedule.T0", 10, 1000, 5, log=True), annealvi.Choices("space.dimension", [32, 128]))
    >>> data = annealvi.collapse_grid(annealvi.load_problem("bimodal"), axes, ("formula",))  # doctest: +SKIP
    """
    return run_sweep(CollapseGrid(problem, tuple(axes), methods, sampling or Sampling(), device), path, **running)


def grid_as_dict(data: xr.Dataset, methods: Sequence[str]) -> dict[str, Any]:
    """Return the JSON form.

    It has the axes' values, then `p` and, where sampled, `stderr` of each method, nested in the order of the axes.
    """
    found: dict[str, Any] = {"axes": {str(key): data[key].to_numpy().tolist() for key in data["p_" + methods[0]].dims}}
    for method in methods:
        columns = {
            "p": f"p_{method}",
            "stderr": f"stderr_{method}",
            "error": f"error_{method}",
            "weight_vanishes": f"vanished_{method}",
        }
        found[method] = {name: data[column].to_numpy() for name, column in columns.items() if column in data}
    return found
