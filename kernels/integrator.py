"""Compiled systems: the derived right-hand sides as vectorised functions, and their adaptive integration over batches of states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import sympy as sp

from derive.system import TIME, OdeSystem
from kernels.codegen import generate
from kernels.device import Device, DeviceRequest, resolve_device
from kernels.integrator_source import DONE, NOT_FINITE, OUTSIDE_BOUNDS, OUTSIDE_GRAM, STEP_TOO_SMALL, TOO_MANY_STEPS
from kernels.module_cache import load_module
from kernels.printer import PRECISIONS
from kernels.tableau import Tableau, dop853
from kernels.tables import Certificate, Tables, build_tables, intervals

MOST_STEPS = 1_000_000
THREADS_PER_BLOCK = 64
SMALLEST_RTOL = {"float64": 1e-14, "float32": 1e-6}
"""Some ten roundings of the working precision: below it the error estimate is noise and steps shrink without end."""


class IntegrationError(ArithmeticError):
    """A trajectory could not be followed; the message says why. trajectory: its index. time, state (states,): where it stopped."""

    def __init__(self, message: str, trajectory: int, time: float, state: np.ndarray) -> None:
        super().__init__(message)
        self.trajectory, self.time, self.state = trajectory, time, state


class DomainError(IntegrationError):
    """A state left the overlaps' domain by more than the tolerance."""


@dataclass(frozen=True)
class Trajectories:
    """t, beta: (n_out,). y: (N, n_out, states). steps: (N,) attempted. device, method: what really ran."""

    t: np.ndarray
    beta: np.ndarray
    y: np.ndarray
    steps: np.ndarray
    device: str
    method: str


@dataclass(frozen=True)
class Kernel:
    """A system with its parameters' values, compiled. Other values of the same system compile nothing: see `with_parameters`."""

    system: OdeSystem
    beta: sp.Expr
    parameters: tuple[sp.Symbol, ...]
    values: np.ndarray
    breakpoints: tuple[float, ...]
    tables: Tables
    limits: np.ndarray
    where: Device
    module: ModuleType
    request: Mapping[str, Any]

    @property
    def device(self) -> str:
        return self.where.name

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        return self.tables.certificates

    def rhs_at_beta(self, beta: float | np.ndarray, y: np.ndarray) -> np.ndarray:
        """dy/dt (N, states) at the states y (N, states) and inverse temperatures beta (a number or (N,))."""
        states = _batch(y, len(self.system.states))
        betas = np.ascontiguousarray(np.broadcast_to(np.asarray(beta, float), len(states)))
        dy = np.empty_like(states)
        self._launch("rates_all", len(states), [betas, states, *self._constants()], [dy])
        return dy

    def rhs(self, t: float, y: np.ndarray) -> np.ndarray:
        """dy/dt (N, states) at time t under the kernel's schedule."""
        return self.rhs_at_beta(self.beta_at(np.array([t]))[0], y)

    def beta_at(self, t: np.ndarray) -> np.ndarray:
        """The schedule's inverse temperature at times t (n,)."""
        values = {s: sp.Float(v, 17) for s, v in zip(self.parameters, self.values, strict=True)}
        function = sp.lambdify(TIME, self.beta.xreplace(values), "math")
        return np.array([float(function(float(x))) for x in np.atleast_1d(t)])

    def integrate(
        self,
        initial: np.ndarray,
        times: Sequence[float] | np.ndarray,
        *,
        rtol: float = 1e-9,
        atol: float = 1e-11,
        fixed_steps: int = 0,
        most_steps: int = MOST_STEPS,
        domain_tolerance: float | None = None,
    ) -> Trajectories:
        """Integrate every initial state (N, states) and return it at the given times (increasing, the first is the start).

        Steps land exactly on the times and on the schedule's breakpoints, where beta is taken from the left. rtol, atol: local error
        per step. fixed_steps: so many equal steps between landings instead. domain_tolerance: how far below zero the Gram matrix's
        eigenvalues may come, relative to its trace; by default a thousand local errors, at least 1e-9.
        Raises DomainError or IntegrationError for the first trajectory that fails; nothing is clipped.
        """
        states = _batch(initial, len(self.system.states))
        wanted = np.asarray(times, float)
        if wanted.ndim != 1 or len(wanted) < 1 or not np.isfinite(wanted).all() or (np.diff(wanted) <= 0).any() or wanted[0] < 0:
            raise ValueError("times must be finite, increasing and not negative")
        if not 0 < rtol < 1 or not atol >= 0 or fixed_steps < 0:
            raise ValueError("rtol must lie in (0, 1), atol and fixed_steps must not be negative")
        landings, ends, kept = _landings(wanted, self.breakpoints)
        tolerance = max(1e-9, 1e3 * rtol) if domain_tolerance is None else domain_tolerance
        control = np.array([rtol, atol, fixed_steps, most_steps, tolerance], float)
        pair = dop853()
        size = self.system.domain.gram.shape[0]
        count, width = states.shape
        work = np.empty((count, (len(pair.B) + 3) * width + size * size))
        out = np.empty((count, len(wanted), width))
        failure, status = np.zeros((count, 2)), np.zeros(count, np.int64)
        coefficients = [pair.A, pair.B, pair.C, pair.E3, pair.E5]
        inputs = [states, landings, ends, kept, *self._constants(), *coefficients, self.limits, control]
        self._launch("integrate_all", count, inputs, [work, out, failure, status])
        _raise_for(status, failure, states)
        method = _method(pair, rtol, atol, fixed_steps)
        return Trajectories(wanted, self.beta_at(wanted), out, failure[:, 0].astype(np.int64), self.device, method)

    def with_parameters(self, values: Mapping[sp.Symbol, float]) -> Kernel:
        """The same system with other parameter values (those given replace the old ones)."""
        merged = {**dict(zip(self.parameters, self.values, strict=True)), **values}
        return compile_system(self.system, self.beta, **{**self.request, "parameter_values": merged})

    def _constants(self) -> list[np.ndarray]:
        return [self.values, self.tables.values, self.tables.layout, self.tables.ranges]

    def _launch(self, name: str, count: int, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
        entry = getattr(self.module, name)
        if self.where.kind == "cpu":
            entry(*inputs, *outputs)
            return
        from numba import cuda  # slow to load and optional, so imported where a CUDA kernel runs

        on_device = [cuda.to_device(np.ascontiguousarray(a)) for a in (*inputs, *outputs)]
        entry[-(-count // THREADS_PER_BLOCK), THREADS_PER_BLOCK](*on_device)
        for host, there in zip(outputs, on_device[len(inputs) :], strict=True):
            there.copy_to_host(host)


def compile_system(
    system: OdeSystem,
    beta: sp.Expr,
    schedule_parameters: tuple[sp.Symbol, ...],
    parameter_values: Mapping[sp.Symbol, float],
    *,
    breakpoints: Sequence[sp.Expr] = (),
    tolerance: float = 1e-12,
    expectations: str = "proxy",
    device: DeviceRequest = "auto",
) -> Kernel:
    """Generate and compile a system under a schedule.

    beta: the schedule, an expression in derive.system.TIME and schedule_parameters. breakpoints: times of its kinks and jumps.
    parameter_values: a number for every parameter of the system and the schedule. tolerance: absolute error of every average.
    expectations: "proxy" (Chebyshev where it reaches the tolerance, else the trapezoidal rule) or "quadrature".
    Raises ValueError for a missing value or an unknown option, DeviceUnavailable where `device` cannot run.
    """
    if expectations not in ("proxy", "quadrature"):
        raise ValueError(f'expectations must be "proxy" or "quadrature", not {expectations!r}')
    missing = [s.name for s in (*system.parameters, *schedule_parameters) if s not in parameter_values]
    if missing:
        raise ValueError(f"no value is given for {', '.join(missing)}")
    where = resolve_device(device)
    own = {s: float(parameter_values[s]) for s in system.parameters}
    tables = build_tables(system, own, tolerance, expectations == "proxy")
    program = generate(system, beta, schedule_parameters, tables.by_proxy, where.kind)
    values = np.array([float(parameter_values[s]) for s in program.parameters])
    known = dict(zip(program.parameters, map(sp.Float, values), strict=True))
    times = tuple(float(b.xreplace(known)) for b in breakpoints)
    request = {
        "schedule_parameters": schedule_parameters,
        "parameter_values": parameter_values,
        "breakpoints": tuple(breakpoints),
        "tolerance": tolerance,
        "expectations": expectations,
        "device": device,
    }
    module = load_module(program.source, f"{where.kind}_{_stem(system.label)}")
    return Kernel(system, beta, program.parameters, values, times, tables, intervals(system, own), where, module, request)


def _stem(label: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in label)[:40] or "system"


def _batch(y: np.ndarray, width: int) -> np.ndarray:
    states = np.ascontiguousarray(np.atleast_2d(np.asarray(y, float)))
    if states.ndim != 2 or states.shape[1] != width or not np.isfinite(states).all():
        raise ValueError(f"states must be finite and of shape (N, {width})")
    return states


def _landings(wanted: np.ndarray, breakpoints: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All times to land on; the latest time at which a stage before each may look at beta; whether each is an output."""
    inner = [b for b in breakpoints if wanted[0] < b <= wanted[-1]]
    landings = np.union1d(wanted, inner)
    jumps = np.isin(landings, inner)
    return landings, np.where(jumps, np.nextafter(landings, -np.inf), landings), np.isin(landings, wanted).astype(np.int64)


def _raise_for(status: np.ndarray, failure: np.ndarray, initial: np.ndarray) -> None:
    failed = np.flatnonzero(status != DONE)
    if len(failed) == 0:
        return
    n = int(failed[0])
    where = f"trajectory {n} (of {len(failed)} that fail) from {np.array2string(initial[n], precision=6)} at t = {failure[n, 1]:.6g}"
    if status[n] == OUTSIDE_GRAM:
        raise DomainError(f"{where}: the overlaps' Gram matrix is no longer positive semidefinite; use a smaller rtol")
    if status[n] == OUTSIDE_BOUNDS:
        raise DomainError(f"{where}: an overlap leaves the interval in which the averages are certified; use a smaller rtol")
    reasons = {TOO_MANY_STEPS: "too many steps; use a larger rtol or a shorter time", NOT_FINITE: "the state is not finite"}
    raise IntegrationError(f"{where}: {reasons[int(status[n])]}")


def _method(pair: Tableau, rtol: float, atol: float, fixed_steps: int) -> str:
    if fixed_steps:
        return f"{pair.name}, {fixed_steps} equal steps per interval"
    return f"{pair.name}, rtol = {rtol:g}, atol = {atol:g}"



