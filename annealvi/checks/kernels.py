"""The generated kernels against mpmath, the integrator's order, and CUDA against the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import sympy as sp

from annealvi.checks.check import Check
from annealvi.checks.grid import Evaluator
from annealvi.session import Session
from derive.system import BETA

TOLERANCE = 1e-12
STATES = 12


def kernel_checks(session: Session, device: str) -> Iterator[Check]:
    """Both lowerings of the averages, at random states of R⁴ (overlaps of every size) and inverse temperatures."""
    import dataclasses

    system = session.derivation.system
    small = dataclasses.replace(session, problem=dataclasses.replace(session.problem, space=dataclasses.replace(session.problem.space, dimension=4)))
    states = small.random_states(STATES, seed=7)
    betas = np.linspace(0.05, 1.0, STATES)
    numbers = {s: sp.Float(v, 30) for s, v in session.values.items()}
    evaluator = Evaluator()
    exact = np.array(
        [
            evaluator.rates(system, {**numbers, BETA: sp.Float(beta, 30), **dict(zip(system.states, map(lambda x: sp.Float(x, 30), y), strict=True))})
            for beta, y in zip(betas, states, strict=True)
        ]
    )
    scale = max(1.0, float(np.abs(exact).max()))
    for expectations in ("proxy", "quadrature"):
        kernel = session.compile(device, TOLERANCE, expectations)
        got = np.array([kernel.rhs_at_beta(beta, y[None])[0] for beta, y in zip(betas, states, strict=True)])
        note = f"{STATES} states; averages certified to {TOLERANCE:g}, some ten of them with factors of order one; {kernel.device}"
        yield Check(f"kernel against mpmath ({expectations})", "numeric", float(np.abs(got - exact).max()) / scale, 20 * TOLERANCE, note)


def order_check(session: Session) -> Check:
    """The slope of the fixed-step error against the step, by least squares over three halvings."""
    kernel = session.compile("cpu")
    states = session.random_states(4, seed=3)
    times = np.array([0.0, 16.0])
    reference = kernel.integrate(states, times, rtol=1e-13, atol=1e-15).y[:, -1]
    steps = np.array([16, 20, 25, 32])
    errors = np.array([np.abs(kernel.integrate(states, times, fixed_steps=int(n)).y[:, -1] - reference).max() for n in steps])
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    note = f"measured order {slope:.2f} of DOP853's 8; errors {errors[0]:.1e} to {errors[-1]:.1e}"
    return Check("order of the integrator", "numeric", abs(slope - 8), 0.5, note)


def cuda_check(session: Session) -> Check | str:
    """CUDA against the CPU on a GPU, or in Numba's simulator in another process; a line that says why where neither runs."""
    from kernels.device import DeviceUnavailable, resolve_device

    environment = dict(os.environ)
    try:
        where = resolve_device("cuda").name
    except DeviceUnavailable:
        where = "cuda simulator"
        environment["NUMBA_ENABLE_CUDASIM"] = "1"
    try:
        import numba.cuda  # noqa: F401
    except ImportError:
        return 'CUDA against CPU: not run, since numba.cuda is not installed (pip install "annealvi[cuda]")'
    from derive.problem_file import problem_to_toml

    done = subprocess.run(
        [sys.executable, "-m", "annealvi.checks.cuda_twin"],
        input=problem_to_toml(session.problem),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return Check("CUDA against CPU", "numeric", float("nan"), 0.0, f"{where}: {done.stderr.strip().splitlines()[-1][:120]}")
    difference = json.loads(done.stdout)
    note = f"ODE and particles, float64; {where}; 1e-11: some hundred rounded operations per number"
    return Check("CUDA against CPU", "numeric", max(difference.values()), 1e-11, note)
