"""Maps of a result over two keys of a problem. A map is a sweep whose units are its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi.collapse.ensemble import Ensemble, collapse_by_ensemble, seconds_of_ensemble
from annealvi.collapse.family import Family, Member
from annealvi.collapse.formula_coverage import INSTEAD_OF_MAPPING, is_quick, require_quick
from annealvi.collapse.growth import transverse_growth
from annealvi.collapse.kernel_sweep import KernelSweep
from annealvi.collapse.outcome import judging
from annealvi.collapse.separatrix import QUICK, Guess
from annealvi.session.session import Session, open_session
from annealvi.show.output import PathLike, write_file
from annealvi.sweeps.axis import Axis, Choices, at_ends, require_ends
from annealvi.sweeps.keys import in_words, require_independent, vary
from annealvi.sweeps.pilot import seconds_of
from annealvi.sweeps.running import run_sweep
from annealvi.sweeps.sweep import Variable
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked, require_choice
from derive.problem.problem_file import problem_to_toml
from derive.problem.specification import ADAPTIVE_KINDS, BadInput, Problem

if TYPE_CHECKING:
    import xarray as xr

    from kernels.integrate.kernel import Kernel

RESULTS = {
    "p": "P(collapse)",
    "p_leading": "P(collapse), leading order",
    "b_c": "b_c",
    "growth": "growth exponent Λ",
    "p_ode": "P(collapse), ODE ensemble",
}
"""What a map can show, with its label."""
OF_ENSEMBLES = {"stderr_ode": "standard error of P(collapse)", "runs_ode": "number of trajectories"}
"""What a map by ensembles has besides."""
MOST_POINTS = 10**6
PILOT = 8
"""Number of points that are computed to estimate the time of a row."""


@dataclass(frozen=True)
class PhaseMap(KernelSweep):
    """A map of one of RESULTS over x and y; by default that of `default_result`.

    n, error, seed and least_weight belong to the ODE ensembles of "p_ode", which all begin with the same starts. Each
    row begins without a guess, so no row depends on another one. Raises BadInput for axes that do not make a map.
    """

    problem: Problem
    x: Axis | Choices
    y: Axis | Choices
    result: str = ""
    n: int = 4000
    seed: int = 0
    device: str = "auto"
    least_weight: float | None = None
    error: float = 0.0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_choice("result", [self.result or "p"], tuple(RESULTS))
        if self.x.key == self.y.key:
            raise BadInput("--y", f"{self.y.key!r} is the key of --x already", "vary another key", "")
        require_independent((self.x.key, self.y.key))
        if (points := len(self.x.values) * len(self.y.values)) > MOST_POINTS:
            raise BadInput("--x", f"{points} points", f"ask for at most {MOST_POINTS:.0e}", "")
        if not self.result:
            object.__setattr__(self, "result", default_result(self.problem, self.varied))
        if self.result != "p_ode":
            if self.least_weight is not None:
                raise BadInput("--least-weight", "no ensemble is asked for", "add --result p_ode, or leave it out", "")
            require_quick(self.problem, INSTEAD_OF_MAPPING)
        self.settle_device()

    @property
    def varied(self) -> tuple[Axis | Choices, ...]:
        return self.x, self.y

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.y.values),)

    @property
    def dims(self) -> tuple[str, ...]:
        return (self.y.key,)

    @property
    def variables(self) -> Mapping[str, Variable]:
        labels = {self.result: RESULTS[self.result], **(OF_ENSEMBLES if self.result == "p_ode" else {})}
        size = (len(self.x.values),)
        return {name: Variable((self.x.key,), size, {"long_name": label}) for name, label in labels.items()}

    @property
    def coordinates(self) -> Mapping[str, tuple[tuple[str, ...], np.ndarray]]:
        return {axis.key: ((axis.key,), axis.values) for axis in (self.y, self.x)}

    @property
    def request(self) -> Mapping[str, Any]:
        sampled = {name: getattr(self, name) for name in ("n", "error", "seed", "least_weight")}
        axes = {"x": self.x.stated, "y": self.y.stated}
        return {
            "problem": problem_to_toml(self.problem),
            **axes,
            "result": self.result,
            **(sampled if self.result == "p_ode" else {}),
            "device": self.processor,
        }

    @property
    def remarks(self) -> tuple[str, ...]:
        if self.problem.schedule.kind in ADAPTIVE_KINDS:
            return ("under an adaptive schedule each point of the ensembles is derived and compiled by itself",)
        return ()

    @property
    def points_per_unit(self) -> int:
        return len(self.x.values)

    def check(self) -> None:
        """Try the ends of each axis, with the other axis at its first value."""
        tried = require_ends(self.problem, self.varied)
        for problem in tried if self.result != "p_ode" else ():
            require_quick(problem, INSTEAD_OF_MAPPING)
        for settings in at_ends(self.varied):
            judging(self._at(settings)[0], self.least_weight)  # refuses a meaningless least_weight

    def compute(self, unit: int, tell: Callable[[str], None] | None = None) -> Mapping[str, Any]:
        """Compute one row of the map."""
        return self._row(self.y.settings[unit], list(self.x.settings))

    def seconds_per_unit(self) -> float:
        """Time some points in the middle of a row, where every point but the first has a guess."""
        value, settings = self.y.settings[len(self.y.settings) // 2], list(self.x.settings)
        if self.result == "p_ode":
            middle = settings[len(settings) // 2]
            most = min(self.n, math.ceil(0.25 / self.error**2)) if self.error > 0 else self.n
            return len(settings) * seconds_of_ensemble(
                lambda: self._at({self.y.key: value, self.x.key: middle}), most, self.device
            )
        middle = settings[max(0, (len(settings) - PILOT) // 2) :][:PILOT]
        return seconds_of(lambda: self._row(value, middle)) * len(settings) / len(middle)

    @property
    def _family(self) -> Family | None:
        """The problem's family; None under an adaptive schedule, whose kernels belong to one schedule each."""
        if self.problem.schedule.kind in ADAPTIVE_KINDS:
            return None
        return _family_of(self.problem, self.device, default_result(self.problem, self.varied) == "p")

    def _at(self, values: Mapping[str, Any]) -> tuple[Session, Kernel | None]:
        """Return a point's session, and its kernel where the family has compiled it."""
        if self._family is None:
            return open_session(vary(self.problem, values)), None
        member = self._family.at(values)
        return member.session, member.kernel

    def _row(self, y: Any, xs: list[Any]) -> Mapping[str, np.ndarray]:
        settings: dict[str, Any] = {}
        try:
            return self._values(y, xs, settings)
        except BadInput as wrong:
            raise wrong.at(f"at {in_words(settings)}") from None

    def _values(self, y: Any, xs: list[Any], settings: dict[str, Any]) -> Mapping[str, np.ndarray]:
        """Compute a row, and keep `settings` at the current point for error messages."""
        if self.result == "p_ode":
            ensembles = list(self._ensembles(y, xs, settings))
            return {
                "p_ode": np.array([found.outcomes.p for found in ensembles]),
                "stderr_ode": np.array([found.outcomes.stderr for found in ensembles]),
                "runs_ode": np.array([len(found.t) for found in ensembles]),
            }
        assert self._family is not None  # the formula is refused for the problems that have no family
        member: Member | None = None
        boundaries: list[float] = []
        guess: Guess | None = None
        values = []
        for value in xs:
            settings.update({self.y.key: y, self.x.key: value})
            member = self._family.at(settings, member)
            separatrix = member.separatrix
            if self.result == "p":
                if self.x.key == "space.dimension":
                    guess = None  # a guess is in units of the range that belongs to d
                corrected = separatrix.corrected(QUICK, guess)
                guess = corrected.guess
                values.append(corrected.p)
            elif self.result == "growth":
                values.append(
                    transverse_growth(member.kernel, separatrix.traps, separatrix.t_end)
                    if separatrix.symmetric
                    else np.nan
                )
            else:
                leading = separatrix.leading(QUICK, _next_of(boundaries))
                boundaries = [*boundaries[-1:], leading.b_c[1]] if separatrix.symmetric and leading.b_c[1] > 0 else []
                values.append(leading.p if self.result == "p_leading" else leading.b_c[1])
        return {self.result: np.array(values)}

    def _ensembles(self, y: Any, xs: list[Any], settings: dict[str, Any]) -> Iterator[Ensemble]:
        """Run the ensemble of each point of a row."""
        member: Member | None = None
        options: dict[str, Any] = {"n": self.n, "error": self.error, "seed": self.seed, "device": self.device}
        for value in xs:
            settings.update({self.y.key: y, self.x.key: value})
            if self._family is None:
                session, kernel = open_session(vary(self.problem, settings)), None
            else:
                member = self._family.at(settings, member)
                session, kernel = member.session, member.kernel
            yield collapse_by_ensemble(session, kernel=kernel, least_weight=self.least_weight, **options)


def default_result(problem: Problem, axes: tuple[Axis | Choices, ...]) -> str:
    """Return "p" where the formula covers the problem and the ends of all axes, and takes seconds; else "p_ode"."""
    return "p" if all(is_quick(one) for one in (problem, *require_ends(problem, axes))) else "p_ode"


def _next_of(boundaries: list[float]) -> float | None:
    """Extrapolate the next boundary from the last two in equal ratios."""
    if len(boundaries) < 2:
        return boundaries[-1] if boundaries else None
    return min(boundaries[1] ** 2 / boundaries[0], 2 * boundaries[1])


@lru_cache(maxsize=4)
def _family_of(problem: Problem, device: str, formula: bool) -> Family:
    return Family.of(problem, device, formula=formula)


@checked
def phase_map(
    problem: Problem,
    x: Axis | Choices,
    y: Axis | Choices,
    result: str | None = None,
    *,
    n: int = 4000,
    error: float = 0.0,
    seed: int = 0,
    device: str = "auto",
    least_weight: float | None = None,
    path: PathLike | None = None,
    **running: Any,
) -> xr.Dataset:
    """Map a result over two keys of a problem.

    Parameters
    ----------
    problem : Problem
        The problem; the two keys override its values.
    x, y : Axis or Choices
        The keys and their values.
    result : {"p", "p_leading", "b_c", "growth", "p_ode"}
        P(collapse) by the separatrix formula, its leading order in large d, the boundary b_c, the growth exponent Λ, or
        P(collapse) by ODE ensembles. By default "p" where the formula covers the problem over both axes, and "p_ode"
        for any other problem.
    n : int
        Largest number of trajectories of each ensemble of "p_ode".
    error : float
        Standard error of "p_ode" that is enough: a point stops at fewer trajectories where it has reached it. By
        default 0, which takes all n at every point.
    seed : int
        Seed of every ensemble of "p_ode".
    device : {"auto", "cpu", "cuda"}
        Where the kernels run.
    least_weight : float, optional
        For "p_ode" with learned weights, the share of a mode's own weight below which the mode counts as missed; by
        default 0.1.
    path : path-like, optional
        A netCDF file to write. The same call continues an interrupted map, to the same file byte for byte.
    **running
        `how` (an `Execution`), `progress` and `tell` of `annealvi.sweeps.running.run_sweep`.

    Returns
    -------
    xarray.Dataset
        The variable `result` over (y, x), with the two keys as coordinates, and beside "p_ode" its standard error
        `stderr_ode` and number of trajectories `runs_ode`. Probabilities of "p" are within 0.003 of the fine formula.

    Raises
    ------
    BadInput
        For a problem that the formula does not cover, unless the result is "p_ode"; for keys that are equal or set the
        same number; and for values that the problem refuses.

    Examples
    --------
    >>> import annealvi
    >>> T0 = annealvi.Axis("schedule.T0", 10, 1000, 50, log=True)
    >>> t0 = annealvi.Axis("schedule.t0", 10, 10_000, 50, log=True)
    >>> data = annealvi.phase_map(annealvi.load_problem("bimodal"), T0, t0)  # doctest: +SKIP
    """
    return run_sweep(PhaseMap(problem, x, y, result or "", n, seed, device, least_weight, error), path, **running)


def save(data: xr.Dataset, path: Path) -> Path:
    """Write a small result as netCDF 3, which SciPy reads and writes."""
    write_file(path, bytes(data.to_netcdf(engine="scipy")))
    return path
