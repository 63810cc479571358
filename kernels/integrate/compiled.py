"""A compiled system with values of its parameters: its right-hand side and its schedule as vectorised functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from types import ModuleType
from typing import Self

import numpy as np
import sympy as sp

from derive.objects.short_repr import short_repr
from derive.objects.system import OdeSystem
from kernels.averages.reach import Reach, intervals, reach_of
from kernels.averages.tables import MeasuredError, Tables, all_nodes, build_tables
from kernels.generate.codegen import generate
from kernels.generate.printer import PRECISIONS
from kernels.generate.schedule_source import rows_as_parameters
from kernels.integrate.executable import Executable
from kernels.lower.analysis import SystemAverages
from kernels.machine.device import Device, DeviceRequest, resolve_device
from kernels.machine.module_cache import load_module
from kernels.machine.threads import TimeLimitError, at_most

BRIEF = 10_000
"""The most numbers in the tables of averages over one variable for which a right-hand side counts as brief work."""


@dataclass(frozen=True)
class Request:
    """What a compilation is asked for besides the system.

    The attributes are the arguments of `kernels.integrate.kernel.compile_system`.
    """

    beta: sp.Expr
    schedule_parameters: tuple[sp.Symbol, ...]
    parameter_values: Mapping[sp.Symbol | str, float]
    breakpoints: tuple[sp.Expr, ...]
    tolerance: float
    expectations: str
    precision: str
    device: DeviceRequest
    reach: Reach | None
    stabilised: bool = False

    def __post_init__(self) -> None:
        if self.expectations not in ("proxy", "quadrature"):
            raise ValueError(f'expectations must be "proxy" or "quadrature", not {self.expectations!r}')
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}")


@dataclass(frozen=True)
class CompiledSystem:
    """A system compiled for one device and one schedule, with values of its parameters.

    Attributes
    ----------
    averages
        The averages of the system, found once and shared by all values of the parameters.
    request
        What was asked for, with a value for every parameter.
    parameters
        The parameters of the system and of the schedule, in the order of `values`.
    values
        (parameters,) their values.
    breakpoints
        The times of the schedule's kinks and jumps.
    tables
        The tables behind the averages.
    limits
        (states, 2) the states' intervals, outside of which the tables do not hold.
    executable
        The generated modules on their device.
    """

    averages: SystemAverages
    request: Request
    parameters: tuple[sp.Symbol, ...]
    values: np.ndarray
    breakpoints: tuple[float, ...]
    tables: Tables
    limits: np.ndarray
    executable: Executable

    SHOWN = (
        *("system", "beta", "parameters", "values", "breakpoints", "tables", "limits"),
        *("where", "precision", "lanes", "module", "request"),
    )
    __repr__ = short_repr

    @classmethod
    def compiled(cls, averages: SystemAverages, request: Request) -> Self:
        """Tabulate the averages at the requested values, generate the source and load it.

        Raises ValueError for a missing or unknown parameter, and DeviceUnavailable where the device cannot run.
        """
        system = averages.system
        formula, points = rows_as_parameters(request.beta)
        of_schedule = tuple(dict.fromkeys((*request.schedule_parameters, *points)))
        numbers = _by_symbol({**points, **request.parameter_values}, (*system.parameters, *of_schedule))
        missing = [s.name for s in (*system.parameters, *of_schedule) if s not in numbers]
        if missing:
            raise ValueError(f"no value is given for {', '.join(missing)}")
        where = resolve_device(request.device)
        own = {s: numbers[s] for s in system.parameters}
        reach = reach_of(system, own) if request.reach is None else request.reach.with_other(reach_of(system, own))
        tables = build_tables(averages, own, request.tolerance, request.expectations == "proxy", reach)
        program = generate(
            averages,
            formula,
            of_schedule,
            tables.by_proxy,
            where.kind,
            request.precision,
            tables.surfaces,
            request.stabilised,
        )
        prefix = f"{where.kind}_{request.precision}"
        module = load_module(program.source, f"{prefix}_{_stem(system.label)}")
        schedule, integrator = (
            module if text is None else load_module(text, f"{prefix}_{name}")
            for text, name in ((program.schedule, "schedule"), (program.integrator, "integrator"))
        )
        return cls(
            averages,
            replace(request, schedule_parameters=of_schedule, parameter_values=numbers),
            program.parameters,
            np.array([numbers[s] for s in program.parameters], float),
            _times(request.breakpoints, numbers),
            tables,
            intervals(system, own, reach),
            Executable(module, schedule, integrator, where, request.precision, program.lanes),
        )

    def with_parameters(self, values: Mapping[sp.Symbol | str, float]) -> Self:
        """The same system with other parameter values; parameters that are not given keep their values.

        Nothing is compiled, unless an average changes between proxy and quadrature at the new values.
        """
        old = self.known_values()
        merged = {**old, **_by_symbol(values, self.parameters)}
        request = replace(self.request, parameter_values=merged)
        if any(merged[s] != old[s] for s in self.system.parameters):
            return type(self).compiled(self.averages, request)
        numbers = np.array([merged[s] for s in self.parameters], float)
        return replace(self, values=numbers, breakpoints=_times(request.breakpoints, merged), request=request)

    @property
    def system(self) -> OdeSystem:
        """The closed system of the derivation."""
        return self.averages.system

    @property
    def beta(self) -> sp.Expr:
        """The schedule's inverse temperature as an expression in time."""
        return self.request.beta

    @property
    def module(self) -> ModuleType:
        """The generated module of the system."""
        return self.executable.module

    @property
    def where(self) -> Device:
        """The device."""
        return self.executable.where

    @property
    def device(self) -> str:
        """The name of the device."""
        return self.where.name

    @property
    def precision(self) -> str:
        """The precision of all numbers in the kernel: "float64" or "float32"."""
        return self.executable.precision

    @property
    def lanes(self) -> int:
        """How many trajectories advance together."""
        return self.executable.lanes

    @property
    def measured_errors(self) -> tuple[MeasuredError, ...]:
        """How each average is approximated, and the error that was measured.

        The error does not include the rounding of the working precision.
        """
        return self.tables.measured_errors

    @property
    def average_error(self) -> float:
        """The largest measured error of an average.

        The error exceeds the tolerance where quasi-random points could not reach the tolerance.
        """
        return max((c.error for c in self.measured_errors), default=0.0)

    def known_values(self) -> dict[sp.Symbol, float]:
        """The value of every parameter."""
        return dict(zip(self.parameters, map(float, self.values), strict=True))

    def checked_states(self, y: np.ndarray) -> np.ndarray:
        """The states y as a contiguous array (N, states). Raises ValueError for a wrong shape or non-finite numbers."""
        width = len(self.system.states)
        states = np.ascontiguousarray(np.atleast_2d(np.asarray(y, float)))
        if states.ndim != 2 or states.shape[1] != width or not np.isfinite(states).all():
            raise ValueError(f"states must be finite and of shape (N, {width})")
        return states

    def rhs_at_beta(self, beta: float | np.ndarray, y: np.ndarray) -> np.ndarray:
        """dy/dt (N, states) at the states y (N, states) and inverse temperatures beta (a number or (N,))."""
        return self._rates(beta, y)[0]

    def rhs(self, t: float | np.ndarray, y: np.ndarray) -> np.ndarray:
        """dy/dt (N, states) at the states y (N, states) and times t (a number or (N,)) under the schedule."""
        return self.rhs_at_beta(self.beta_at(t) if np.ndim(t) else self.beta_at(t)[0], y)

    def beta_at(self, t: float | np.ndarray) -> np.ndarray:
        """The schedule's inverse temperature (n,) at times t (a number or (n,))."""
        times = np.atleast_1d(np.asarray(t, float))
        betas = np.empty(len(times), self.precision)
        parts = self.executable.parts(len(times))
        self.executable.launch("beta_all", parts, [parts], [times, self.values[None]], [betas], brief=True)
        return betas

    def nodes(self, y: np.ndarray, beta: float | np.ndarray = 1.0) -> np.ndarray:
        """How many nodes of averages in groups one right-hand side visits at each state: (N,) integers.

        y: (N, states). beta: a number or (N,). These nodes are nearly all of the cost of such a right-hand side. The
        numbers are zero for a system whose averages all have tables. Of states that advance together, as `lanes` do,
        each has the number of all.
        """
        return self._rates(beta, y)[1].astype(np.int64)

    def nodes_asked(self, state: np.ndarray) -> float:
        """About how many nodes one right-hand side visits at a state (states,), computed without visiting them."""
        return all_nodes(self.averages, self.known_values(), self.tables, state)

    def seconds_per_rate(self, y: np.ndarray, within: float = np.inf) -> float:
        """The measured time of one right-hand side in seconds, averaged over the states y (N, states).

        All threads are at work. A measurement that takes more than `within` seconds is stopped. The time then follows
        from the number of nodes that were visited and the number that the states ask for.
        """
        self._rates(1.0, np.empty((0, len(self.system.states))))  # compiles
        states = np.atleast_2d(np.asarray(y, float))
        nodes = np.zeros(len(states), self.precision)
        begun = perf_counter()
        try:
            with at_most(within):
                self._rates(1.0, states, nodes)
        except TimeLimitError:
            asked, visited = sum(map(self.nodes_asked, states)), float(nodes.sum())
            return (perf_counter() - begun) * max(1.0, asked / visited if visited > 0 else 1.0) / len(states)
        return (perf_counter() - begun) / len(states)

    def _rates(
        self, beta: float | np.ndarray, y: np.ndarray, nodes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """dy/dt (N, states), and the number (N,) of nodes that each right-hand side visited.

        These are the nodes of averages over several variables. The array `nodes` (N,), where given, receives the
        numbers even if the work is stopped.
        """
        states = self.checked_states(y)
        dy = np.empty(states.shape, self.precision)
        nodes = np.empty(len(states), self.precision) if nodes is None else nodes
        tables = self.tables
        inputs = [np.broadcast_to(beta, len(states)), states, self.values[None]]
        inputs += [tables.values, tables.layout[None], tables.ranges[None]]
        units = self.executable.parts(len(states))
        brief = units == 1 and not self.averages.groups and len(tables.values) < BRIEF
        self.executable.launch("rates_all", units, [units], inputs, [dy, nodes], brief=brief)
        return dy, nodes


def _times(breakpoints: Sequence[sp.Expr], numbers: Mapping[sp.Symbol, float]) -> tuple[float, ...]:
    if not breakpoints:
        return ()
    known = {s: sp.Float(v, 17) for s, v in numbers.items()}
    return tuple(float(b.xreplace(known)) for b in breakpoints)


def _stem(label: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in label)[:40] or "system"


def _by_symbol(values: Mapping[sp.Symbol | str, float], symbols: tuple[sp.Symbol, ...]) -> dict[sp.Symbol, float]:
    """The values by symbol; the keys are symbols or their names.

    Raises ValueError for a key that names no symbol, or a value that is not finite.
    """
    known = {s.name: s for s in symbols} | {s: s for s in symbols}
    stray = [str(key) for key in values if key not in known]
    if stray:
        raise ValueError(
            f"{', '.join(stray)}: no such parameter; the parameters are {', '.join(s.name for s in symbols)}"
        )
    numbers = {known[key]: float(value) for key, value in values.items()}
    if not np.isfinite(list(numbers.values())).all():
        raise ValueError(f"parameters must be finite numbers: {numbers}")
    return numbers
