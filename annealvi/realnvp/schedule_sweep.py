"""Flows under many schedules: a map over two numbers of the problem, or a comparison of kinds of schedule.

Both are sweeps over cells. A cell is one problem with its number of steps, and trains all its seeds side by side.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from annealvi.annealing.betas import ANNEALED, schedule_within
from annealvi.collapse.outcome import Outcomes
from annealvi.collapse.recommendation import KINDS as FORMULAS
from annealvi.realnvp.checkpoint import fingerprint_of
from annealvi.realnvp.mode_coverage import MISSED, covered
from annealvi.realnvp.recovery import weight_error
from annealvi.realnvp.tempering import AFTER_SETTLING, default_steps
from annealvi.realnvp.training import Architecture, Optimiser
from annealvi.realnvp.training_run import cost_of, describe, device_of, method_of, settings_of, train_flow
from annealvi.show.output import PathLike
from annealvi.sweeps.axis import Axis, Choices
from annealvi.sweeps.engines import cores
from annealvi.sweeps.keys import numbers_of, require_independent, require_numbers, vary
from annealvi.sweeps.running import run_sweep
from annealvi.sweeps.sweep import Sweep, Variable
from derive.objects.short_repr import short_repr
from derive.problem.arguments import checked
from derive.problem.objective_scope import require_isotropic, require_tempered_reverse_kl
from derive.problem.problem_file import problem_to_toml
from derive.problem.schedules import make_rule
from derive.problem.specification import BadInput, Problem, ScheduleSpec
from kernels.particles.simulation import DivergenceError

KINDS = (*FORMULAS, "adaann")
ADAANN_INTERVAL = 10.0
"""Steps between two adjustments of β by AdaAnn in a comparison of kinds."""
CELL_SAMPLES = 2048
"""Samples in each diagnosis of a cell's flows."""
MOST_CELLS = 10_000
STRIDE = 250
"""Steps between two diagnoses of a flow."""

LAST = (
    *(
        "projected_variance",
        "entropic_mode_coverage",
        "reverse_ess",
        "forward_ess",
        "uncovered",
        "reverse_kl",
        "forward_kl",
    ),
    *("beta", "annealed_at", "half_life"),
)
"""The diagnostics of each flow's last record that a sweep keeps besides the mode weights. For the half-life see
`annealvi.realnvp.recovery`."""
SHARES = ("p", "stderr", "p_low", "p_high", "steps")
"""The results of each cell. p_low and p_high are Clopper and Pearson's 95 % interval."""
LONG = 60.0
"""Seconds from which on several processes share a sweep; each of them takes some ten seconds to start."""


@dataclass(frozen=True)
class Training:
    """How the flows of a sweep are trained; each cell has its own schedule.

    Attributes
    ----------
    steps : int or None
        Steps of every cell. None gives each cell `after` steps once its schedule has reached T = 1.05 (rounded up to a
        multiple of 250), so that all flows are judged after the same time at the target's own temperature.
    after : int
        Steps after T = 1.05, if `steps` is None.
    seeds : int
        Flows in each cell.
    architecture, optimiser : Architecture and Optimiser
        Shape of the flows, and how they are trained.
    time_per_step : float
        The schedule's time per optimiser step.
    samples : int
        Number of samples in each diagnosis.
    seed : int
        Seed of the first cell; the n-th has seed + n.
    device : {"auto", "cpu", "cuda"}
        Where the flows are trained; "auto" takes a GPU if JAX has one.
    """

    steps: int | None = None
    after: int = AFTER_SETTLING
    seeds: int = 4
    architecture: Architecture = field(default_factory=Architecture)
    optimiser: Optimiser = field(default_factory=Optimiser)
    time_per_step: float = 1.0
    samples: int = CELL_SAMPLES
    seed: int = 0
    device: str = "auto"

    __repr__ = short_repr


@dataclass(frozen=True)
class FlowSweep(Sweep):
    """A sweep over cells of flows. A cell with a flow that is no longer finite is NaN in all its variables."""

    problem: Problem
    training: Training

    libraries = (*Sweep.libraries, "jax", "jaxlib", "equinox", "optax")

    def __post_init__(self) -> None:
        kind = "cpu" if device_of(self.training.device).platform == "cpu" else "cuda"
        # The device is chosen here, so that all processes of the sweep compute on the same one.
        object.__setattr__(self, "training", replace(self.training, device=kind))

    @property
    @abstractmethod
    def cells(self) -> Sequence[tuple[Problem, int]]:
        """The problem and the number of steps of each cell."""

    @property
    def variables(self) -> Mapping[str, Variable]:
        flows, modes = self.training.seeds, len(self.problem.target.weights)
        each = {name: Variable(("seed",), (flows,)) for name in (*LAST, "collapsed", "weight_error")}
        of_modes = {name: Variable(("seed", "mode"), (flows, modes)) for name in ("mode_weights", "annealed_weights")}
        of_modes["target_weights"] = Variable(("mode",), (modes,))
        return {name: Variable() for name in SHARES} | each | of_modes

    @property
    def request(self) -> Mapping[str, Any]:
        return {
            "problem": problem_to_toml(self.problem),
            "training": dataclasses.asdict(self.training),
            "device": self._where.device_kind,
        }

    @property
    def attributes(self) -> Mapping[str, str]:
        training, steps = self.training, [count for _, count in self.cells]
        return {
            "problem": problem_to_toml(self.problem),
            "settings": fingerprint_of({"first cell": settings_of(self.cells[0][0], self._where, **self._run(0))}),
            "seeds": "the n-th cell, numbered from 0, has the seed of the first and n",
            "collapsed": f"a mode has less than {MISSED:g} of its own weight at the last step",
            "half_life": "steps in which the weights' error halves from its largest at T <= 1.05; 0: "
            "it was none; inf: not seen",
            "device": describe(self._where),
            "method": f"{training.seeds} seeds: "
            f"{method_of(training.architecture, training.optimiser, _in_words(steps))}",
        }

    @property
    def on_gpu(self) -> bool:  # type: ignore[override]
        return self.training.device == "cuda"

    @property
    def workers(self) -> int:  # type: ignore[override]
        """Processes that share the sweep on a CPU, since small networks gain nothing from threads."""
        return 1 if self.on_gpu or self.units * self.seconds_per_unit() < LONG else min(cores(), self.units)

    def check(self) -> None:
        for problem in dict.fromkeys(problem for problem, _ in self.cells):
            require_tempered_reverse_kl(problem, "RealNVP flows are trained on", "leave it out")
            require_isotropic(problem, "RealNVP flows are trained on mixtures of", "leave the covariances out")
            if problem.space.dimension < 2:
                found = "a coupling layer has nothing to couple in one dimension"
                raise BadInput("space.dimension", found, "begin at 2 dimensions or more", "")
            if len(problem.target.weights) != len(self.problem.target.weights):
                raise BadInput("axis", "the numbers of modes differ", "vary what leaves their number alone", "")

    def compute(self, unit: int, tell: Callable[[str], None] | None = None) -> Mapping[str, Any]:
        """Train a cell's flows and return their last record, or NaN if a loss was not finite."""
        problem, steps = self.cells[unit]
        wanted = np.array(problem.target.weights)
        try:
            last = train_flow(problem, **self._run(unit), records=_records(steps)).data.isel(step=-1)
        except DivergenceError as error:
            if tell is not None:
                tell(f"T0 = {problem.schedule.T0:g}, t0 = {problem.schedule.t0:g}: {error}")
            empty = {name: np.full(variable.shape, np.nan) for name, variable in self.variables.items()}
            return empty | {"steps": steps, "target_weights": wanted}
        weights = last["mode_weights"].to_numpy()
        outcomes = Outcomes(covered(weights, wanted))
        low, high = outcomes.interval
        return {
            **dict(zip(SHARES, (outcomes.p, outcomes.stderr, low, high, steps), strict=True)),
            **{name: last[name].to_numpy() for name in LAST},
            "mode_weights": weights,
            "annealed_weights": last["annealed_weights"].to_numpy(),
            "collapsed": outcomes.collapsed,
            "target_weights": wanted,
            "weight_error": weight_error(weights, wanted),
        }

    def seconds_per_unit(self) -> float:
        training, platform = self.training, self._where.platform
        size = training.architecture, training.optimiser, training.seeds
        judged = ((problem.space.dimension, steps, training.samples * _records(steps)) for problem, steps in self.cells)
        return sum(cost_of(d, *size, steps, platform, samples).seconds for d, steps, samples in judged) / self.units

    def _run(self, unit: int) -> dict[str, Any]:
        """The arguments of `train_flow` for a cell."""
        training = self.training
        common = {f.name: getattr(training, f.name) for f in dataclasses.fields(training) if f.name != "after"}
        return {**common, "steps": self.cells[unit][1], "seed": training.seed + unit}

    @property
    def _where(self) -> Any:
        return device_of(self.training.device)


@dataclass(frozen=True)
class FlowMap(FlowSweep):
    """Flows over two keys of the problem. The time scale t0 counts steps times `training.time_per_step`."""

    x: Axis | Choices
    y: Axis | Choices

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.x.key == self.y.key:
            raise BadInput("--y", f"{self.y.key!r} is the key of --x already", "vary another key", "")
        for axis in (self.x, self.y):
            if axis.key == "w_1" or axis.key.split(".")[0] in ("proposal", "flow", "init"):
                raise BadInput("axis", f"a flow has no {axis.key!r}", "vary another key", "")
        require_independent(self.dims)
        _require_few(math.prod(self.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.y.values), len(self.x.values)

    @property
    def dims(self) -> tuple[str, ...]:
        return self.y.key, self.x.key

    @property
    def coordinates(self) -> Mapping[str, tuple[tuple[str, ...], np.ndarray]]:
        return {axis.key: ((axis.key,), axis.values) for axis in (self.y, self.x)}

    @property
    def request(self) -> Mapping[str, Any]:
        return {**super().request, "x": self.x.stated, "y": self.y.stated}

    @cached_property
    def cells(self) -> Sequence[tuple[Problem, int]]:
        places = [{self.y.key: v, self.x.key: u} for v in self.y.settings for u in self.x.settings]
        problems = [vary(self.problem, place) for place in places]
        for spec in {problem.schedule.kind: problem.schedule for problem in problems}.values():
            require_numbers(spec.kind, numbers_of(spec), self.dims)
        return [(problem, _steps_of(problem, self.training)) for problem in problems]


@dataclass(frozen=True)
class KindsOfSchedule(FlowSweep):
    """Kinds of schedule at equal numbers of steps, each from all initial temperatures; and no annealing."""

    temperatures: tuple[float, ...]
    kinds: tuple[str, ...] = KINDS
    anneal: int = 1500

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds, temperatures = self.kinds, self.temperatures
        if not kinds or not len(temperatures):
            raise BadInput("--kinds", "there is nothing to compare", "give at least one kind and one T0", "")
        if twice := [kind for kind in kinds if list(kinds).count(kind) > 1]:
            raise BadInput("--kinds", f"{twice[0]!r} stands there twice", "name each kind once", "")
        if stray := [kind for kind in kinds if kind not in KINDS]:
            raise BadInput("--kinds", f"{stray[0][:40]!r} has no T0 to choose", f"choose from {', '.join(KINDS)}", "")
        if not min(temperatures) > 1 + ANNEALED:
            raise BadInput(
                "--x", f"T0 = {min(temperatures):g} leaves nothing to anneal", f"begin above T0 = {1 + ANNEALED:g}", ""
            )
        if not self._steps > self.anneal:
            found = f"{self.anneal} of {self._steps} steps leave none at T = 1"
            raise BadInput("--anneal", found, "anneal for fewer steps, or give more --steps", "")
        _require_few(len(kinds) * len(temperatures))

    @property
    def shape(self) -> tuple[int, ...]:
        return (2 + len(self.kinds) * len(self.temperatures),)

    @property
    def dims(self) -> tuple[str, ...]:
        return ("schedule",)

    @property
    def variables(self) -> Mapping[str, Variable]:
        return {name: variable for name, variable in super().variables.items() if name != "steps"}

    @property
    def coordinates(self) -> Mapping[str, tuple[tuple[str, ...], np.ndarray]]:
        specs = [problem.schedule for problem, _ in self.cells]
        of_each = {
            "kind": np.array(["none", "none", *(spec.kind for spec in specs[2:])], object),
            "T0": np.array([spec.T0 for spec in specs]),
            "t0": np.array([spec.t0 for spec in specs]),
            "tau": np.array([math.nan if spec.tau is None else spec.tau for spec in specs]),
            "steps": np.array([count for _, count in self.cells]),
        }
        return {name: (("schedule",), values) for name, values in of_each.items()}

    @property
    def request(self) -> Mapping[str, Any]:
        return {**super().request, "temperatures": self.temperatures, "kinds": self.kinds, "anneal": self.anneal}

    @cached_property
    def cells(self) -> Sequence[tuple[Problem, int]]:
        steps, training = self._steps, self.training
        scale, d = self.anneal * training.time_per_step, self.problem.space.dimension
        untempered = replace(self.problem, schedule=ScheduleSpec("constant", 1.0, 1.0))
        specs = [
            spec_of_kind(kind, T0, scale, d, training.time_per_step) for kind in self.kinds for T0 in self.temperatures
        ]
        compared = [(replace(self.problem, schedule=spec), steps) for spec in specs]
        return [(untempered, steps), (untempered, steps - self.anneal), *compared]

    @property
    def _steps(self) -> int:
        return self.anneal + self.training.after if self.training.steps is None else self.training.steps


@checked
def flow_map(
    problem: Problem,
    x: Axis | Choices,
    y: Axis | Choices,
    training: Training | None = None,
    path: PathLike | None = None,
    **running: Any,
) -> xr.Dataset:
    """Train flows over two keys of the problem, and map P(collapse).

    Parameters
    ----------
    problem : Problem
        The problem at the keys' other values.
    x, y : Axis or Choices
        The two keys with their values. The time scale t0 counts steps times `training.time_per_step`.
    training : Training, optional
        How the flows of each cell are trained; None for the defaults.
    path : path-like, optional
        A netCDF file to write. An interrupted map goes on to the same file, byte for byte.
    **running
        `how` (an `annealvi.Execution`), `progress` and `tell`: processes to use, and where progress goes.

    Returns
    -------
    xarray.Dataset
        Over (y, x): `p`, its standard error `stderr`, its 95 % interval `p_low` to `p_high`, and `steps`. Over (y, x,
        seed): each flow's last diagnostics, `weight_error` and `collapsed`. A cell with a flow that is no longer finite
        is NaN.

    Raises
    ------
    BadInput
        A key has no meaning for flows, both keys are the same, or there are more than 10000 cells.

    Examples
    --------
    >>> import annealvi
    >>> T0 = annealvi.Axis("schedule.T0", 2, 200, 6, log=True)
    >>> t0 = annealvi.Axis("schedule.t0", 10, 1000, 6, log=True)
    >>> found = annealvi.flow_map(annealvi.load_problem("bimodal"), T0, t0)  # doctest: +SKIP
    >>> found["p"].dims  # doctest: +SKIP
    ('schedule.t0', 'schedule.T0')
    """
    return run_sweep(FlowMap(problem, training or Training(), x, y), path, **running)


@checked
def compare_kinds(
    problem: Problem,
    temperatures: Sequence[float],
    kinds: Sequence[str] = KINDS,
    anneal: int = 1500,
    training: Training | None = None,
    path: PathLike | None = None,
    **running: Any,
) -> xr.Dataset:
    """Compare kinds of schedule, each from several temperatures, and no annealing, at equal numbers of steps.

    Every schedule with a formula reaches T = 1.05 after `anneal` steps (`hold` jumps there). AdaAnn decides by itself
    when it reaches T = 1.05, and `annealed_at` says when. With τ = √(d/2) log T0 × interval / anneal it takes `anneal`
    steps as long as q follows p^β and p^β is nearly Gaussian. A flow that has not reached T0 yet has a smaller
    variance, so its β rises faster.

    Parameters
    ----------
    problem : Problem
        The problem; its schedule is not used.
    temperatures : sequence of float
        Initial temperatures T0, each above 1.05.
    kinds : sequence of str, optional
        Kinds of schedule to compare.
    anneal : int, optional
        Steps from T0 to T = 1.05.
    training : Training, optional
        How the flows are trained; None for the defaults. If its `steps` is None, there are `after` steps once annealed.
    path : path-like, optional
        A netCDF file to write. An interrupted comparison goes on to the same file, byte for byte.
    **running
        `how` (an `annealvi.Execution`), `progress` and `tell`: processes to use, and where progress goes.

    Returns
    -------
    xarray.Dataset
        Over (schedule, seed), with the variables of `flow_map`; the coordinates kind, T0, t0, tau and steps tell the
        schedules apart. The kind "none" is β = 1 throughout, twice: for as many steps as the others have in all, and
        for as many as they have at T <= 1.05.

    Raises
    ------
    BadInput
        A kind or temperature is wrong or stands twice, or `anneal` leaves no step at T = 1.

    Examples
    --------
    >>> import annealvi
    >>> problem = annealvi.load_problem("bimodal")
    >>> found = annealvi.compare_kinds(problem, [5.0, 50.0], ["exponential", "linear"])  # doctest: +SKIP
    >>> found.sizes["schedule"]  # doctest: +SKIP
    6
    """
    sweep = KindsOfSchedule(problem, training or Training(), tuple(map(float, temperatures)), tuple(kinds), anneal)
    return run_sweep(sweep, path, **running)


def spec_of_kind(kind: str, T0: float, duration: float, dimension: int, time_per_step: float = 1.0) -> ScheduleSpec:
    """The schedule of a kind that takes the time `duration` from T0 to T = 1.05."""
    if kind == "adaann":
        interval = ADAANN_INTERVAL * time_per_step
        return ScheduleSpec(kind, T0, interval, tau=math.sqrt(dimension / 2) * math.log(T0) * interval / duration)
    return schedule_within(kind, T0, duration)


def _require_few(cells: int) -> None:
    if cells > MOST_CELLS:
        raise BadInput("--x", f"{cells} cells", f"ask for at most {MOST_CELLS}", "")


def _steps_of(problem: Problem, training: Training) -> int:
    if training.steps is not None:
        return training.steps
    needed = default_steps(
        problem.schedule, make_rule(problem.schedule), training.time_per_step, training.after, ANNEALED
    )
    return STRIDE * math.ceil(needed / STRIDE)


def _records(steps: int) -> int:
    return max(1, steps // STRIDE)


def _in_words(steps: list[int]) -> str:
    return f"{min(steps)}" if min(steps) == max(steps) else f"{min(steps)} to {max(steps)}"
