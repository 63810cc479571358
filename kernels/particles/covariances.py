"""Mixtures with covariances: what a step estimates of them, and how it moves them, on the CPU and on CUDA.

Component i has the covariance C_i = A_i A_i^T in the first r coordinates, the space S, and the scale sigma_i in the
other d - r. A particle is x = a_i + A_i z in S and x = a_i + sigma_i z outside. Every centre c of the two mixtures sees
it at u_c = A_c^-1 (x - c) in S, so that up to constants

    log N_c(x) = -log det A_c - (d - r) log sigma_c - (|u_c|^2 + |x - c|^2 / sigma_c^2) / 2,

where |x - c|^2 is the part outside S. Let f = log q - beta log p*, and k_c the responsibility rho_c(x) of a component
of the proposal, or -beta rho*_c(x) of one of the target. Outside S all is as in `kernels.particles.step`. In S

    A_i^T grad f = v = -sum_c k_c (A_c^-1 A_i)^T u_c.

With y = x - a_i = A_i z, the objective's symmetric gradient G_i in C_i is w_i / 2 times the symmetric part of
C_i^-1 E_i[y grad f^T]. C_i^-1 y = A_i^-T z, so that the means' gradient g_i in S and G_i follow from two averages:

    g_i = w_i A_i^-T E_i[v],   H_i = A_i^T G_i A_i = w_i / 2 sym E_i[v z^T].

A step moves the factor A_i, in a way that depends on the metric of the covariances:

    "log":                A <- A (1 - X + X^2 / 2), X = 2 dt H:   dC/dt = -4 A H A^T = -4 C G C;
    "bures-wasserstein":  A <- A - 2 dt A^-T H = (1 - 2 dt G) A:  dC/dt = -2 (G C + C G).

Both rates are those of A A^T to first order in dt. The first step keeps every covariance positive definite, because
1 - X + X^2 / 2 = (1 + (1 - X)^2) / 2. After the step A becomes the Cholesky factor of A A^T. That leaves the law of the
run, since z has no preferred direction, and makes A^-1 a matter of substitution.

Near an optimum C relaxes at the rate 2 w_i in the first metric, for every C, and at the rates w_i (1 / lambda_n + 1 /
lambda_m) with the eigenvalues lambda of C in the second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kernels.particles.random_stream import compiled
from kernels.particles.step import normalise_exponentials

METRICS = ("log", "bures-wasserstein")


@dataclass(frozen=True)
class Covariances:
    """The covariances of both mixtures in the first r coordinates; outside these, scales go on to apply.

    Attributes
    ----------
    target
        Covariances of the target, (K, r, r).
    proposal
        Covariances of the proposal at t = 0, (L, r, r) or (replicas, L, r, r).
    metric
        "log" or "bures-wasserstein"; plays a part only where the covariances are learned.
    """

    target: ArrayLike
    proposal: ArrayLike
    metric: str = "log"


class CovarianceFlow(NamedTuple):
    """The constants of the covariances' flow, as the kernels take them.

    Attributes
    ----------
    coordinates
        The number r of coordinates in which the components have covariances.
    logarithmic
        Whether the metric is "log".
    learns
        Whether the covariances move.
    """

    coordinates: int
    logarithmic: bool
    learns: bool


class Factors(NamedTuple):
    """The covariances of all centres, as arrays of float64. The kernels change the proposal's in place.

    Attributes
    ----------
    factors
        The Cholesky factors A of the covariances, lower triangular, (replicas, L + K, r, r).
    inverses
        A^-1, (replicas, L + K, r, r).
    log_volumes
        log det A, (replicas, L + K).
    """

    factors: np.ndarray
    inverses: np.ndarray
    log_volumes: np.ndarray

    def covariances(self) -> np.ndarray:
        """A A^T, (replicas, L + K, r, r)."""
        return self.factors @ self.factors.transpose(0, 1, 3, 2)


class CovariantEstimates(NamedTuple):
    """What one step with covariances estimates for each replica, from fresh particles.

    Attributes
    ----------
    gradients, slopes
        Those of `kernels.particles.step.Estimates`; the scales' slopes are those outside S.
    whitened
        A^T G A, with G the symmetric gradient in the covariance, (replicas, L, r, r).
    """

    gradients: np.ndarray
    slopes: np.ndarray
    whitened: np.ndarray


def factors_of(proposal: np.ndarray, target: np.ndarray) -> Factors:
    """The factors of the proposal's covariances, (replicas, L, r, r), and the target's, (K, r, r).

    Raises numpy.linalg.LinAlgError unless all are positive definite.
    """
    everywhere = np.broadcast_to(target, (len(proposal), *target.shape))
    factors = np.linalg.cholesky(np.concatenate([proposal, everywhere], axis=1))
    log_volumes = np.log(np.diagonal(factors, axis1=2, axis2=3)).sum(axis=-1)
    return Factors(factors, np.linalg.inv(factors), log_volumes)


def turn_entry(
    inverses: np.ndarray, factors: np.ndarray, replica: int, centre: int, component: int, row: int, column: int
) -> float:
    """One entry of A_c^-1 A_i, with the arrays of `Factors`.

    This and the other functions of arrays with a row for each replica are plain Python, and the CPU's and the GPU's
    compilers each compile them.
    """
    entry = 0.0
    for n in range(inverses.shape[3]):
        entry += inverses[replica, centre, row, n] * factors[replica, component, n, column]
    return entry


@compiled
def find_seen(seen: np.ndarray, inside: np.ndarray, offsets: np.ndarray, turns: np.ndarray, c: int, lanes: int) -> None:
    """Writes u_c to `seen`, (r, lanes), with the other arguments of `find_covariant_pulls`."""
    for n in range(len(seen)):
        for lane in range(lanes):
            seen[n, lane] = offsets[c, n]
        for m in range(len(seen)):
            for lane in range(lanes):
                seen[n, lane] += turns[c, n, m] * inside[m, lane]


@compiled
def find_covariant_pulls(
    pulls: np.ndarray,
    seen: np.ndarray,
    pushes: np.ndarray,
    dots: np.ndarray,
    squares: np.ndarray,
    inside: np.ndarray,
    totals: np.ndarray,
    log_sums: np.ndarray,
    separations: np.ndarray,
    offsets: np.ndarray,
    turns: np.ndarray,
    scale: float,
    log_amplitudes: np.ndarray,
    precisions: np.ndarray,
    proposals: int,
    beta: float,
    lanes: int,
) -> None:
    """Finds the pulls of all centres c on some particles x of component i, one particle in each lane.

    The function writes k_c(x) / sigma_c^2, the pulls outside S, to `pulls` (L + K, lanes), their sums over the centres
    to `totals` (lanes,), v to `pushes` (r, lanes), and log q and log p* at x, up to constants, to `log_sums` (2,
    lanes). seen: work space, (r, lanes); the function finds u_c twice, because a GPU has no registers to keep it for
    all centres. dots, squares, separations: those of `kernels.particles.step.find_pulls` outside S; inside: z in S, (r,
    lanes). offsets: A_c^-1 (a_i - c), (L + K, r); turns: A_c^-1 A_i, (L + K, r, r); log_amplitudes: log weight - log
    det A - (d - r) log scale, (L + K,).
    """
    r = len(pushes)
    for c in range(len(pulls)):
        for lane in range(lanes):
            squared_distance = separations[c] + scale * (2.0 * dots[c, lane] + scale * squares[lane])
            pulls[c, lane] = log_amplitudes[c] - 0.5 * precisions[c] * squared_distance
        find_seen(seen, inside, offsets, turns, c, lanes)
        for n in range(r):
            for lane in range(lanes):
                pulls[c, lane] -= 0.5 * seen[n, lane] * seen[n, lane]
    normalise_exponentials(pulls, 0, proposals, log_sums[0], lanes)
    normalise_exponentials(pulls, proposals, len(pulls), log_sums[1], lanes)
    for lane in range(lanes):
        totals[lane] = 0.0
        for n in range(r):
            pushes[n, lane] = 0.0
    for c in range(len(pulls)):
        factor = 1.0 if c < proposals else -beta
        find_seen(seen, inside, offsets, turns, c, lanes)
        for n in range(r):
            for m in range(r):
                for lane in range(lanes):
                    pushes[n, lane] -= factor * pulls[c, lane] * turns[c, m, n] * seen[m, lane]
        for lane in range(lanes):
            pulls[c, lane] *= factor * precisions[c]
            totals[lane] += pulls[c, lane]


def write_inside(
    gradients: np.ndarray,
    whitened: np.ndarray,
    sums: np.ndarray,
    inverses: np.ndarray,
    weight: float,
    particles: int,
    replica: int,
    component: int,
) -> None:
    """Writes a component's gradient in S, and its entry of `CovariantEstimates.whitened`, from sums over its particles.

    sums: those of v and, row by row, of v z^T, (r + r^2,).
    """
    r = whitened.shape[2]
    for n in range(r):
        total = 0.0
        for m in range(r):
            total += inverses[replica, component, m, n] * sums[m]
            symmetric = 0.5 * (sums[r + n * r + m] + sums[r + m * r + n])
            whitened[replica, component, n, m] = 0.5 * weight * symmetric / particles
        gradients[replica, component, n] = weight * total / particles


def move_covariance(
    factors: np.ndarray,
    inverses: np.ndarray,
    log_volumes: np.ndarray,
    whitened: np.ndarray,
    change: np.ndarray,
    moved: np.ndarray,
    replica: int,
    component: int,
    dt: float,
    logarithmic: bool,
) -> None:
    """Euler step of one component's covariance, in place in the arrays of `Factors`.

    change, moved: work space, (r, r).
    """
    r = whitened.shape[2]
    for n in range(r):
        for m in range(r):
            change[n, m] = -2.0 * dt * whitened[replica, component, n, m]
            if logarithmic:
                for k in range(r):
                    product = whitened[replica, component, n, k] * whitened[replica, component, k, m]
                    change[n, m] += 2.0 * dt * dt * product
    for n in range(r):
        for m in range(r):
            moved[n, m] = factors[replica, component, n, m]
            for k in range(r):
                if logarithmic:
                    moved[n, m] += factors[replica, component, n, k] * change[k, m]
                else:
                    moved[n, m] += inverses[replica, component, k, n] * change[k, m]
    log_volume = 0.0
    for n in range(r):
        for m in range(n + 1):
            entry = 0.0
            for k in range(r):
                entry += moved[n, k] * moved[m, k]
            for k in range(m):
                entry -= factors[replica, component, n, k] * factors[replica, component, m, k]
            if m < n:
                factors[replica, component, n, m] = entry / factors[replica, component, m, m]
            else:
                factors[replica, component, n, n] = math.sqrt(max(entry, 0.0))
        log_volume += math.log(factors[replica, component, n, n])
    log_volumes[replica, component] = log_volume
    for m in range(r):
        for n in range(m, r):
            entry = 1.0 if n == m else 0.0
            for k in range(m, n):
                entry -= factors[replica, component, n, k] * inverses[replica, component, k, m]
            inverses[replica, component, n, m] = entry / factors[replica, component, n, n]


def covariance_velocities(factors: Factors, whitened: np.ndarray, flow: CovarianceFlow) -> np.ndarray:
    """dC/dt, (replicas, L, r, r), that follows from estimates of A^T G A; zero where covariances are not learned."""
    L = whitened.shape[1]
    A, inverse = factors.factors[:, :L], factors.inverses[:, :L]
    if flow.logarithmic:
        return -4 * flow.learns * A @ whitened @ A.transpose(0, 1, 3, 2)
    one_sided = A @ whitened @ inverse
    return -2 * flow.learns * (one_sided + one_sided.transpose(0, 1, 3, 2))
