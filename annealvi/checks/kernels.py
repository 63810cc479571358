"""The generated kernels against mpmath, the integrator's order, and CUDA against the CPU."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import sympy as sp

from annealvi.checks.check import Check
from annealvi.checks.grid import Evaluator
from annealvi.session import Session
from derive.expectation import Expectation
from derive.problem import ScheduleSpec, Space
from derive.schedules import make_schedule
from derive.system import BETA
from kernels.integrator import IntegrationError, Kernel

TOLERANCE = 1e-12
COARSE_TOLERANCE = 5e-10
"""Of averages over three variables and more, which the reference rule takes seconds to reach."""
WORST_ERROR = 1e-4
"""The largest measured error of quasi-random averages that is still accepted: rates of some use to a trajectory."""
STATES = 12
ORDER_STEPS = (4, 5, 6, 7, 8)
LONGEST_SIMULATION = 600
"""Seconds after which Numba's simulator, some ten thousand times slower than the CPU, is left alone."""
LONGEST_SPAN = 16.0
"""In units of the flow's shortest time: four steps over it are as long as stability allows."""


def kernel_checks(session: Session, device: str) -> Iterator[Check]:
    """Every lowering of the averages, at random states of R⁴ (overlaps of every size) and inverse temperatures."""
    system = session.derivation.system
    widest = widest_average(session)
    count, tolerance = (STATES, TOLERANCE) if widest <= 2 else (2, COARSE_TOLERANCE)
    states = _of_every_size(session).random_states(count, seed=7)
    betas = np.linspace(0.05, 1.0, count)
    numbers = {s: sp.Float(v, 30) for s, v in session.values.items()}
    evaluator = Evaluator()
    exact, uncertainty = [], 0.0
    for beta, y in zip(betas, states, strict=True):
        at = {BETA: sp.Float(beta, 30)} | {s: sp.Float(x, 30) for s, x in zip(system.states, y, strict=True)}
        exact.append(evaluator.rates(system, {**numbers, **at}))
        uncertainty = max(uncertainty, evaluator.uncertainty)
    scale = max(1.0, float(np.abs(exact).max()))
    one_variable = any(isinstance(f, sp.tanh | sp.sech) for _, e in system.subexpressions for f in e.atoms(sp.Function))
    for expectations in ("proxy", "quadrature") if one_variable else ("quadrature",):
        kernel = session.compile(device, tolerance, expectations)
        got = np.array([kernel.rhs_at_beta(beta, y[None])[0] for beta, y in zip(betas, states, strict=True)])
        name = f"kernel against {'mpmath' if widest <= 1 else 'another rule'} ({expectations})"
        error = min(WORST_ERROR, max(tolerance, kernel.average_error))
        note = f"{count} states; an average's measured error is {error:.1g}, a rate has some ten with factors of order one; {kernel.device}"
        yield Check(name, "numeric", float(np.abs(got - exact).max()) / scale, 20 * error + uncertainty / scale, note)


def widest_average(session: Session) -> int:
    """The largest number of variables that one of the system's averages runs over."""
    return max((len(a.variables) for _, e in session.derivation.system.subexpressions for a in e.atoms(Expectation)), default=0)


def order_check(session: Session) -> Check | str:
    """How far the slope of the fixed-step error falls short of 8, under β = 1, where the flow is fastest.

    A wrong coefficient costs a whole order. A steeper slope is no defect: terms of higher order are still seen at the steps that
    double precision leaves; on the study's own case, where they are not, a test holds the slope to 8 from both sides. A line that says
    why where it is not measured.
    """
    if widest_average(session) > 2:
        return "order of the integrator: not measured, since averages over three variables at full precision would take minutes"
    cold = dataclasses.replace(session.problem, schedule=ScheduleSpec("constant", 1.0))
    here = dataclasses.replace(session, problem=cold, schedule=make_schedule(cold.schedule))
    kernel = here.compile("cpu")
    states = _of_every_size(here).random_states(8, seed=3)
    scale = float(np.abs(states).max())
    errors = np.full(len(ORDER_STEPS), np.inf)
    longest = LONGEST_SPAN / max(fastest_rate(kernel, 1.0, y) for y in states)
    for span in longest / 2.0 ** np.arange(0, 8, 0.25):  # shortened until the largest error is so small that its leading term dominates
        with suppress(IntegrationError):  # steps so long that they leave the domain
            errors = _fixed_step_errors(kernel, states, np.array([0.0, span]))
        if errors[0] < 3e-10 * scale:
            break
    if not 1e-14 * scale < errors[-1] < errors[0] < 3e-10 * scale:  # a slope into rounding, or none, says nothing
        errors = np.full(len(ORDER_STEPS), np.nan)
    slope = float(-np.polyfit(np.log(ORDER_STEPS), np.log(errors), 1)[0]) if np.isfinite(errors).all() else float("nan")
    note = f"measured order {slope:.2f} of DOP853's 8; errors {errors[0]:.1e} to {errors[-1]:.1e}"
    return Check("order of the integrator, short of 8 by", "numeric", max(8 - slope, 0.0) if np.isfinite(slope) else slope, 0.5, note)


def fastest_rate(kernel: Kernel, beta: float, y: np.ndarray) -> float:
    """The largest modulus of the Jacobian's eigenvalues, by central differences."""
    steps = 1e-5 * np.maximum(np.abs(y), 1.0)
    moved = np.concatenate([y + np.diag(steps), y - np.diag(steps)])
    rates = kernel.rhs_at_beta(beta, moved)
    jacobian = (rates[: len(y)] - rates[len(y) :]).T / (2 * steps)
    return float(np.abs(np.linalg.eigvals(jacobian)).max())


def _fixed_step_errors(kernel: Kernel, states: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Root-mean-square error at the end for each of ORDER_STEPS, against the adaptive integrator at its tightest."""
    reference = kernel.integrate(states, times, rtol=1e-13, atol=1e-15).y[:, -1]
    finals = [kernel.integrate(states, times, fixed_steps=n).y[:, -1] for n in ORDER_STEPS]
    return np.array([np.sqrt(np.mean((final - reference) ** 2)) for final in finals])


def _of_every_size(session: Session) -> Session:
    """The same session in R⁴, where random overlaps are not small."""
    return dataclasses.replace(
        session, problem=dataclasses.replace(session.problem, space=Space(max(4, session.problem.target.coordinates)))
    )


def cuda_check(session: Session) -> Check | str:
    """CUDA against the CPU on a GPU, or in Numba's simulator in another process; a line that says why where neither runs."""
    from kernels.device import DeviceUnavailable, resolve_device

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        where = resolve_device("cuda").name
    except DeviceUnavailable:
        where = "cuda simulator"
        environment["NUMBA_ENABLE_CUDASIM"] = "1"
    try:
        import numba.cuda  # noqa: F401
    except ImportError:
        return 'CUDA against CPU: not run, since numba.cuda is not installed (pip install "annealvi[cuda]")'
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "annealvi.checks.cuda_twin"],  # -P: not from the working folder, unless this process looks there
            input=pickle.dumps(session),
            env=environment,
            capture_output=True,
            check=False,
            timeout=LONGEST_SIMULATION,
        )
    except subprocess.TimeoutExpired:
        return f"CUDA against CPU ({where}): not run to its end, since its averages take longer than {LONGEST_SIMULATION} s there"
    name = f"CUDA against CPU ({where})"
    if done.returncode != 0:
        last_words = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return Check(name, "numeric", float("nan"), 1e-11, last_words[:120])
    difference = json.loads(done.stdout.strip().splitlines()[-1])
    note = "ODE and particles, float64; 1e-11: some hundred rounded operations per number"
    return Check(name, "numeric", float(np.max([difference["ode"], difference["particles"]])), 1e-11, note)
