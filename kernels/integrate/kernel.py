"""The kernel of a system: its compiled right-hand sides, and their adaptive integration over batches of states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sympy as sp

from derive.objects.system import OdeSystem
from kernels.averages.reach import Reach
from kernels.integrate import domain
from kernels.integrate.batch import MOST_STEPS, Trajectories, integrate_sets
from kernels.integrate.compiled import CompiledSystem, Request
from kernels.integrate.paths import NO_TRAPS
from kernels.integrate.shooting import Shooting, shoot_segments
from kernels.lower.analysis import analyse_averages
from kernels.machine.device import DeviceRequest


@dataclass(frozen=True, repr=False)
class Kernel(CompiledSystem):
    """A compiled system that integrates. `with_parameters` gives the same kernel at other values without compiling."""

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
        number: int | np.ndarray = 0,
    ) -> Trajectories:
        """Integrate every initial state and return the states at the given times.

        Steps land exactly on the times and on the schedule's breakpoints. At a breakpoint the step before takes beta
        from the left.

        Parameters
        ----------
        initial
            (N, states) the initial states.
        times
            (n_out,) increasing; the first is the start.
        rtol, atol
            Tolerances of the local error per step.
        fixed_steps
            The number of equal steps between two landings, in place of adaptive steps.
        most_steps
            The number of attempted steps after which a trajectory fails.
        domain_tolerance
            How far below zero the eigenvalues of the Gram matrix may come, relative to its trace, and how far a state
            may pass its bounds. By default 1000 rtol, kept between 1e-9 and 1e-2: local errors add up over tens to
            hundreds of steps, whereas a wrong equation leaves the domain by orders of magnitude more. Nearly parallel
            vectors are allowed more; see the method `domain_tolerance`.
        traps
            (n, 5) sets that the flow is known not to leave. A trajectory stops in such a set and keeps its state. A row
            (sign_1, sign_2, level, least beta, together) stands for the set {sign_i y_i >= level, i = 1, 2}, or for
            {sign_1 y_1 + sign_2 y_2 >= level} where together is 1. The set counts from least beta on.
        number
            The number of the first trajectory, or (N,) those of all, where the batch is a part of a larger one.

        Returns
        -------
        Trajectories
            The states (N, n_out, states) and how they were reached.

        Raises
        ------
        DomainError, IntegrationError
            For the first trajectory that fails. Nothing is clipped.
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
        """Find by bisection where, on segments of initial states, the outcome at t_end stops to be `inside`.

        The outcome is the pair of signs of the first two states: 1, 2, 4, 8 for (− −), (+ −), (− +), (+ +). A place on
        a segment is a number from 0 (low) to 1 (high).

        Parameters
        ----------
        low, high
            (N, states) the ends of the segments.
        inside
            (N,) the sum of the outcomes that count as inside.
        t_end
            The time of the outcome.
        width
            (N,) the width of each bracket at the end, relative to its place.
        bracket
            (N, 2) where the change is expected, which the search checks and widens.
        traps, rtol, atol, most_steps
            As for `integrate`.

        Returns
        -------
        Shooting
            The brackets: (1, 1) where the whole segment is inside, and (0, 0) where none of it is.

        Raises
        ------
        IntegrationError
            Where a trajectory fails.
        """
        return shoot_segments(
            self,
            low,
            high,
            inside,
            t_end,
            width=width,
            bracket=bracket,
            traps=traps,
            rtol=rtol,
            atol=atol,
            most_steps=most_steps,
        )

    def domain_tolerance(self, states: np.ndarray, rtol: float) -> float:
        """The default domain tolerance of an integration from the states (N, states).

        See `kernels.integrate.domain.domain_tolerance`.
        """
        return domain.domain_tolerance(self, states, rtol)

    def outside(self, y: np.ndarray) -> str | None:
        """The first of the states y (N, states) that lies outside its interval, in words, or None.

        The tables behind the averages are made for the states within their intervals.
        """
        return domain.first_stray(self, y)


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
    stabilised: bool = False,
) -> Kernel:
    """Generate and compile a system under a schedule.

    Parameters
    ----------
    system
        The system.
    beta
        The schedule: an expression in `derive.objects.system.TIME` and the schedule's parameters.
    schedule_parameters
        The symbols of the schedule's parameters.
    parameter_values
        A number for every parameter of the system and of the schedule, by symbol or by name.
    breakpoints
        The times of the schedule's kinks and jumps.
    tolerance
        The wanted error of every average; see `kernels.averages.tables.build_tables`.
    expectations
        "proxy" evaluates an average by a Chebyshev series, in up to three coordinates, where one reaches the tolerance,
        and otherwise by the trapezoidal rule. "quadrature" always uses the trapezoidal rule.
    precision
        "float64" or "float32", for all numbers in the kernel, times included.
    device
        "auto", "cpu" or "cuda".
    reach
        How far the states go, where the problem knows more than its parameters say.
    stabilised
        Whether the kernel has RKC as a second method, for steps that stability bounds: an explicit method of order 2
        with many stages. At tolerances rtol below 1e-7 DOP853 takes all steps nevertheless.

    Returns
    -------
    Kernel
        The compiled system.

    Raises
    ------
    ValueError
        For a missing or unknown parameter, or an unknown option.
    DeviceUnavailable
        Where the device cannot run.
    """
    request = Request(
        beta,
        schedule_parameters,
        parameter_values,
        tuple(breakpoints),
        tolerance,
        expectations,
        precision,
        device,
        reach,
        stabilised,
    )
    return Kernel.compiled(analyse_averages(system), request)
