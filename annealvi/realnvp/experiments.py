"""Flows under many schedules, with the theory of mixtures beside them.

An experiment is a map over two keys or a comparison of kinds. Each has its sweep, its theory, its table and its figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from annealvi.collapse.phase_maps import save
from annealvi.realnvp.flow_tables import print_kinds, print_map
from annealvi.realnvp.mixture_theory import theory_map, theory_of_kinds
from annealvi.realnvp.schedule_sweep import FlowMap, FlowSweep, KindsOfSchedule, Training
from annealvi.realnvp.sweep_figures import draw_kinds, draw_map
from annealvi.sweeps.axis import Axis, Choices
from derive.problem.specification import Problem

SHOWN = (
    *("p", "stderr", "p_low", "p_high", "steps", "mode_weights", "projected_variance", "uncovered", "collapsed"),
    *("annealed_at", "half_life"),
)


@dataclass(frozen=True)
class Map:
    """P(collapse) over two numbers of the problem."""

    problem: Problem
    x: Axis | Choices
    y: Axis | Choices
    training: Training = field(default_factory=Training)

    name = "flows"

    @property
    def sweep(self) -> FlowSweep:
        """The sweep over all cells."""
        return FlowMap(self.problem, self.training, self.x, self.y)

    def theory(self, device: str = "auto") -> xr.Dataset:
        """The theory's P(collapse); raises BadInput for a problem outside the theory."""
        return theory_map(self.problem, self.x, self.y, device)

    def show(self, data: xr.Dataset) -> None:
        print_map(data, self.problem.name)

    def draw(self, data: xr.Dataset, theory: xr.Dataset | None, path: Path) -> Path:
        return draw_map(data, theory, _title(self.problem, self.training), path)


@dataclass(frozen=True)
class Kinds:
    """Kinds of schedule from several initial temperatures, at equal numbers of steps of which `anneal` are annealed."""

    problem: Problem
    temperatures: tuple[float, ...]
    kinds: tuple[str, ...]
    anneal: int
    training: Training = field(default_factory=Training)

    name = "kinds"

    @property
    def sweep(self) -> FlowSweep:
        """The sweep over all cells."""
        return KindsOfSchedule(self.problem, self.training, self.temperatures, self.kinds, self.anneal)

    def theory(self, device: str = "auto") -> xr.Dataset:
        """The theory's P(collapse); raises BadInput for a problem outside the theory."""
        return theory_of_kinds(self.problem, self.kinds, device=device)

    def show(self, data: xr.Dataset) -> None:
        print_kinds(data, self.problem.name)

    def draw(self, data: xr.Dataset, theory: xr.Dataset | None, path: Path) -> Path:
        return draw_kinds(data, theory, _title(self.problem, self.training), path)


def accompany(experiment: Map | Kinds, data: xr.Dataset, theory: xr.Dataset | None, path: Path) -> Path:
    """Write NAME.png and, if there is a theory, NAME-theory.nc beside NAME.nc; returns the figure's path."""
    if theory is not None:
        save(theory, path.with_name(f"{path.stem}-theory.nc"))
    return experiment.draw(data, theory, path.with_suffix(".png"))


def as_dict(data: xr.Dataset) -> dict[str, Any]:
    """The JSON form: the axes or the schedules, then the keys of a single run for each schedule and flow."""
    places = {str(name): coordinate.to_numpy().tolist() for name, coordinate in data.coords.items()}
    found: dict[str, Any] = {**places, **{name: data[name].to_numpy() for name in SHOWN if name in data.data_vars}}
    if "steps" in data.data_vars:
        found["steps"] = found["steps"].astype(int)
    found["emc"] = data["entropic_mode_coverage"].to_numpy()
    found["ess"] = {side: data[f"{side}_ess"].to_numpy() for side in ("reverse", "forward")}
    found["kl"] = {side: data[f"{side}_kl"].to_numpy() for side in ("reverse", "forward")}
    return found


def _title(problem: Problem, training: Training) -> str:
    return f"RealNVP flows, $d = {problem.space.dimension}$, {training.seeds} seeds"
