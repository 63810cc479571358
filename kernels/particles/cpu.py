"""The particle simulation on the CPU.

One thread runs all steps of a replica, so that the numbers do not depend on the number of threads.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from kernels.machine.halting import halted
from kernels.machine.kept_code import kept
from kernels.machine.threads import run_on_threads
from kernels.particles.forward import add_forward_part
from kernels.particles.lanes import add_block, subtract_weighted
from kernels.particles.random_stream import LANES, MAX_PARTICLES, compiled, draw_block
from kernels.particles.shapes import NO_SUMS, SCALES, WEIGHTS, add_slopes, move_shapes
from kernels.particles.step import (
    Estimates,
    ParticleFlow,
    Replicas,
    Terms,
    find_pulls,
    normalise_exponentials,
)


@compiled
def estimate_component(
    estimates: Estimates,
    component: int,
    centres: np.ndarray,
    state: Replicas,
    flow: ParticleFlow,
    beta: float,
    replica: int,
    step: int,
    with_shapes: bool,
    with_reference: bool,
    flag: np.ndarray,
) -> None:
    """Writes the estimates of the tempered reverse KL for one component of one replica.

    centres: (L + K, d), of the working precision, and after them the origin if there is a reference. The function draws
    LANES particles at a time, one in each place of the vector registers. with_shapes: whether to estimate the
    parameters' slopes; with_reference: whether there is a reference. Both are constants wherever the function is
    inlined, so that no test of them remains. flag: once it is set, the function returns, and its results are
    incomplete.
    """
    gradient = estimates.gradients[replica, component]
    log_amplitudes, precisions = state.log_amplitudes[replica], state.precisions[replica]
    count, L, d = len(centres), state.means.shape[1], gradient.size
    blocks = (d + 3) // 4
    mean, scale, real = centres[component], state.values[SCALES, replica, component], centres.dtype.type
    normals, words = np.empty((4 * blocks, LANES), centres.dtype), np.empty((4, LANES), np.uint32)
    dots, squares, weights = (
        np.empty((count, LANES), centres.dtype),
        np.empty(LANES, centres.dtype),
        np.empty(LANES, centres.dtype),
    )
    pulls, totals, log_sums = np.empty((count, LANES)), np.empty(LANES), np.empty((3, LANES))
    differences, separations, pull_sums = np.zeros((count, 4 * blocks), centres.dtype), np.zeros(count), np.zeros(count)
    noise = np.zeros(4 * blocks)
    sums = NO_SUMS
    for c in range(count):
        for coordinate in range(d):
            difference = np.float64(mean[coordinate]) - np.float64(centres[c, coordinate])
            differences[c, coordinate] = difference
            separations[c] += difference * difference
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
            add_block(dots, squares, normals, differences, block)
        find_pulls(
            pulls,
            dots,
            squares,
            totals,
            log_sums,
            separations,
            scale,
            log_amplitudes,
            precisions,
            L,
            beta,
            with_reference,
            LANES,
        )
        for lane in range(LANES):
            weights[lane] = totals[lane] if lane < members else 0.0
        subtract_weighted(noise, normals, weights)
        for c in range(count):
            for lane in range(members):
                pull_sums[c] += pulls[c, lane]
        if with_shapes:
            sums = add_slopes(sums, pulls, dots, squares, totals, log_sums, scale, beta, with_reference, members)
    for coordinate in range(d):
        gradient[coordinate] = scale * noise[coordinate]
    for c in range(count):
        for coordinate in range(d):
            gradient[coordinate] -= pull_sums[c] * np.float64(differences[c, coordinate])
    for coordinate in range(d):
        gradient[coordinate] *= state.values[WEIGHTS, replica, component] / flow.particles
    if with_shapes:
        for n in range(len(sums)):
            estimates.slopes[n, replica, component] = sums[n] / flow.particles


@compiled
def estimate_replica(
    estimates: Estimates,
    centres: np.ndarray,
    state: Replicas,
    flow: ParticleFlow,
    beta: float,
    replica: int,
    step: int,
    with_shapes: bool,
    with_reference: bool,
    flag: np.ndarray,
) -> None:
    """Writes the estimates of the tempered reverse KL for one replica, unless its share of the objective is zero.

    centres: work space for the centres of `estimate_component`, in which all rows but the proposal's are set.
    """
    means = state.means[replica]
    for i in range(len(means)):
        for c in range(means.shape[1]):
            centres[i, c] = means[i, c]
    if flow.forward_share < 1.0:
        for i in range(len(means)):
            estimate_component(
                estimates, i, centres, state, flow, beta, replica, step, with_shapes, with_reference, flag
            )


@compiled
def move_mean(mean: np.ndarray, gradient: np.ndarray, dt: float, spherical: bool, radius: float) -> None:
    """Euler step of one mean, (d,), in place, along -gradient.

    On the sphere the step follows the tangential part of -gradient, and then returns the mean to the radius.
    """
    along = 0.0
    if spherical:
        for c in range(mean.size):
            along += gradient[c] * mean[c]
        along /= radius * radius
    for c in range(mean.size):
        mean[c] -= dt * (gradient[c] - along * mean[c])
    if spherical:
        squared_norm = 0.0
        for c in range(mean.size):
            squared_norm += mean[c] * mean[c]
        rescaling = radius / math.sqrt(squared_norm)
        for c in range(mean.size):
            mean[c] *= rescaling


@compiled
def move_means(state: Replicas, estimates: Estimates, flow: ParticleFlow, replica: int) -> None:
    """Euler step of one replica's means, in place."""
    for i in range(state.means.shape[1]):
        move_mean(
            state.means[replica, i], estimates.gradients[replica, i], flow.dt, flow.spherical, state.radii[replica, i]
        )


compiled_move_shapes = compiled(move_shapes)


@compiled
def centres_with_targets(targets: np.ndarray, proposals: int) -> np.ndarray:
    """An array (L + K, d) whose last K rows are the targets; the others are not set."""
    centres = np.empty((proposals + len(targets), targets.shape[1]), targets.dtype)
    for k in range(len(targets)):
        for c in range(targets.shape[1]):
            centres[proposals + k, c] = targets[k, c]
    return centres


threadable = kept(njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}))


@lru_cache
def compile_cpu_kernels(terms: Terms) -> tuple[Any, Any]:
    """The two kernels of a step, each of which compiles at its first call.

    Each works on the replicas first .. stop - 1, so that `run_on_threads` can share the replicas out among threads.
    The terms are constants of the kernels. Numba drops what stands behind a term that is missing before it compiles
    it, where the test is in the kernel itself.
    """
    with_shapes, with_reference, with_forward = terms

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
    ) -> None:
        """Moves the state in place by one step for each row of `betas`, (steps, 1) or (steps, replicas)."""
        centres = centres_with_targets(flow.targets, state.means.shape[1])
        for replica in range(first, stop):
            column = min(replica, betas.shape[1] - 1)
            for n in range(len(betas)):
                if halted(flag):
                    return
                beta, step = betas[n, column], first_step + n
                estimate_replica(
                    estimates, centres, state, flow, beta, replica, step, with_shapes, with_reference, flag
                )
                if with_forward:
                    add_forward_part(estimates, centres, state, flow, replica, step, with_shapes, flag)
                if flow.learns_means or not with_shapes:
                    move_means(state, estimates, flow, replica)
                if with_shapes:
                    compiled_move_shapes(
                        state.logs,
                        state.values,
                        state.log_amplitudes,
                        state.precisions,
                        estimates.slopes,
                        replica,
                        state.means.shape[2],
                        flow.dt,
                        flow.learns,
                    )

    @threadable
    def estimate(
        first: int, stop: int, flag: np.ndarray, state: Replicas, estimates: Estimates, flow: ParticleFlow, beta: float
    ) -> None:
        """Writes independent estimates, one at the state of each replica."""
        step = np.int64(0)  # of the type of a run's steps, which a literal is not, so that both share what is compiled
        centres = centres_with_targets(flow.targets, state.means.shape[1])
        for replica in range(first, stop):
            estimate_replica(estimates, centres, state, flow, beta, replica, step, with_shapes, with_reference, flag)
            if with_forward:
                add_forward_part(estimates, centres, state, flow, replica, step, with_shapes, flag)

    return advance, estimate


def compile_log_target_kernel() -> Any:
    """The kernel that evaluates the target's density for an adaptive schedule."""

    @threadable
    def write_log_targets(
        first: int,
        stop: int,
        flag: np.ndarray,
        log_targets: np.ndarray,
        chosen: np.ndarray,
        state: Replicas,
        targets: np.ndarray,
        seed: np.uint64,
        step: int,
    ) -> None:
        """Writes log p* + (d/2) log 2 pi at particles of q, for the replicas chosen[first:stop].

        log_targets: (chosen, L, particles). The particles' numbers count down from the largest one, where no step has
        particles.
        """
        proposals, d, count = state.means.shape[1], targets.shape[1], len(targets)
        blocks = (d + 3) // 4
        normals, words = np.zeros((4 * blocks, LANES)), np.empty((4, LANES), np.uint32)
        logits, log_sums = np.empty((count, LANES)), np.empty(LANES)
        for row in range(first, stop):
            replica = chosen[row]
            for i in range(proposals):
                for particle in range(0, log_targets.shape[2], LANES):
                    for block in range(blocks):
                        if halted(flag):
                            return
                        draw_block(normals, words, seed, replica, step, i, MAX_PARTICLES - LANES - particle, block)
                    for k in range(count):
                        logits[k] = 0.0
                        for c in range(d):
                            separation = state.means[replica, i, c] - targets[k, c]
                            scale = state.values[SCALES, replica, i]
                            for lane in range(LANES):
                                difference = separation + scale * normals[c, lane]
                                logits[k, lane] += difference * difference
                        amplitude, precision = (
                            state.log_amplitudes[replica, proposals + k],
                            state.precisions[replica, proposals + k],
                        )
                        for lane in range(LANES):
                            logits[k, lane] = amplitude - 0.5 * precision * logits[k, lane]
                    normalise_exponentials(logits, 0, count, log_sums, LANES)
                    for lane in range(min(LANES, log_targets.shape[2] - particle)):
                        log_targets[row, i, particle + lane] = log_sums[LANES - 1 - lane]

    return write_log_targets


write_log_targets = compile_log_target_kernel()


class CpuParticles:
    """The replicas of a run and their step."""

    def __init__(self, start: Replicas, flow: ParticleFlow):
        self._state, self._flow = Replicas(*(array.copy() for array in start)), flow
        self._estimates = Estimates(np.empty_like(start.means), np.zeros_like(start.values))
        self._advance, self._estimate = compile_cpu_kernels(flow.terms)

    def state(self) -> Replicas:
        """A copy of the replicas' state."""
        return Replicas(*(array.copy() for array in self._state))

    def advance(self, betas: np.ndarray, first_step: int) -> None:
        """Do one step for each row of `betas`, (steps, 1) for all replicas alike or (steps, replicas)."""
        run_on_threads(
            self._advance, len(self._state.means), self._state, self._estimates, betas, first_step, self._flow
        )

    def estimates(self, beta: float) -> Estimates:
        """Independent estimates, one at the state of each replica."""
        run_on_threads(self._estimate, len(self._state.means), self._state, self._estimates, self._flow, beta)
        return Estimates(*(array.copy() for array in self._estimates))


def log_target_of_particles(
    state: Replicas, target_means: np.ndarray, chosen: np.ndarray, particles: int, seed: np.uint64, step: int
) -> np.ndarray:
    """log p* up to a constant at fresh particles of some replicas, (chosen, L, particles), in double precision.

    target_means: (K, d); chosen: numbers of the replicas; particles: particles of each component. No step of a run uses
    these draws, as long as the run has at most MAX_PARTICLES - particles particles of its own.
    """
    log_targets = np.empty((len(chosen), state.means.shape[1], particles))
    run_on_threads(write_log_targets, len(chosen), log_targets, chosen, state, target_means, seed, step)
    return log_targets
