"""The particle simulation of mixtures with covariances on the CPU; the formulas are in `kernels.particles.covariances`.

A particle's normals are those that it has without covariances, so that covariances sigma^2 I give the same run to
rounding.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np

from kernels.machine.halting import halted
from kernels.particles.covariances import (
    CovarianceFlow,
    CovariantEstimates,
    Factors,
    find_covariant_pulls,
    move_covariance,
    turn_entry,
    write_inside,
)
from kernels.particles.cpu import (
    CpuParticles,
    centres_with_targets,
    compiled_move_shapes,
    move_means,
    threadable,
)
from kernels.particles.lanes import add_block, subtract_weighted
from kernels.particles.random_stream import LANES, compiled, draw_block
from kernels.particles.shapes import NO_SUMS, SCALES, WEIGHTS, add_slopes
from kernels.particles.step import Estimates, ParticleFlow, Replicas

compiled_turn_entry, compiled_write_inside = compiled(turn_entry), compiled(write_inside)
compiled_move_covariance = compiled(move_covariance)


@compiled
def add_pushes(sums: np.ndarray, pushes: np.ndarray, inside: np.ndarray, members: int) -> None:
    """Adds v and v z^T of the first `members` lanes to the sums, (r + r^2,)."""
    r = len(pushes)
    for n in range(r):
        for lane in range(members):
            sums[n] += pushes[n, lane]
        for m in range(r):
            for lane in range(members):
                sums[r + n * r + m] += pushes[n, lane] * inside[m, lane]


@compiled
def estimate_component(
    estimates: Estimates,
    whitened: np.ndarray,
    component: int,
    centres: np.ndarray,
    state: Replicas,
    factors: Factors,
    flow: ParticleFlow,
    beta: float,
    replica: int,
    step: int,
    with_shapes: bool,
    flag: np.ndarray,
) -> None:
    """Writes the estimates for one component of one replica, as `kernels.particles.cpu.estimate_component` does.

    whitened: that of `CovariantEstimates`.
    """
    gradient = estimates.gradients[replica, component]
    log_amplitudes = state.log_amplitudes[replica] - factors.log_volumes[replica]
    precisions, r = state.precisions[replica], whitened.shape[2]
    count, L, d = len(centres), state.means.shape[1], gradient.size
    blocks = (d + 3) // 4
    scale, real = state.values[SCALES, replica, component], centres.dtype.type
    normals, words = np.empty((4 * blocks, LANES), centres.dtype), np.empty((4, LANES), np.uint32)
    dots, squares, weights = (
        np.empty((count, LANES), centres.dtype),
        np.empty(LANES, centres.dtype),
        np.empty(LANES, centres.dtype),
    )
    pulls, totals, log_sums = np.empty((count, LANES)), np.empty(LANES), np.empty((2, LANES))
    inside, pushes, seen = np.empty((r, LANES)), np.empty((r, LANES)), np.empty((r, LANES))
    differences, separations, pull_sums = np.zeros((count, 4 * blocks), centres.dtype), np.zeros(count), np.zeros(count)
    offsets, turns = np.zeros((count, r)), np.empty((count, r, r))
    noise, inner_sums = np.zeros(4 * blocks), np.zeros(r + r * r)
    sums = NO_SUMS
    for c in range(count):
        for coordinate in range(d):
            difference = np.float64(centres[component, coordinate]) - np.float64(centres[c, coordinate])
            if coordinate >= r:
                differences[c, coordinate] = difference
                separations[c] += difference * difference
            else:
                for n in range(r):
                    offsets[c, n] += factors.inverses[replica, c, n, coordinate] * difference
        for n in range(r):
            for m in range(r):
                turns[c, n, m] = compiled_turn_entry(factors.inverses, factors.factors, replica, c, component, n, m)
    for first in range(0, flow.particles, LANES):
        members = min(LANES, flow.particles - first)
        dots[:] = real(0)
        squares[:] = real(0)
        for block in range(blocks):
            if halted(flag):
                return
            draw_block(normals, words, flow.seed, replica, step, component, first, block)
            if 4 * block + 4 > d:
                normals[d:] = real(0)
            for coordinate in range(4 * block, min(4 * block + 4, r)):
                for lane in range(LANES):
                    inside[coordinate, lane] = normals[coordinate, lane]
                    normals[coordinate, lane] = real(0)
            add_block(dots, squares, normals, differences, block)
        find_covariant_pulls(
            pulls,
            seen,
            pushes,
            dots,
            squares,
            inside,
            totals,
            log_sums,
            separations,
            offsets,
            turns,
            scale,
            log_amplitudes,
            precisions,
            L,
            beta,
            LANES,
        )
        for lane in range(LANES):
            weights[lane] = totals[lane] if lane < members else 0.0
        subtract_weighted(noise, normals, weights)
        for c in range(count):
            for lane in range(members):
                pull_sums[c] += pulls[c, lane]
        add_pushes(inner_sums, pushes, inside, members)
        if with_shapes:
            sums = add_slopes(sums, pulls, dots, squares, totals, log_sums, scale, beta, False, members)
    weight = state.values[WEIGHTS, replica, component]
    for coordinate in range(r, d):
        total = scale * noise[coordinate]
        for c in range(count):
            total -= pull_sums[c] * np.float64(differences[c, coordinate])
        gradient[coordinate] = weight * total / flow.particles
    compiled_write_inside(
        estimates.gradients, whitened, inner_sums, factors.inverses, weight, flow.particles, replica, component
    )
    if with_shapes:
        for n in range(len(sums)):
            estimates.slopes[n, replica, component] = sums[n] / flow.particles


@compiled
def estimate_replica(
    estimates: Estimates,
    whitened: np.ndarray,
    centres: np.ndarray,
    state: Replicas,
    factors: Factors,
    flow: ParticleFlow,
    beta: float,
    replica: int,
    step: int,
    with_shapes: bool,
    flag: np.ndarray,
) -> None:
    """Writes the estimates for one replica; `centres` is that of `kernels.particles.cpu.estimate_replica`."""
    means = state.means[replica]
    for i in range(len(means)):
        for c in range(means.shape[1]):
            centres[i, c] = means[i, c]
    for i in range(len(means)):
        estimate_component(
            estimates, whitened, i, centres, state, factors, flow, beta, replica, step, with_shapes, flag
        )


@lru_cache
def compile_covariant_kernels(with_shapes: bool) -> tuple[Any, Any]:
    """The same kernels as `kernels.particles.cpu.compile_cpu_kernels`, for mixtures with covariances.

    Their last arguments are the covariances' factors and flow, and the array `CovariantEstimates.whitened`.
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
        factors: Factors,
        covariance_flow: CovarianceFlow,
        whitened: np.ndarray,
    ) -> None:
        """Moves the state in place by one step for each row of `betas`, (steps, 1) or (steps, replicas)."""
        _, proposals, d = state.means.shape
        r = covariance_flow.coordinates
        centres = centres_with_targets(flow.targets, proposals)
        change, moved = np.empty((r, r)), np.empty((r, r))
        for replica in range(first, stop):
            column = min(replica, betas.shape[1] - 1)
            for n in range(len(betas)):
                if halted(flag):
                    return
                beta, step = betas[n, column], first_step + n
                estimate_replica(
                    estimates, whitened, centres, state, factors, flow, beta, replica, step, with_shapes, flag
                )
                if flow.learns_means:
                    move_means(state, estimates, flow, replica)
                if with_shapes:
                    compiled_move_shapes(
                        state.logs,
                        state.values,
                        state.log_amplitudes,
                        state.precisions,
                        estimates.slopes,
                        replica,
                        d - r,
                        flow.dt,
                        flow.learns,
                    )
                if covariance_flow.learns:
                    for i in range(proposals):
                        compiled_move_covariance(
                            factors.factors,
                            factors.inverses,
                            factors.log_volumes,
                            whitened,
                            change,
                            moved,
                            replica,
                            i,
                            flow.dt,
                            covariance_flow.logarithmic,
                        )

    @threadable
    def estimate(
        first: int,
        stop: int,
        flag: np.ndarray,
        state: Replicas,
        estimates: Estimates,
        flow: ParticleFlow,
        beta: float,
        factors: Factors,
        covariance_flow: CovarianceFlow,
        whitened: np.ndarray,
    ) -> None:
        """Writes independent estimates, one at the state of each replica."""
        step = np.int64(0)  # as in `kernels.particles.cpu.compile_cpu_kernels`
        centres = centres_with_targets(flow.targets, state.means.shape[1])
        for replica in range(first, stop):
            estimate_replica(estimates, whitened, centres, state, factors, flow, beta, replica, step, with_shapes, flag)

    return advance, estimate


class CovariantCpuParticles(CpuParticles):
    """Replicas whose components have covariances."""

    def __init__(self, start: Replicas, flow: ParticleFlow, factors: Factors, covariance_flow: CovarianceFlow):
        super().__init__(start, flow)
        replicas, proposals, _ = start.means.shape
        r = covariance_flow.coordinates
        self._factors, self._whitened = Factors(*(a.copy() for a in factors)), np.zeros((replicas, proposals, r, r))
        self._advance, self._estimate = (
            partial(kernel, factors=self._factors, covariance_flow=covariance_flow, whitened=self._whitened)
            for kernel in compile_covariant_kernels(flow.learns_shapes)
        )

    def factors(self) -> Factors:
        """A copy of the covariances' factors."""
        return Factors(*(array.copy() for array in self._factors))

    def estimates(self, beta: float) -> Any:
        """Independent `CovariantEstimates`, one at the state of each replica."""
        return CovariantEstimates(*super().estimates(beta), self._whitened.copy())
