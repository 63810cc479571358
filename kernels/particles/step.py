"""One step of the stochastic gradient flow: the formulas, records and functions that the CPU and CUDA kernels share.

A step uses the densities of proposal and target and samples of them, nothing else. With
f = log q - beta log p*, x = a_i + sigma_i z and the scores of Gaussian mixtures, the gradient of KL(q || p*^beta / Z)
in the proposal's mean a_i is

    g_i = w_i E_i[grad f(x)],   grad f(x) = sum_c k_c(x) (c - x),

a sum over the centres c of both mixtures. The proposal's mean a_j pulls with k = rho_j(x) / sigma_j^2, the target's
mean nu_k with k = -beta rho*_k(x) / sigma*_k^2, where rho and rho* are the responsibilities. All L + K centres lie in
one array, the proposal's first. Only z is random. It enters the squared distances as

    |x - c|^2 = |a_i - c|^2 + 2 sigma_i z . (a_i - c) + sigma_i^2 |z|^2,

where the first term is known in double precision, and single precision concerns the random terms only. A step sums two
quantities over the particles: k_c(x) for each centre c, and z times the sum of k_c(x) over all centres. Then

    g_i = w_i (sum_c E_i[k_c] (c - a_i) - sigma_i E_i[z sum_c k_c]).

The gradients in the logits theta_i of the weights and in tau_i = log sigma_i need two more numbers for each component,

    E_i[f(x)]   and   E_i[(x - a_i) . grad f(x)],   (x - a_i) . (c - x) = -sigma_i z . (a_i - c) - sigma_i^2 |z|^2.

A reference q0 = N(0, sigma_0^2 I) adds -(1 - beta) log q0 to f. It is one more centre, the origin, in the last place of
all arrays; it pulls with k = -(1 - beta) / sigma_0^2. `kernels.particles.forward` adds the part of the forward KL.

All densities lack their factors (2 pi)^(-d/2). These shift every E_i[f(x)] alike, and only differences between them
move the weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kernels.machine.vector_math import exp
from kernels.particles.random_stream import compiled
from kernels.particles.shapes import SCALES, WEIGHTS


class Terms(NamedTuple):
    """What an estimate consists of beside the means' gradient of the tempered reverse KL; kernels compile for it.

    Attributes
    ----------
    shapes
        The slopes of the parameters.
    reference
        The term of the reference in the tempered reverse KL.
    forward
        The part of the forward KL, see `kernels.particles.forward`.
    """

    shapes: bool
    reference: bool
    forward: bool


class ParticleFlow(NamedTuple):
    """The constants of a run, as the kernels take them.

    Attributes
    ----------
    targets
        Means of the target, (K, d), and the origin after them if there is a reference; C-contiguous, in the working
        precision.
    target_weights, target_scales
        Weights and scales of the target, (K,).
    dt
        Step of Euler's method.
    particles
        Particles of each component in each step.
    seed
        Seed of the random stream.
    spherical
        Whether the means stay on their spheres.
    learns_means
        Whether the means move.
    learns
        Whether each parameter of `PARAMETERS` moves.
    forward_share
        The share of the forward KL in the objective, from 0 to 1.
    """

    targets: np.ndarray
    target_weights: np.ndarray
    target_scales: np.ndarray
    dt: float
    particles: int
    seed: np.uint64
    spherical: bool
    learns_means: bool
    learns: tuple[bool, ...]
    forward_share: float

    @property
    def learns_shapes(self) -> bool:
        """Whether any parameter moves, so that the kernels need one more sum for each parameter of each component."""
        return any(self.learns)

    @property
    def terms(self) -> Terms:
        """What the run's estimates consist of."""
        return Terms(self.learns_shapes, len(self.targets) > len(self.target_weights), self.forward_share > 0)


class Replicas(NamedTuple):
    """The state of all replicas, as arrays of float64 that the kernels change in place.

    Attributes
    ----------
    means
        Means of the proposal, (replicas, L, d).
    radii
        Radii of the means' spheres, (replicas, L).
    logs
        The coordinates in which the parameters move, (parameters, replicas, L) in the order of `PARAMETERS`.
    values
        Their exponentials, such as weights and scales.
    log_amplitudes
        log weight - d log scale of all centres, (replicas, L + K), and zero for a reference after them. With
        covariances in r coordinates d - r takes the place of d.
    precisions
        1 / scale^2 of all centres, (replicas, L + K), and of a reference after them.
    """

    means: np.ndarray
    radii: np.ndarray
    logs: np.ndarray
    values: np.ndarray
    log_amplitudes: np.ndarray
    precisions: np.ndarray


class Estimates(NamedTuple):
    """What one step estimates for each replica, from fresh particles.

    Where no parameter is learned, the kernels leave the slopes unchanged.

    Attributes
    ----------
    gradients
        Gradients of the objective in the means, (replicas, L, d).
    slopes
        What `kernels.particles.shapes.move_shapes` follows, (parameters, replicas, L): for the weights E_i[f] up to a
        constant that all components share, for the scales E_i[(x - a_i) . grad f].
    """

    gradients: np.ndarray
    slopes: np.ndarray


def draws_per_component(d: int, centres: int, particles: int, projected: bool) -> int:
    """How many standard normals one step draws for each component.

    A step draws the d coordinates of each particle. Where the particles are projected onto the span of the
    `centres` = L + K centres, a step draws L + K coordinates of each particle and one vector of R^d for all particles.
    """
    return particles * centres + d if projected else particles * d


def replicas_at(
    means: np.ndarray, values: np.ndarray, targets: np.ndarray, reference_scale: float | None = None, r: int = 0
) -> Replicas:
    """The state with the given means, (replicas, L, d), and values of `PARAMETERS`.

    values: the proposal's, (parameters, replicas, L); targets: the target's, (parameters, K). r: in how many
    coordinates covariances take the place of the scales.
    """
    replicas, _, d = means.shape
    all_values = np.concatenate([values, np.repeat(targets[:, None], replicas, axis=1)], axis=2)
    log_amplitudes = np.log(all_values[WEIGHTS]) - (d - r) * np.log(all_values[SCALES])
    precisions = 1 / all_values[SCALES] ** 2
    if reference_scale is not None:
        log_amplitudes = np.pad(log_amplitudes, ((0, 0), (0, 1)))
        precisions = np.pad(precisions, ((0, 0), (0, 1)), constant_values=1 / reference_scale**2)
    return Replicas(
        means=means.copy(),
        radii=np.linalg.norm(means, axis=-1),
        logs=np.log(values),
        values=values.copy(),
        log_amplitudes=log_amplitudes,
        precisions=precisions,
    )


@compiled
def normalise_exponentials(values: np.ndarray, start: int, stop: int, log_sums: np.ndarray, lanes: int) -> None:
    """Replaces the rows start .. stop - 1 of values, (rows, lanes), by exp(values) over the sum of exp(values).

    log_sums, (lanes,), receives the sum's logarithm. No exponential overflows.
    """
    for lane in range(lanes):
        log_sums[lane] = values[start, lane]
    for c in range(start + 1, stop):
        for lane in range(lanes):
            log_sums[lane] = max(log_sums[lane], values[c, lane])
    for c in range(start, stop):
        for lane in range(lanes):
            values[c, lane] = exp(values[c, lane] - log_sums[lane])
    for lane in range(lanes):
        total = 0.0
        for c in range(start, stop):
            total += values[c, lane]
        for c in range(start, stop):
            values[c, lane] /= total
        log_sums[lane] += math.log(total)


@compiled
def find_pulls(
    pulls: np.ndarray,
    dots: np.ndarray,
    squares: np.ndarray,
    totals: np.ndarray,
    log_sums: np.ndarray,
    separations: np.ndarray,
    scale: float,
    log_amplitudes: np.ndarray,
    precisions: np.ndarray,
    proposals: int,
    beta: float,
    with_reference: bool,
    lanes: int,
) -> None:
    """Finds the pulls k_c(x) of all centres c on some particles x of component i, one particle in each lane.

    The function writes the pulls to `pulls` (L + K, lanes), their sums over the centres to `totals` (lanes,), and
    log q, log p* and log q0 at x, up to constants, to `log_sums` (3, lanes). dots: z . (a_i - c), (L + K, lanes);
    squares: |z|^2, (lanes,); separations: |a_i - c|^2, (L + K,); scale: sigma_i; log_amplitudes: log weight - d log
    scale, (L + K,); precisions: 1 / scale^2, (L + K,); proposals: L. with_reference: whether all arrays have one row
    more for the reference.
    """
    stop = len(pulls) - 1 if with_reference else len(pulls)
    for c in range(len(pulls)):
        for lane in range(lanes):
            squared_distance = separations[c] + scale * (2.0 * dots[c, lane] + scale * squares[lane])
            pulls[c, lane] = log_amplitudes[c] - 0.5 * precisions[c] * squared_distance
    normalise_exponentials(pulls, 0, proposals, log_sums[0], lanes)
    normalise_exponentials(pulls, proposals, stop, log_sums[1], lanes)
    if with_reference:
        for lane in range(lanes):
            log_sums[2, lane] = pulls[stop, lane]
            pulls[stop, lane] = 1.0
    for lane in range(lanes):
        totals[lane] = 0.0
    for c in range(len(pulls)):
        factor = precisions[c] if c < proposals else -beta * precisions[c]
        if with_reference and c == stop:
            factor = (beta - 1.0) * precisions[c]
        for lane in range(lanes):
            pulls[c, lane] *= factor
            totals[lane] += pulls[c, lane]
