"""What a run may learn of the components beside their means: each parameter's gradient estimator and its step.

A parameter's place in `PARAMETERS` is its place in every array of shape (parameters, …): its numbers and their
logarithms in `kernels.particles.step.Replicas`, its slopes in `Estimates`. The formulas stand in the docstring of
`kernels.particles.step`.
"""

from __future__ import annotations

import math

import numpy as np

from kernels.particles.random_stream import compiled

PARAMETERS = ("weights", "scales")
WEIGHTS, SCALES = range(len(PARAMETERS))
LEARNABLE = ("means", *PARAMETERS)
NO_SUMS = (0.0,) * len(PARAMETERS)

LIGHTEST = 1e-30
"""A weight below this fraction of its initial value has diverged. No flow makes a weight so small: its logarithm falls
at a rate proportional to the weight, and so like -log t."""


@compiled
def add_slopes(
    sums: tuple[float, ...],
    pulls: np.ndarray,
    dots: np.ndarray,
    squares: np.ndarray,
    totals: np.ndarray,
    log_sums: np.ndarray,
    scale: float,
    beta: float,
    with_reference: bool,
    members: int,
) -> tuple[float, ...]:
    """The sums, one for each parameter, with what the particles of the first `members` lanes add to them.

    The weights' sum is that of f(x), and the scales' that of (x - a_i) . grad f(x). The other arguments are those of
    `kernels.particles.step.find_pulls`, which has filled them in.
    """
    log_ratios, stretches = sums
    for lane in range(members):
        log_ratios += log_sums[0, lane] - beta * log_sums[1, lane]
        if with_reference:
            log_ratios -= (1.0 - beta) * log_sums[2, lane]
        stretches -= scale * scale * totals[lane] * squares[lane]
    for c in range(len(pulls)):
        for lane in range(members):
            stretches -= scale * pulls[c, lane] * dots[c, lane]
    return log_ratios, stretches


@compiled
def add_forward_slopes(sums: np.ndarray, share: float, squared_distance: float, precision: float, d: int) -> None:
    """Adds to the sums, (parameters,), what one sample x of the target adds to the forward KL's slopes, times -w_i.

    share: the responsibility rho_i(x); squared_distance: |x - a_i|^2; precision: 1 / sigma_i^2.
    """
    sums[WEIGHTS] += share
    sums[SCALES] += share * (precision * squared_distance - d)


def move_shapes(
    logs: np.ndarray,
    values: np.ndarray,
    log_amplitudes: np.ndarray,
    precisions: np.ndarray,
    slopes: np.ndarray,
    replica: int,
    d: int,
    dt: float,
    learns: tuple[bool, ...],
) -> None:
    """Euler step of one replica's parameters, in place.

    d: the number of coordinates that the scales cover. The step follows dtheta_i/dt = -w_i (e_i - sum_j w_j e_j), with
    e_i in the weights' slopes, and dtau_i/dt = -w_i s_i, with s_i in the scales'. The function also renews the
    proposal's part of `log_amplitudes` and `precisions`. All arrays have a row for each replica, because Numba's CUDA
    simulator cannot hand on a row of an array. The function is plain Python, and the CPU's and the GPU's compilers each
    compile it.
    """
    proposals = values.shape[2]
    average = 0.0
    for i in range(proposals):
        average += values[WEIGHTS, replica, i] * slopes[WEIGHTS, replica, i]
    largest = -math.inf
    for i in range(proposals):
        if learns[SCALES]:
            logs[SCALES, replica, i] -= dt * values[WEIGHTS, replica, i] * slopes[SCALES, replica, i]
            values[SCALES, replica, i] = math.exp(logs[SCALES, replica, i])
        if learns[WEIGHTS]:
            logs[WEIGHTS, replica, i] -= dt * values[WEIGHTS, replica, i] * (slopes[WEIGHTS, replica, i] - average)
        largest = max(largest, logs[WEIGHTS, replica, i])
    if learns[WEIGHTS]:
        total = 0.0
        for i in range(proposals):
            total += math.exp(logs[WEIGHTS, replica, i] - largest)
        for i in range(proposals):
            logs[WEIGHTS, replica, i] -= largest + math.log(total)
            values[WEIGHTS, replica, i] = math.exp(logs[WEIGHTS, replica, i])
    for i in range(proposals):
        log_amplitudes[replica, i] = logs[WEIGHTS, replica, i] - d * logs[SCALES, replica, i]
        precisions[replica, i] = math.exp(-2.0 * logs[SCALES, replica, i])


def velocities(values: np.ndarray, slopes: np.ndarray, learns: tuple[bool, ...]) -> np.ndarray:
    """The rates of the parameters' values, (parameters, replicas, L), that follow from estimates of their slopes.

    The rates of parameters that are not learned are zero.
    """
    weights, scales = values
    logits = -weights * _centred(slopes[WEIGHTS], weights) * learns[WEIGHTS]
    log_scales = -weights * slopes[SCALES] * learns[SCALES]
    return np.array([weights * _centred(logits, weights), scales * log_scales])


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The values, (replicas, L), less their weighted mean over the components."""
    return values - np.sum(weights * values, axis=-1, keepdims=True)


def longest_steps(start: np.ndarray, now: np.ndarray, d: int, r: int) -> dict[str, tuple[np.ndarray, str, float]]:
    """For each parameter: where it has not diverged, and the longest step near the optimum, in words and in numbers.

    start, now: the parameters' values at the start of a run and now, (parameters, replicas, L). r: in how many of the d
    coordinates covariances take the place of the scales.
    """
    heaviest = start[WEIGHTS].max()
    dimensions, scaled = ("(d - r)", max(d - r, 1)) if r else ("d", d)
    return {
        "weights": (now[WEIGHTS] > LIGHTEST * start[WEIGHTS], "2 / w_i", 2 / heaviest),
        "scales": ((now[SCALES] > 0) & (now[SCALES] < np.inf), f"1 / ({dimensions} w_i)", 1 / (scaled * heaviest)),
    }
