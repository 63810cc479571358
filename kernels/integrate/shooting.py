"""Shooting: the place on a segment of initial states at which the outcome of the flow changes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.generate.templates.integrator import Control
from kernels.integrate.compiled import CompiledSystem
from kernels.integrate.errors import IntegrationError
from kernels.integrate.paths import NO_TRAPS, method_text, paths_of


@dataclass(frozen=True)
class Shooting:
    """The result of shooting on N segments.

    Attributes
    ----------
    bracket
        (N, 2) the last place on each segment known to be inside, and the first place known to be outside.
    runs
        How many trajectories were integrated.
    device, method
        The device and the method that ran.
    """

    bracket: np.ndarray
    runs: int
    device: str
    method: str


def shoot_segments(
    kernel: CompiledSystem,
    low: np.ndarray,
    high: np.ndarray,
    inside: np.ndarray,
    t_end: float,
    *,
    width: np.ndarray,
    bracket: np.ndarray,
    traps: np.ndarray = NO_TRAPS,
    rtol: float,
    atol: float,
    most_steps: int,
) -> Shooting:
    """Bisect every segment from low to high (N, states); see `Kernel.shoot`."""
    starts, ends = kernel.checked_states(low), kernel.checked_states(high)
    control = Control(rtol, atol, fixed_steps=0, most_steps=most_steps, domain_tolerance=1e3 * rtol)
    path = paths_of([kernel], [np.array([0.0, t_end])], control, [traps])
    path = path._replace(kept=np.zeros_like(path.kept))
    found = np.array(bracket, kernel.precision)
    runs = np.zeros(len(starts), np.int64)
    failed = np.zeros((len(starts), 1 + starts.shape[1]), kernel.precision)
    inputs = [starts, ends, np.asarray(inside, np.int64), np.asarray(width, float), *path]
    out = np.empty((1, 1, 1), kernel.precision)
    # One segment alone takes all lanes, and each of many segments takes one lane. The number of lanes must not follow
    # the number of threads, since the bracket depends on it.
    places = max(1, min(kernel.lanes, 2 * kernel.lanes // max(1, len(starts))))
    units = min(len(starts), kernel.executable.parts(len(starts) * places))
    kernel.executable.launch("bisect_all", units, [places, units], inputs, [out, found, runs, failed])
    if (runs < 0).any():
        n = int(np.argmin(runs))
        time, state = float(failed[n, 0]), failed[n, 1:].astype(float)
        raise IntegrationError(f"a trajectory of the shooting fails at t = {time:.6g}, state {state}", n, time, state)
    return Shooting(
        found, int(runs.sum()), kernel.device, method_text(control, kernel.precision, kernel.request.stabilised)
    )
