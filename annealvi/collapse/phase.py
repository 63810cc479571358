"""Maps of a result over two numbers of a problem, computed row by row so that an interrupted one goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annealvi import __version__
from annealvi.collapse.command import collapse_probability
from annealvi.collapse.ensemble import collapse_by_ensemble
from annealvi.collapse.family import Family, Member, require_key
from annealvi.collapse.growth import transverse_growth
from annealvi.collapse.separatrix import QUICK, Guess
from annealvi.output import write_file
from annealvi.rows import Rows
from derive.problem import BadInput, Problem
from derive.problem_file import problem_to_toml

if TYPE_CHECKING:
    import xarray as xr

RESULTS = {
    "p": "P(collapse)",
    "p_leading": "P(collapse), leading order",
    "b_c": "b_c",
    "growth": "growth exponent Λ",
    "p_ode": "P(collapse), ODE ensemble",
}
MOST_POINTS = 10**6


@dataclass(frozen=True)
class Axis:
    """key: one of `family.KEYS`. low, high: its ends. count: of points, with equal ratios where `log`, else equal differences.

    Raises BadInput for an unknown key and an empty range.
    """

    key: str
    low: float
    high: float
    count: int
    log: bool = False

    def __post_init__(self) -> None:
        require_key(self.key, "axis")
        finite = all(isinstance(x, Real) and np.isfinite(x) for x in (self.low, self.high))
        counted = isinstance(self.count, Integral) and 2 <= self.count <= MOST_POINTS
        if not (finite and counted and self.low < self.high) or (self.log and self.low <= 0):
            found = f"the range {self.low}:{self.high}:{self.count} is empty"
            raise BadInput("axis", found, "let LO < HI be finite, N at least 2, and LO > 0 with :log", "")

    @property
    def values(self) -> np.ndarray:
        """(count,); whole numbers for the dimension."""
        spread = np.geomspace if self.log else np.linspace
        values = spread(self.low, self.high, self.count)
        return np.unique(values.round()) if self.key == "space.dimension" else values


def parse_axis(text: str, option: str) -> Axis:
    """An axis from KEY=LO:HI:N or KEY=LO:HI:N:log. BadInput for another form, an unknown key and an empty range."""
    key, _, rest = text.partition("=")
    parts = rest.split(":")
    remedy = "write KEY=LO:HI:N or KEY=LO:HI:N:log, such as schedule.T0=10:1000:50:log"
    try:
        low, high, count = float(parts[0]), float(parts[1]), int(parts[2])
    except (IndexError, ValueError):
        raise BadInput(option, f"{text[:60]!r} is not an axis", remedy, "") from None
    if len(parts) > 4 or (len(parts) == 4 and parts[3] != "log"):
        raise BadInput(option, f"{text[:60]!r} is not an axis", remedy, "")
    try:
        return Axis(key, low, high, count, log=len(parts) == 4)
    except BadInput as wrong:
        raise BadInput(option, wrong.found, wrong.remedy, "") from None


def phase_map(
    problem: Problem,
    x: Axis,
    y: Axis,
    result: str = "p",
    *,
    n: int = 4000,
    seed: int = 0,
    device: str = "auto",
    rows: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> xr.Dataset:
    """One of RESULTS over x and y, as a dataset with the two keys as coordinates.

    n, seed: of the ODE ensembles of "p_ode". rows: a folder that keeps finished rows; a map that was interrupted begins after them, and
    ends bit-identical. Each row begins without a guess, so no row depends on another one.
    Raises BadInput for a problem that the formula does not cover, for values that the problem refuses, and for a folder with another
    map's rows.
    """
    import xarray as xr

    if x.key == y.key:
        raise BadInput("--y", f"{y.key!r} is the key of --x already", "vary another key", "")
    if x.count * y.count > MOST_POINTS:
        raise BadInput("--x", f"{x.count * y.count} points", f"ask for at most {MOST_POINTS:.0e}", "")
    family = Family.of(problem, device)
    # The averages depend on the keys of a row at most, where that can be arranged: the row's member is shared by its points.
    for key, ends in ((x.key, x.values[[0, -1]]), (y.key, y.values[[0, -1]])):
        for value in ends:
            family.at({key: float(value)})  # refuses at once what it would refuse later
    store = Rows(rows, f"{__version__}\n{problem_to_toml(problem)}\n{x}\n{y}\n{result}\n{n}\n{seed}\n{family.base.kernel.device}")
    table = np.empty((len(y.values), len(x.values)))
    for j, value in enumerate(y.values):
        row = store.read(j)
        if row is None:
            row = _row(family, x, {y.key: float(value)}, result, n, seed)
            store.write(j, row)
        table[j] = row
        if progress is not None:
            progress(j + 1, len(table))
    attributes = {
        "problem": problem_to_toml(problem),
        "annealvi": __version__,
        "device": family.base.kernel.device,
        "long_name": RESULTS[result],
    }
    data = xr.Dataset({result: ((y.key, x.key), table, attributes)}, coords={x.key: x.values, y.key: y.values})
    return data


def overlay_by_ode(problem: Problem, x: Axis, y: Axis, count: int, **options: Any) -> xr.Dataset:
    """P by ODE ensembles at count × count points of the map. options: those of `phase_map`."""
    return phase_map(problem, replace(x, count=count), replace(y, count=count), "p_ode", **options)


def overlay_by_particles(
    problem: Problem,
    x: Axis,
    y: Axis,
    count: int,
    *,
    replicas: int = 32,
    seed: int = 0,
    device: str = "auto",
    max_cost: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> xr.Dataset:
    """P by particle runs at count × count points inside the map, each read when an ODE ensemble is decided (see `collapse_probability`)."""
    import xarray as xr

    family = Family.of(problem, device)
    inner = [replace(axis, count=count + 2).values[1:-1] for axis in (x, y)]
    table = np.empty((len(inner[1]), len(inner[0])))
    for done, (j, i) in enumerate(np.ndindex(*table.shape)):
        member = family.at({x.key: float(inner[0][i]), y.key: float(inner[1][j])})
        options: dict[str, Any] = {"replicas": replicas, "seed": seed, "device": device, "max_cost": max_cost, "tell": tell}
        found = collapse_probability(member.session, ("ode", "particles"), n=1000, **options)
        assert found.particles is not None
        table[j, i] = found.particles.outcomes.p
        if progress is not None:
            progress(done + 1, table.size)
    return xr.Dataset({"p_particles": ((y.key, x.key), table)}, coords={x.key: inner[0], y.key: inner[1]})


def _row(family: Family, x: Axis, fixed: dict[str, float], result: str, n: int, seed: int) -> np.ndarray:
    member: Member | None = None
    boundaries: list[float] = []
    guess: Guess | None = None
    values = []
    for value in x.values:
        member = family.at({**fixed, x.key: float(value)}, member)
        separatrix = member.separatrix
        if result == "p":
            if x.key == "space.dimension":
                guess = None  # its places are in units of d's own range
            corrected = separatrix.corrected(QUICK, guess)
            guess = corrected.guess
            values.append(corrected.p)
        elif result == "p_ode":
            values.append(collapse_by_ensemble(member.session, n=n, seed=seed, kernel=member.kernel).outcomes.p)
        elif result == "growth":
            values.append(transverse_growth(member.kernel, separatrix.traps, separatrix.t_end) if separatrix.symmetric else np.nan)
        else:
            leading = separatrix.leading(QUICK, _next_of(boundaries))
            boundaries = [*boundaries[-1:], leading.b_c[1]] if separatrix.symmetric and leading.b_c[1] > 0 else []
            values.append(leading.p if result == "p_leading" else leading.b_c[1])
    return np.array(values)


def _next_of(boundaries: list[float]) -> float | None:
    """The boundary expected next, from the last two in equal ratios."""
    if len(boundaries) < 2:
        return boundaries[-1] if boundaries else None
    return min(boundaries[1] ** 2 / boundaries[0], 2 * boundaries[1])


def save(data: xr.Dataset, path: Path) -> Path:
    """Write the map as netCDF 3, which SciPy reads and writes."""
    write_file(path, bytes(data.to_netcdf(engine="scipy")))
    return path
