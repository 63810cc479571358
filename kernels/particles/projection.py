"""Particles drawn in the span of the centres alone: the same law as in all d dimensions, from fewer normals.

A particle's responsibilities follow from its distances to the centres, and so, up to a shift that is common to all,
from its projection onto their span, of r <= L + K dimensions. With one scale in each mixture the total pull sum_c
k_c(x) = 1/sigma^2 - beta/sigma*^2 is the same at every x. What n particles have outside the span then enters the
gradient of `kernels.particles.step` as its sum only, which is sqrt(n) sigma times one Gaussian vector. With the rows of
B an orthonormal basis of the span, and g' the estimate at the centres' coordinates in it, a step therefore estimates

    g_i = B^T g'_i - w_i (1/sigma^2 - beta/sigma*^2) sigma / sqrt(n) (1 - B^T B) G,   G ~ N(0, I_d),

by n (L + K) + d normals for each component instead of n d. The basis has a row for each centre, the targets' first; the
row of a centre that depends linearly on those before it is zero. Its coordinate is drawn all the same: it moves all
distances alike, and B^T drops it.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from kernels.machine.halting import halted
from kernels.particles.cpu import CpuParticles, estimate_component, move_replica, threadable
from kernels.particles.random_stream import ORTHOGONAL_NOISE, compiled, fill_normals
from kernels.particles.step import ParticleFlow, Replicas

DEPENDENT = 1e-12
"""A centre of which the others leave less than this fraction is linearly dependent on them. Far above rounding, so that
what is left of one that is equal to another is dropped on every device; and far below what a gradient resolves."""


@compiled
def inner_product(u, v):
    """u . v, of two vectors of as many coordinates."""
    total = 0.0
    for c in range(v.size):
        total += u[c] * v[c]
    return total


@compiled
def add_to_basis(basis, row, vector, coordinates):
    """Extends an orthonormal basis, (L + K, d), to the span of a vector, (d,), too, and writes the vector's coordinates
    in it, (L + K,).

    The given row becomes the direction of what the vector has outside the rows before it, or zero. Subtracting their
    parts one by one leaves rounding errors, relative to the vector and not to what is left of it; doing it twice
    removes them.
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
def basis_with_targets(targets, proposals):
    """The basis, (L + K, d), and all centres' coordinates in it, (L + K, L + K), of which the targets' parts stand
    already."""
    centres = proposals + len(targets)
    basis = np.zeros((centres, targets.shape[1]))
    coordinates = np.zeros((centres, centres), targets.dtype)
    for k in range(len(targets)):
        add_to_basis(basis, k, targets[k], coordinates[proposals + k])
    return basis, coordinates


@compiled
def noise_factor(weight, scale, total_pull, particles):
    """By what a standard normal is multiplied in a component's gradient, in each direction outside the span."""
    return -weight * total_pull * scale / math.sqrt(particles)


@compiled
def set_coordinates(vector, basis, coordinates):
    """Changes a vector, (d,), within the span, so that its coordinates in the basis are the given ones, (L + K,)."""
    for row in range(len(basis)):
        change = coordinates[row] - inner_product(basis[row], vector)
        for c in range(vector.size):
            vector[c] += change * basis[row, c]


@compiled
def estimate_replica(estimates, within, basis, centres, state, flow, beta, replica, step, flag):
    """Writes the gradients of one replica to `estimates`, (replicas, L, d), and their coordinates to `within`,
    (replicas, L, L + K).

    basis, centres: those of `basis_with_targets`; work space in all else.
    """
    _, proposals, d = state.means.shape
    for i in range(proposals):
        add_to_basis(basis, len(basis) - proposals + i, state.means[replica, i], centres[i])
    normals = np.empty(4 * ((d + 3) // 4))
    for i in range(proposals):
        estimate_component(within, i, centres, state, flow, beta, replica, step, False, flag)
        total_pull = state.precisions[replica, i] - beta * state.precisions[replica, proposals]
        factor = noise_factor(state.weights[replica, i], state.scales[replica, i], total_pull, flow.particles)
        gradient = estimates.gradients[replica, i]
        fill_normals(normals, flow.seed, replica, step, i, ORTHOGONAL_NOISE)
        for c in range(d):
            gradient[c] = factor * normals[c]
        set_coordinates(gradient, basis, within.gradients[replica, i])


def compile_projected_kernels():
    """The twins of `kernels.particles.cpu.compile_cpu_kernels`, with the estimates of the gradients' coordinates,
    `within`, beside."""

    @threadable
    def advance(first, stop, flag, state, estimates, betas, first_step, flow, within):
        """Moves the state in place by one step for each row of `betas`, (steps, 1) for all replicas alike or (steps,
        replicas)."""
        basis, centres = basis_with_targets(flow.targets, state.weights.shape[1])
        for replica in range(first, stop):
            column = min(replica, betas.shape[1] - 1)
            for n in range(len(betas)):
                if halted(flag):
                    return
                estimate_replica(
                    estimates, within, basis, centres, state, flow, betas[n, column], replica, first_step + n, flag
                )
                move_replica(state, estimates, flow, replica, False)

    @threadable
    def estimate(first, stop, flag, state, estimates, flow, beta, within):
        """Writes independent estimates, one at each replica's state."""
        basis, centres = basis_with_targets(flow.targets, state.weights.shape[1])
        for replica in range(first, stop):
            estimate_replica(estimates, within, basis, centres, state, flow, beta, replica, 0, flag)

    return advance, estimate


KERNELS = compile_projected_kernels()


class ProjectedCpuParticles(CpuParticles):
    """Replicas whose particles are drawn in the span of the centres. Only means move, and each mixture has one
    scale."""

    def __init__(self, start: Replicas, flow: ParticleFlow):
        super().__init__(start, flow)
        replicas, proposals, _ = start.means.shape
        within = self._estimates._replace(gradients=np.empty((replicas, proposals, proposals + len(flow.targets))))
        self._advance, self._estimate = (partial(kernel, within=within) for kernel in KERNELS)
