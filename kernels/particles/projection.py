"""Particles drawn in the span of the centres only: gradients of the same law as in d dimensions, from fewer normals.

A particle's responsibilities follow from its distances to the centres. Its projection onto the span of the centres, of
r <= L + K dimensions, gives these distances up to a shift that is common to all. Where each mixture has one scale, the
total pull sum_c k_c(x) = 1/sigma^2 - beta/sigma*^2 is the same at every x. Then only the sum of the n particles' parts
outside the span enters the gradient of `kernels.particles.step`, and this sum is sqrt(n) sigma times one Gaussian
vector. Let the rows of B be an orthonormal basis of the span, and g' the estimate from the centres' coordinates in this
basis. A step therefore estimates

    g_i = B^T g'_i - w_i (1/sigma^2 - beta/sigma*^2) sigma / sqrt(n) (1 - B^T B) G,   G ~ N(0, I_d),

from n (L + K) + d normals for each component instead of n d. The basis has a row for each centre, the targets' first.
The row of a centre that depends linearly on earlier ones is zero. A step draws that row's coordinate all the same: it
shifts all distances alike, and B^T drops it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from kernels.machine.halting import halted
from kernels.particles.cpu import CpuParticles, estimate_component, move_means, threadable
from kernels.particles.random_stream import ORTHOGONAL_NOISE, compiled, fill_normals
from kernels.particles.shapes import SCALES, WEIGHTS
from kernels.particles.step import Estimates, ParticleFlow, Replicas

DEPENDENT = 1e-12
"""A centre counts as linearly dependent on earlier ones where its part outside their span has at most this fraction of
its length. The fraction is far above rounding, so that every device drops the rest of a centre that equals another, and
far below what a gradient resolves."""


@compiled
def inner_product(u: np.ndarray, v: np.ndarray) -> float:
    """u . v, of two vectors of the same length."""
    total = 0.0
    for c in range(v.size):
        total += u[c] * v[c]
    return total


@compiled
def add_to_basis(basis: np.ndarray, row: int, vector: np.ndarray, coordinates: np.ndarray) -> None:
    """Extends an orthonormal basis, (L + K, d), by a vector, (d,), and writes the vector's coordinates, (L + K,).

    The given row of the basis becomes the direction of the vector's part outside the earlier rows, or zero where no
    such part is left. Subtracting the parts along the earlier rows one by one leaves rounding errors relative to the
    whole vector, not to the part that is left. A second round of subtractions removes them.
    """
    new = basis[row]
    for c in range(new.size):
        new[c] = vector[c]
    length = math.sqrt(inner_product(new, new))
    for other in range(len(basis)):
        coordinates[other] = 0.0
    for _ in range(2):
        for other in range(row):
            along = inner_product(basis[other], new)
            coordinates[other] += along
            for c in range(new.size):
                new[c] -= along * basis[other, c]
    left = math.sqrt(inner_product(new, new))
    if left <= DEPENDENT * length:
        left = 0.0
    for c in range(new.size):
        new[c] = new[c] / left if left != 0.0 else 0.0
    coordinates[row] = left


@compiled
def basis_with_targets(targets: np.ndarray, proposals: int) -> tuple[np.ndarray, np.ndarray]:
    """The basis, (L + K, d), and the centres' coordinates in it, (L + K, L + K), with the targets' rows filled in."""
    centres = proposals + len(targets)
    basis = np.zeros((centres, targets.shape[1]))
    coordinates = np.zeros((centres, centres), targets.dtype)
    for k in range(len(targets)):
        add_to_basis(basis, k, targets[k], coordinates[proposals + k])
    return basis, coordinates


@compiled
def noise_factor(weight: float, scale: float, total_pull: float, particles: int) -> float:
    """The factor of the standard normals in a component's gradient, in each direction outside the centres' span."""
    return -weight * total_pull * scale / math.sqrt(particles)


@compiled
def set_coordinates(vector: np.ndarray, basis: np.ndarray, coordinates: np.ndarray) -> None:
    """Changes a vector, (d,), within the span of the basis, so that it has the given coordinates, (L + K,)."""
    for row in range(len(basis)):
        change = coordinates[row] - inner_product(basis[row], vector)
        for c in range(vector.size):
            vector[c] += change * basis[row, c]


@compiled
def estimate_replica(
    estimates: Estimates,
    within: Estimates,
    basis: np.ndarray,
    centres: np.ndarray,
    state: Replicas,
    flow: ParticleFlow,
    beta: float,
    replica: int,
    step: int,
    flag: np.ndarray,
) -> None:
    """Writes one replica's gradients to `estimates`, and their coordinates in the basis to `within`.

    estimates.gradients: (replicas, L, d); within.gradients: (replicas, L, L + K). basis, centres: those of
    `basis_with_targets`; the function fills in the rows of the proposal.
    """
    _, proposals, d = state.means.shape
    for i in range(proposals):
        add_to_basis(basis, len(basis) - proposals + i, state.means[replica, i], centres[i])
    normals = np.empty(4 * ((d + 3) // 4))
    for i in range(proposals):
        estimate_component(within, i, centres, state, flow, beta, replica, step, False, False, flag)
        total_pull = state.precisions[replica, i] - beta * state.precisions[replica, proposals]
        weight, scale = state.values[WEIGHTS, replica, i], state.values[SCALES, replica, i]
        factor = noise_factor(weight, scale, total_pull, flow.particles)
        gradient = estimates.gradients[replica, i]
        fill_normals(normals, flow.seed, replica, step, i, ORTHOGONAL_NOISE)
        for c in range(d):
            gradient[c] = factor * normals[c]
        set_coordinates(gradient, basis, within.gradients[replica, i])


def compile_projected_kernels() -> tuple[Any, Any]:
    """The same kernels as `kernels.particles.cpu.compile_cpu_kernels`, for projected particles.

    Their last argument, `within`, is work space for the estimates of the gradients' coordinates in the basis.
    """

    @threadable
    def advance(
        first: int,
        stop: int,
        flag: np.ndarray,
        state: Replicas,
        estimates: Estimates,
        betas: np.ndarray,
        first_step: int,
        flow: ParticleFlow,
        within: Estimates,
    ) -> None:
        """Moves the state in place by one step for each row of `betas`, (steps, 1) or (steps, replicas)."""
        basis, centres = basis_with_targets(flow.targets, state.means.shape[1])
        for replica in range(first, stop):
            column = min(replica, betas.shape[1] - 1)
            for n in range(len(betas)):
                if halted(flag):
                    return
                estimate_replica(
                    estimates, within, basis, centres, state, flow, betas[n, column], replica, first_step + n, flag
                )
                move_means(state, estimates, flow, replica)

    @threadable
    def estimate(
        first: int,
        stop: int,
        flag: np.ndarray,
        state: Replicas,
        estimates: Estimates,
        flow: ParticleFlow,
        beta: float,
        within: Estimates,
    ) -> None:
        """Writes independent estimates, one at the state of each replica."""
        step = np.int64(0)  # as in `kernels.particles.cpu.compile_cpu_kernels`
        basis, centres = basis_with_targets(flow.targets, state.means.shape[1])
        for replica in range(first, stop):
            estimate_replica(estimates, within, basis, centres, state, flow, beta, replica, step, flag)

    return advance, estimate


KERNELS = compile_projected_kernels()


class ProjectedCpuParticles(CpuParticles):
    """Replicas whose particles are drawn in the span of the centres.

    Only the means move, and each mixture has one scale.
    """

    def __init__(self, start: Replicas, flow: ParticleFlow):
        super().__init__(start, flow)
        replicas, proposals, _ = start.means.shape
        within = self._estimates._replace(gradients=np.empty((replicas, proposals, proposals + len(flow.targets))))
        self._advance, self._estimate = (partial(kernel, within=within) for kernel in KERNELS)
