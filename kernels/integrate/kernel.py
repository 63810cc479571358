"""Compiled systems: the derived right-hand sides as vectorised functions, and their adaptive integration over batches
of states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from time import monotonic, perf_counter, sleep
from types import ModuleType
from typing import Any, ClassVar

import numba
import numpy as np
import sympy as sp

from derive.objects.short_repr import short_repr
from derive.objects.system import OdeSystem
from kernels.averages.tables import (
    MeasuredError,
    Reach,
    Tables,
    all_nodes,
    build_tables,
    intervals,
    most_nodes,
    reach_of,
)
from kernels.generate.codegen import generate, rows_as_parameters
from kernels.generate.lattice_code import MOST_NODES
from kernels.generate.printer import PRECISIONS
from kernels.generate.templates.integrator import (
    DONE,
    HALTED,
    NOT_FINITE,
    OUTSIDE_BOUNDS,
    OUTSIDE_GRAM,
    STEP_TOO_SMALL,
    TOO_MANY_STEPS,
)
from kernels.machine.device import Device, DeviceRequest, resolve_device
from kernels.machine.module_cache import load_module
from kernels.machine.threads import TimeLimitError, at_most, run_on_threads, wait_until

MOST_STEPS = 1_000_000
THREADS_PER_BLOCK = 64
RESIDENT_THREADS = 2**18
"""Enough to fill the largest GPU; further trajectories are taken over by threads that have finished theirs."""
PARTS_PER_THREAD, ROUNDS = 4, 8
"""How many parts of a batch there are for each CPU thread, where each part then fills its lanes so many times. In fewer
rounds too much of the time goes to lanes that wait for the last one."""
STRAY = 1e-9
"""How far beyond its interval, relative to that one's length, a state may start: roundings of what was computed
elsewhere."""
NEARLY = 0.99
"""A step that leads to averages of too many nodes shrinks until its start asks for nearly as many."""
SMALLEST_RTOL = {"float64": 1e-14, "float32": 1e-6}
"""Some ten roundings of the working precision: below it the error estimate is noise and steps shrink without end."""

BRIEF = 10_000
"""Numbers in the tables of averages over one variable with which a right-hand side is over in a moment."""

MOST_FOR_PARALLEL = 1e-3
"""The tolerance of a batch with nearly parallel vectors, see `Kernel.domain_tolerance`."""


class IntegrationError(ArithmeticError):
    """A trajectory could not be followed; the message says why. trajectory: its index. time, state (states,): where it
    stopped."""

    exit_status: ClassVar[int] = 1

    def __init__(self, message: str, trajectory: int, time: float, state: np.ndarray) -> None:
        super().__init__(message)
        self.trajectory, self.time, self.state = trajectory, time, state


class TooManyStepsError(IntegrationError):
    """The allowed number of steps did not reach the end."""


class StoppedError(TimeLimitError):
    """The limit of `kernels.machine.threads.at_most` came first.

    steps, time, state (states,): how far the first trajectory that had begun was, after so many attempted. step: the
    next one's size.
    """

    def __init__(self, steps: int, time: float, step: float, state: np.ndarray) -> None:
        super().__init__(f"stopped at t = {time:.6g}")
        self.steps, self.time, self.step, self.state = steps, time, step, state


class DomainError(IntegrationError):
    """A state left the overlaps' domain by more than the tolerance."""


@dataclass(frozen=True)
class Trajectories:
    """t, beta: (n_out,). y: (N, n_out, states). steps: (N,) attempted. device, method: what really ran.

    reached: (N,) how far each was integrated: to the last time, or to where a trap stopped it.
    """

    t: np.ndarray
    beta: np.ndarray
    y: np.ndarray
    steps: np.ndarray
    reached: np.ndarray
    device: str
    method: str

    __repr__ = short_repr


@dataclass(frozen=True)
class Shooting:
    """bracket: (N, 2) the last place on each segment known to be inside and the first known not to be. runs: how many
    trajectories."""

    bracket: np.ndarray
    runs: int
    device: str
    method: str


NO_TRAPS = np.empty((0, 5))
UNREACHABLE = np.array([[1.0, 1.0, np.inf, np.inf, 0.0]])
"""A trap that no state is in."""


@dataclass(frozen=True)
class Kernel:
    """A system with its parameters' values, compiled. Other values of the same system compile nothing: see
    `with_parameters`."""

    system: OdeSystem
    beta: sp.Expr
    parameters: tuple[sp.Symbol, ...]
    values: np.ndarray
    breakpoints: tuple[float, ...]
    tables: Tables
    limits: np.ndarray
    where: Device
    precision: str
    lanes: int
    module: ModuleType
    request: Mapping[str, Any]

    __repr__ = short_repr

    @property
    def device(self) -> str:
        return self.where.name

    @property
    def measured_errors(self) -> tuple[MeasuredError, ...]:
        """How each average is approximated, and with which error as measured; the working precision's own rounding
        comes on top."""
        return self.tables.measured_errors

    def rhs_at_beta(self, beta: float | np.ndarray, y: np.ndarray) -> np.ndarray:
        """dy/dt (N, states) at the states y (N, states) and inverse temperatures beta (a number or (N,))."""
        return self._rates(beta, y)[0]

    def nodes(self, y: np.ndarray, beta: float | np.ndarray = 1.0) -> np.ndarray:
        """How many nodes of averages over several variables one right-hand side visits at each state of y (N, states):
        (N,) integers. beta: a number or (N,).

        They are nearly all of its cost. Zero for a system whose averages have one variable.
        """
        return self._rates(beta, y)[1].astype(np.int64)

    def seconds_per_rate(self, y: np.ndarray, within: float = np.inf) -> float:
        """Measured time of one right-hand side, on average over the states y (N, states) together, so with all threads
        at work.

        What would take more than `within` seconds in all is stopped then, and the time follows from the nodes that were
        visited and those that the states ask for.
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

    def nodes_asked(self, state: np.ndarray) -> float:
        """How many nodes one right-hand side visits at a state (states,), about, without visiting them."""
        return all_nodes(self.system, self._known(), self.tables, state)

    @property
    def average_error(self) -> float:
        """The largest error that was measured of an average; more than the tolerance where quasi-random points could
        not reach it."""
        return max((c.error for c in self.measured_errors), default=0.0)

    def _rates(
        self, beta: float | np.ndarray, y: np.ndarray, nodes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """dy/dt (N, states), and how many nodes of averages over several variables each visited, as `nodes` (N,) tells
        also if stopped."""
        states = _batch(y, len(self.system.states))
        dy = np.empty(states.shape, self.precision)
        nodes = np.empty(len(states), self.precision) if nodes is None else nodes
        inputs = [np.broadcast_to(beta, len(states)), states, *_stacked([self], "values", "tables")]
        units = self._parts(len(states))
        brief = units == 1 and len(self.tables.layout) == len(self.tables.by_proxy) and len(self.tables.values) < BRIEF
        self._launch("rates_all", units, [units], inputs, [dy, nodes], brief=brief)
        return dy, nodes

    def rhs(self, t: float | np.ndarray, y: np.ndarray) -> np.ndarray:
        """dy/dt (N, states) at times t (a number or (N,)) under the kernel's schedule."""
        return self.rhs_at_beta(self.beta_at(t) if np.ndim(t) else self.beta_at(t)[0], y)

    def beta_at(self, t: float | np.ndarray) -> np.ndarray:
        """The schedule's inverse temperature at times t (a number or (n,)), as (n,)."""
        times = np.atleast_1d(np.asarray(t, float))
        betas = np.empty(len(times), self.precision)
        self._launch("beta_all", len(times), [], [times, self.values], [betas], brief=True)
        return betas

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
        traps: np.ndarray = NO_TRAPS,
        number: int = 0,
    ) -> Trajectories:
        """Integrate every initial state (N, states) and return it at the given times (increasing, the first is the
        start).

        Steps land exactly on the times and on the schedule's breakpoints, where beta is taken from the left. rtol,
        atol: local error per step. fixed_steps: so many equal steps between landings instead. domain_tolerance: how far
        below zero the Gram matrix's eigenvalues may come, relative to its trace, and how far a state may pass its
        bounds. By default 1000 rtol, and at least 1e-9: local errors add up over tens to hundreds of steps, while a
        wrong equation leaves the domain by orders more. A batch with nearly parallel vectors is allowed more, see
        `domain_tolerance`. traps: (n, 5), sets that the flow is known not to leave, in which a trajectory stops and
        keeps its state: each row (sign_1, sign_2, level, least beta, together) is {sign_i y_i >= level, i = 1, 2} once
        beta has reached its least value, or {sign_1 y_1 + sign_2 y_2 >= level} where together is 1. number: that of the
        first trajectory, where the batch is a part of a larger one. Raises DomainError or IntegrationError for the
        first trajectory that fails; nothing is clipped.
        """
        return integrate_sets(
            [self],
            initial,
            times,
            rtol=rtol,
            atol=atol,
            fixed_steps=fixed_steps,
            most_steps=most_steps,
            domain_tolerance=domain_tolerance,
            traps=[traps],
            number=number,
        )[0]

    def shoot(
        self,
        low: np.ndarray,
        high: np.ndarray,
        inside: np.ndarray,
        t_end: float,
        *,
        width: np.ndarray,
        bracket: np.ndarray,
        traps: np.ndarray = NO_TRAPS,
        rtol: float = 1e-6,
        atol: float = 1e-9,
        most_steps: int = MOST_STEPS,
    ) -> Shooting:
        """Where, on each segment from the initial states low to high (N, states), the outcome at t_end stops to be
        `inside`, by bisection.

        The outcome is the pair of signs of the first two states: 1, 2, 4, 8 for (− −), (+ −), (− +), (+ +); inside:
        (N,) the sum of those meant. Places on a segment run from 0 to 1. width: (N,) of each bracket at the end,
        relative to its place. bracket: (N, 2) where the change is expected, which is checked and widened. It ends as
        (1, 1) where all is inside and (0, 0) where nothing is. traps: as for `integrate`. Raises IntegrationError where
        a trajectory fails.
        """
        starts, ends = _batch(low, len(self.system.states)), _batch(high, len(self.system.states))
        path, method = _path([self], [np.array([0.0, t_end])], rtol, atol, 0, most_steps, 1e3 * rtol, [traps])
        path[2] = np.zeros_like(path[2])  # no output is kept
        found = np.array(bracket, self.precision)
        runs, failed = np.zeros(len(starts), np.int64), np.zeros((len(starts), 1 + starts.shape[1]), self.precision)
        inputs = [starts, ends, np.asarray(inside, np.int64), np.asarray(width, float), *path]
        out = np.empty((1, 1, 1), self.precision)
        # A segment alone takes all lanes, and many segments one each. Not by the number of threads: the bracket depends
        # on it.
        places = max(1, min(self.lanes, 2 * self.lanes // max(1, len(starts))))
        units = min(len(starts), self._parts(len(starts) * places))
        self._launch("bisect_all", units, [places, units], inputs, [out, found, runs, failed])
        if (runs < 0).any():
            n = int(np.argmin(runs))
            time, state = float(failed[n, 0]), failed[n, 1:].astype(float)
            raise IntegrationError(
                f"a trajectory of the shooting fails at t = {time:.6g}, state {state}", n, time, state
            )
        return Shooting(found, int(runs.sum()), self.device, method)

    def with_parameters(self, values: Mapping[sp.Symbol | str, float]) -> Kernel:
        """The same system with other parameter values (those given replace the old ones).

        Nothing is compiled, unless an average changes between proxy and quadrature at the new values.
        """
        old = dict(zip(self.parameters, self.values, strict=True))
        merged = {**old, **_by_symbol(values, self.parameters)}
        request = {**self.request, "parameter_values": merged}
        if any(merged[s] != old[s] for s in self.system.parameters):
            return compile_system(self.system, self.beta, **request)
        numbers = np.array([merged[s] for s in self.parameters], float)
        return replace(self, values=numbers, breakpoints=_times(self.request["breakpoints"], merged), request=request)

    def domain_tolerance(self, states: np.ndarray, rtol: float) -> float:
        """1000 rtol, from 1e-9 to 1e-2; or 10 rtol/ε, at most 1e-3, where that is more. ε: the smallest sin² of a
        measured angle.

        An overlap's local error rtol is an error rtol/ε of the small squared distance ε. The flow drives such a pair
        apart and keeps that relative error, so the Gram matrix ends rtol/ε beside the right one: outside the domain
        where it is singular, as all are in the plane. More than 1e-3 is a loss of accuracy that is to be seen, and its
        remedy is a smaller rtol.
        """
        gram, symbols = self.system.domain.gram, self.system.states
        size = gram.shape[0]
        if size == 0:
            return _usual_tolerance(rtol)
        own = {s: x for s, x in self._known().items() if s in gram.free_symbols}
        entries = _numpy_function(tuple(gram), (*symbols, *own))(*states.T, *own.values())
        matrices = np.stack([np.broadcast_to(np.asarray(e, float), len(states)) for e in entries], -1).reshape(
            -1, size, size
        )
        squared = np.einsum("nii->ni", matrices)
        lengths = squared[:, :, None] * squared[:, None, :]
        moving = np.array([[i != j and gram[i, j].has(*symbols) for j in range(size)] for i in range(size)])
        pairs = moving & (lengths > 0)
        sines = 1 - matrices**2 / np.where(pairs, lengths, 1.0)
        closest = max(float(sines.min(where=pairs, initial=1.0)), 1e-300)
        return max(_usual_tolerance(rtol), min(MOST_FOR_PARALLEL, 10 * rtol / closest))

    def outside(self, y: np.ndarray) -> str | None:
        """Which state of y (N, states) lies outside the interval that the averages' tables are made for, in words; None
        if none."""
        strays = np.argwhere((self._excess(y) > STRAY) | ~np.isfinite(y))
        if len(strays) == 0:
            return None
        row, n = strays[0]
        return (
            f"states[{row}].{self.system.states[n].name} = {y[row, n]:.6g} is outside its interval {self._interval(n)}"
        )

    def _excess(self, y: np.ndarray) -> np.ndarray:
        """How far beyond its interval each state of y (N, states) is, relative to that one's length; below zero
        inside."""
        low, high = self.limits.T
        return np.maximum(low - y, y - high) / (high - low)

    def _interval(self, n: int) -> str:
        low, high = self.limits[n]
        return f"[{low:.6g}, {high:.6g}]"

    def _raise_for(self, status: np.ndarray, reached: np.ndarray, states: np.ndarray, number: int) -> None:
        """status: (N,). reached: (N, 3) steps and times. states: (N, states) where each trajectory stopped. number: of
        the first."""
        failed = np.flatnonzero(status != DONE)
        if len(failed) == 0:
            return
        n = int(failed[0])
        time, state = float(reached[n, 1]), states[n].astype(float)
        reasons = {
            TOO_MANY_STEPS: "too many steps; use a larger rtol or a shorter time",
            STEP_TOO_SMALL: "the step falls below the time's rounding; use a larger rtol",
            OUTSIDE_GRAM: "the overlaps' Gram matrix is no longer positive semidefinite; use a smaller rtol",
        }
        of_state = {NOT_FINITE: self._why_not_finite, OUTSIDE_BOUNDS: self._why_outside}
        code = int(status[n])
        why = of_state[code](state) if code in of_state else reasons[code]
        kinds = {TOO_MANY_STEPS: TooManyStepsError, OUTSIDE_GRAM: DomainError, OUTSIDE_BOUNDS: DomainError}
        others = f" (the first of {len(failed)} that fail)" if len(failed) > 1 else ""
        place = f"trajectory {number + n}{others} at t = {time:.6g}, state {np.array2string(state, precision=6)}"
        raise kinds.get(code, IntegrationError)(f"{place}: {why}", number + n, time, state)

    def _why_outside(self, state: np.ndarray) -> str:
        """A state passes an end that geometry sets by its error alone; any other one the flow itself may lead
        across."""
        n = int(self._excess(state[None])[0].argmax())
        end = int(state[n] > self.limits[n, 1])
        bound = self.system.domain.bounds[n][end].xreplace(self._known())
        beyond = f"{self.system.states[n].name} = {state[n]:.6g} leaves its interval {self._interval(n)}"
        if bound.is_finite and float(bound) == self.limits[n, end]:
            return f"{beyond}; use a smaller rtol"
        return (
            f"{beyond}, for which the averages' tables are made and which follows from the "
            f"problem's own lengths and scales; "
            "end the run before, or keep the temperatures lower"
        )

    def _why_not_finite(self, state: np.ndarray) -> str:
        """state: the last one that was reached. One step further, averages may be too large where they are not yet so
        there."""
        asked = most_nodes(self.system, self._known(), self.tables, state)
        limit = (
            f"and {MOST_NODES:.0e} are the most; bring lengths and scales closer to one another, or end the run before"
        )
        if asked > NEARLY * MOST_NODES:
            return f"the rates are not finite: an average asks for {asked:.1e} nodes, {limit}"
        if asked > 0:
            return (
                f"the rates are not finite, or an average asks for more nodes than the "
                f"{asked:.1e} at this state, {limit}"
            )
        return "the rates are not finite"

    def _known(self) -> dict[sp.Symbol, float]:
        return dict(zip(self.parameters, map(float, self.values), strict=True))

    def _parts(self, count: int, sets: int = 1) -> int:
        """Among how many units of work the trajectories of a set are shared out. Results do not depend on it."""
        if self.where.kind == "cuda":
            return min(count, max(1, RESIDENT_THREADS // sets))
        threads = numba.get_num_threads()
        full = -(-count // self.lanes)
        return min(full, PARTS_PER_THREAD * threads, max(threads, full // ROUNDS))

    def _launch(
        self,
        name: str,
        units: int,
        numbers: list[int],
        inputs: list[np.ndarray],
        outputs: list[np.ndarray],
        brief: bool = False,
    ) -> None:
        """Runs an entry of the module. units: of work, which on CUDA are threads; numbers: its last arguments; brief:
        on the CPU."""
        entry = getattr(self.module, name)
        # Numba compiles anew for another dtype, for a read-only array and for one that is not contiguous.
        inputs = [np.require(a, self.precision if a.dtype.kind == "f" else a.dtype, ["C", "W"]) for a in inputs]
        if self.where.kind == "cpu":
            run_on_threads(entry, units, *inputs, *outputs, *numbers, brief=brief)
            return
        if units == 0:
            return
        from numba import cuda  # slow to load and optional, so imported where a CUDA kernel runs

        on_device = [cuda.to_device(a) for a in (*inputs, *outputs)]
        flag = cuda.mapped_array(1, np.int64)  # memory of this process, which the GPU reads
        flag[0] = 0
        entry[-(-units // THREADS_PER_BLOCK), THREADS_PER_BLOCK](flag, *on_device, *numbers)
        if not self.where.simulated:  # whose launches are over when they return
            done = cuda.event(timing=False)
            done.record()
            wait_until(partial(_is_past, done), flag)
        for host, there in zip(outputs, on_device[len(inputs) :], strict=True):
            there.copy_to_host(host)


def _is_past(event: Any, seconds: float) -> bool:
    """Whether a CUDA event is past, after waiting so long at most."""
    end = monotonic() + seconds
    while not event.query():
        if monotonic() > end:
            return False
        sleep(1e-4)
    return True


def integrate_sets(
    kernels: Sequence[Kernel],
    initial: np.ndarray,
    times: Sequence[float] | np.ndarray | Sequence[np.ndarray],
    *,
    rtol: float = 1e-9,
    atol: float = 1e-11,
    fixed_steps: int = 0,
    most_steps: int = MOST_STEPS,
    domain_tolerance: float | None = None,
    traps: Sequence[np.ndarray] = (NO_TRAPS,),
    number: int = 0,
) -> list[Trajectories]:
    """`Kernel.integrate` for several sets of parameters in one launch, which alone fills a GPU; what it returns stands
    in the same order.

    kernels: of one system on one device, as `with_parameters` makes them. initial: (N, states) for all sets, or (sets,
    N, states). times: (n_out,) for all sets, or (sets, n_out). traps: for all sets, or one array for each. The other
    arguments and errors are those of `Kernel.integrate`; an error's trajectory counts within its set, and its message
    names the set where there are several.
    """
    one = kernels[0]
    if any(k.module is not one.module or k.where != one.where for k in kernels):
        raise ValueError("the kernels of a batch must be those of one system on one device, made by `with_parameters`")
    count, width = len(kernels), len(one.system.states)
    batches = np.asarray(initial, float)
    batches = np.array([_batch(b, width) for b in (batches if batches.ndim == 3 else [batches])])
    table = np.asarray(times, float)
    wanted = [_checked_times(t) for t in (table if table.ndim == 2 else [table] * count)]
    if len(batches) not in (1, count) or len(wanted) != count or len(traps) not in (1, count):
        raise ValueError(
            f"{len(batches)} batches of states, {len(wanted)} of times and {len(traps)} of "
            f"traps do not fit {count} sets"
        )
    if domain_tolerance is None:
        states = batches.reshape(-1, width)
        domain_tolerance = max(k.domain_tolerance(states, rtol) for k in kernels)
    path, method = _path(kernels, wanted, rtol, atol, fixed_steps, most_steps, domain_tolerance, list(traps))
    shape = (count, batches.shape[1])
    out, reached = np.empty((*shape, len(wanted[0]), width), one.precision), np.zeros((*shape, 3), one.precision)
    status = np.zeros(shape, np.int64)
    parts = one._parts(shape[1], count)
    try:
        one._launch("integrate_all", count * parts, [parts], [batches, *path], [out, reached, status])
    except TimeLimitError as error:
        begun = np.argwhere(status == HALTED)
        if len(begun) == 0:
            raise StoppedError(0, float(wanted[0][0]), 0.0, batches[0, 0]) from error
        at = tuple(begun[0])
        steps, time, step = reached[at].astype(float)
        raise StoppedError(int(steps), float(time), float(step), out[at][-1].astype(float)) from error
    for n, kernel in enumerate(kernels):
        try:
            kernel._raise_for(status[n], reached[n], out[n, :, -1], number)
        except IntegrationError as error:
            if count > 1:
                error.args = (f"set {n}: {error}",)
            raise
    return [
        Trajectories(
            wanted[n],
            k.beta_at(wanted[n]),
            out[n],
            reached[n, :, 0].astype(np.int64),
            reached[n, :, 1].copy(),
            k.device,
            method,
        )
        for n, k in enumerate(kernels)
    ]


def widest_tolerance(rtol: float) -> float:
    """What `Kernel.domain_tolerance` allows a batch with vectors as nearly parallel as you like."""
    return max(_usual_tolerance(rtol), MOST_FOR_PARALLEL)


def _usual_tolerance(rtol: float) -> float:
    return max(1e-9, min(1e-2, 1e3 * rtol))


def _checked_times(times: Sequence[float] | np.ndarray) -> np.ndarray:
    wanted = np.asarray(times, float)
    if (
        wanted.ndim != 1
        or len(wanted) < 1
        or not np.isfinite(wanted).all()
        or (np.diff(wanted) <= 0).any()
        or wanted[0] < 0
    ):
        raise ValueError("times must be finite, increasing and not negative")
    return wanted


def _path(
    kernels: Sequence[Kernel],
    wanted: list[np.ndarray],
    rtol: float,
    atol: float,
    fixed_steps: int,
    most_steps: int,
    tolerance: float,
    traps: list[np.ndarray],
) -> tuple[list[np.ndarray], str]:
    """What the integrator is told besides the initial states, each array with a row for each set, and the method in
    words."""
    precision = kernels[0].precision
    least = SMALLEST_RTOL[precision]
    if not least <= rtol < 1 or not atol > 0 or fixed_steps < 0:
        raise ValueError(
            f"rtol must lie in [{least:g}, 1) in {precision}, atol must be positive, fixed_steps not negative"
        )
    landings = [_landings(t, k.breakpoints, np.dtype(precision)) for k, t in zip(kernels, wanted, strict=True)]
    longest = max(len(times) for times, _, _ in landings)
    # A target that repeats the last one is passed at once.
    times, ends = (np.array([_extended(row[n], longest, row[n][-1]) for row in landings]) for n in (0, 1))
    kept = np.array([_extended(row[2], longest, 0) for row in landings])
    most = max(len(t) for t in traps)
    rows = traps if len(traps) == len(kernels) else traps * len(kernels)
    traps_of_sets = np.array([np.concatenate([t, np.tile(UNREACHABLE, (most - len(t), 1))]) for t in rows])
    control = np.array([rtol, atol, fixed_steps, most_steps, tolerance])
    constants = _stacked(kernels, "values", "tables", "limits")
    method = f"{fixed_steps} equal steps per interval" if fixed_steps else f"rtol = {rtol:g}, atol = {atol:g}"
    return [times, ends, kept, *constants, traps_of_sets, control], f"DOP853, {method}, {precision}"


def _extended(values: np.ndarray, length: int, last: float) -> np.ndarray:
    return np.concatenate([values, np.full(length - len(values), last, values.dtype)])


def _stacked(kernels: Sequence[Kernel], *what: str) -> list[np.ndarray]:
    """The constants of several kernels, each array with a row for each; the tables one after the other, and so the
    layouts shifted."""
    offsets = np.cumsum([0, *(len(k.tables.values) for k in kernels)])
    found = {
        "values": [np.array([k.values for k in kernels])],
        "tables": [
            np.concatenate([k.tables.values for k in kernels]),
            np.array(
                [k.tables.layout + np.array([offset, 0]) for k, offset in zip(kernels, offsets[:-1], strict=True)]
            ),
            np.array([k.tables.ranges for k in kernels]),
        ],
        "limits": [np.array([k.limits for k in kernels])],
    }
    return [array for name in what for array in found[name]]


def compile_system(
    system: OdeSystem,
    beta: sp.Expr,
    schedule_parameters: tuple[sp.Symbol, ...],
    parameter_values: Mapping[sp.Symbol | str, float],
    *,
    breakpoints: Sequence[sp.Expr] = (),
    tolerance: float = 1e-12,
    expectations: str = "proxy",
    precision: str = "float64",
    device: DeviceRequest = "auto",
    reach: Reach | None = None,
) -> Kernel:
    """Generate and compile a system under a schedule.

    beta: the schedule, an expression in derive.objects.system.TIME and schedule_parameters. breakpoints: times of its
    kinks and jumps. parameter_values: a number for every parameter of the system and the schedule, by symbol or by
    name. tolerance: absolute error of every average. expectations: "proxy" (Chebyshev where it reaches the tolerance,
    else the trapezoidal rule) or "quadrature". precision: "float64", or "float32" for all numbers in the kernel, times
    included. reach: of the states, where the problem knows of more than its parameters say. Raises ValueError for a
    missing or unknown parameter or an unknown option, DeviceUnavailable where `device` cannot run.
    """
    if expectations not in ("proxy", "quadrature"):
        raise ValueError(f'expectations must be "proxy" or "quadrature", not {expectations!r}')
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
    formula, points = rows_as_parameters(beta)
    schedule_parameters = (*schedule_parameters, *(s for s in points if s not in schedule_parameters))
    numbers = _by_symbol({**points, **parameter_values}, (*system.parameters, *schedule_parameters))
    missing = [s.name for s in (*system.parameters, *schedule_parameters) if s not in numbers]
    if missing:
        raise ValueError(f"no value is given for {', '.join(missing)}")
    where = resolve_device(device)
    own = {s: numbers[s] for s in system.parameters}
    span = reach_of(system, own) if reach is None else reach.with_other(reach_of(system, own))
    tables = build_tables(system, own, tolerance, expectations == "proxy", span)
    program = generate(system, formula, schedule_parameters, tables.by_proxy, where.kind, precision)
    values = np.array([numbers[s] for s in program.parameters], float)
    times = _times(breakpoints, numbers)
    request = {
        "schedule_parameters": schedule_parameters,
        "parameter_values": numbers,
        "breakpoints": tuple(breakpoints),
        "tolerance": tolerance,
        "expectations": expectations,
        "precision": precision,
        "device": device,
        "reach": reach,
    }
    module = load_module(program.source, f"{where.kind}_{precision}_{_stem(system.label)}")
    limits = intervals(system, own, span)
    return Kernel(
        system,
        beta,
        program.parameters,
        values,
        times,
        tables,
        limits,
        where,
        precision,
        program.lanes,
        module,
        request,
    )


@cache
def _numpy_function(
    expressions: tuple[sp.Expr, ...], symbols: tuple[sp.Symbol, ...]
) -> Callable[..., list[np.ndarray]]:
    return sp.lambdify(symbols, list(expressions), "numpy")


def _times(breakpoints: Sequence[sp.Expr], numbers: Mapping[sp.Symbol, float]) -> tuple[float, ...]:
    if not breakpoints:
        return ()
    known = {s: sp.Float(v, 17) for s, v in numbers.items()}
    return tuple(float(b.xreplace(known)) for b in breakpoints)


def _stem(label: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in label)[:40] or "system"


def _by_symbol(values: Mapping[sp.Symbol | str, float], symbols: tuple[sp.Symbol, ...]) -> dict[sp.Symbol, float]:
    """Values by symbol, of keys that are symbols or their names. Raises ValueError for a key that is neither, or no
    finite number."""
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


def _batch(y: np.ndarray, width: int) -> np.ndarray:
    states = np.ascontiguousarray(np.atleast_2d(np.asarray(y, float)))
    if states.ndim != 2 or states.shape[1] != width or not np.isfinite(states).all():
        raise ValueError(f"states must be finite and of shape (N, {width})")
    return states


def _landings(
    wanted: np.ndarray, breakpoints: tuple[float, ...], real: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All times to land on; the latest time at which a stage before each may look at beta; whether each is an
    output."""
    wanted = wanted.astype(real)
    if (np.diff(wanted) <= 0).any():
        raise ValueError(f"times must be increasing, also when rounded to {real}")
    inner = np.array([b for b in breakpoints if wanted[0] < b <= wanted[-1]], real)
    landings = np.union1d(wanted, inner)
    ends = np.where(np.isin(landings, inner), np.nextafter(landings, real.type(-np.inf)), landings)
    return landings, ends, np.isin(landings, wanted).astype(np.int64)
