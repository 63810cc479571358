"""One step of the stochastic gradient flow, from two densities and their samples alone: what the CPU and CUDA kernels share.

With x = a_i + sigma_i z and the scores of Gaussian mixtures, the gradient of KL(q || p*^beta / Z) in the proposal's mean a_i is

    g_i = w_i E_i[ sum_c k_c(x) (c - x) ],

a sum over the centres c of both mixtures: the proposal's a_j, pulling with k = rho_j(x) / sigma_j^2, and the target's nu_k, pulling
with k = -beta rho*_k(x) / sigma*_k^2, where rho and rho* are the responsibilities. All L + K centres lie in one array, the proposal's
first. Over particles two sums are kept: of k_c(x) for each centre, and of x times the sum of all k_c(x).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels.random_stream import compiled


class ParticleFlow(NamedTuple):
    """The constants of a run, as the kernels take them.

    targets: (K, d), C-contiguous, of the working precision; weights, scales: (L,) of the proposal;
    log_amplitudes, precisions: (L + K,) log weight - d log scale and 1 / scale^2 of all centres; seed: uint64.
    """

    targets: np.ndarray
    weights: np.ndarray
    scales: np.ndarray
    log_amplitudes: np.ndarray
    precisions: np.ndarray
    dt: float
    particles: int
    seed: np.uint64
    spherical: bool


@compiled
def normalise_exponentials(values, start, stop):
    """Replaces values[start:stop] by exp(values) over their sum, without overflow."""
    largest = values[start]
    for c in range(start + 1, stop):
        largest = max(largest, values[c])
    total = 0.0
    for c in range(start, stop):
        values[c] = math.exp(values[c] - largest)
        total += values[c]
    for c in range(start, stop):
        values[c] /= total


@compiled
def squared_distances_to_pulls(values, log_amplitudes, precisions, proposals, beta):
    """Replaces the squared distances from x to all centres, (L + K,), by the pulls k_c(x), and returns their sum.

    log_amplitudes: log weight - d log scale; precisions: 1 / scale^2; proposals: L.
    """
    for c in range(values.size):
        values[c] = log_amplitudes[c] - 0.5 * precisions[c] * values[c]
    normalise_exponentials(values, 0, proposals)
    normalise_exponentials(values, proposals, values.size)
    total = 0.0
    for c in range(values.size):
        values[c] *= precisions[c]
        if c >= proposals:
            values[c] *= -beta
        total += values[c]
    return total
