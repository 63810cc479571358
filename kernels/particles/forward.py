"""The forward KL's part of a step on the CPU: samples of the target, weighted by the proposal's responsibilities.

The forward KL is -E_p*[log q] up to a constant. Its gradient in the proposal's mean a_i is

    g_i = -E_p*[rho_i(x) (x - a_i)] / sigma_i^2,

and its derivatives in the logit theta_i and in tau_i = log sigma_i are

    w_i - E_p*[rho_i(x)]   and   -E_p*[rho_i(x) (|x - a_i|^2 / sigma_i^2 - d)].

A step draws as many samples x = nu_k + sigma*_k z of each component k of the target, and weights them by w*_k. beta
plays no part. In the stream of random numbers the target's component k has the number L + k, which no component of the
proposal has.
"""

from __future__ import annotations

import numpy as np

from kernels.machine.halting import halted
from kernels.particles.lanes import add_block, subtract_weighted
from kernels.particles.random_stream import LANES, compiled, draw_block
from kernels.particles.shapes import NO_SUMS, WEIGHTS, add_forward_slopes
from kernels.particles.step import Estimates, ParticleFlow, Replicas, normalise_exponentials


@compiled
def keep_reverse_part(estimates: Estimates, replica: int, factor: float) -> None:
    """Multiplies the estimates of one replica by a factor, in place; a factor of zero forgets what was there."""
    gradients, slopes = estimates.gradients, estimates.slopes
    for i in range(gradients.shape[1]):
        for c in range(gradients.shape[2]):
            gradients[replica, i, c] = factor * gradients[replica, i, c] if factor > 0.0 else 0.0
        for n in range(len(slopes)):
            slopes[n, replica, i] = factor * slopes[n, replica, i] if factor > 0.0 else 0.0


@compiled
def find_shares(
    shares: np.ndarray,
    squared_distances: np.ndarray,
    dots: np.ndarray,
    squares: np.ndarray,
    log_sums: np.ndarray,
    separations: np.ndarray,
    scale: float,
    log_amplitudes: np.ndarray,
    precisions: np.ndarray,
    lanes: int,
) -> None:
    """Finds rho_i(x) and |x - a_i|^2 of all L components i, (L, lanes), at some samples x = nu_k + scale z.

    dots: z . (nu_k - a_i), (L, lanes); squares: |z|^2, (lanes,); separations: |nu_k - a_i|^2, (L,). log_amplitudes,
    precisions: those of `Replicas` for one replica. log_sums: work space, (lanes,).
    """
    for i in range(len(shares)):
        for lane in range(lanes):
            squared_distances[i, lane] = separations[i] + scale * (2.0 * dots[i, lane] + scale * squares[lane])
            shares[i, lane] = log_amplitudes[i] - 0.5 * precisions[i] * squared_distances[i, lane]
    normalise_exponentials(shares, 0, len(shares), log_sums, lanes)


@compiled
def add_forward_part(
    estimates: Estimates,
    centres: np.ndarray,
    state: Replicas,
    flow: ParticleFlow,
    replica: int,
    step: int,
    with_shapes: bool,
    flag: np.ndarray,
) -> None:
    """Mixes the forward KL into one replica's estimates, which hold those of the reverse KL unless its share is zero.

    The arguments are those of `kernels.particles.cpu.estimate_replica`; all rows of `centres` are set.
    """
    _, L, d = state.means.shape
    blocks, real = (d + 3) // 4, centres.dtype.type
    log_amplitudes, precisions = state.log_amplitudes[replica], state.precisions[replica]
    normals, words = np.empty((4 * blocks, LANES), centres.dtype), np.empty((4, LANES), np.uint32)
    dots, squares, weights = (
        np.empty((L, LANES), centres.dtype),
        np.empty(LANES, centres.dtype),
        np.empty(LANES, centres.dtype),
    )
    shares, squared_distances, log_sums = np.empty((L, LANES)), np.empty((L, LANES)), np.empty(LANES)
    keep_reverse_part(estimates, replica, 1.0 - flow.forward_share)
    for k in range(len(flow.target_weights)):
        scale, factor = flow.target_scales[k], flow.forward_share * flow.target_weights[k] / flow.particles
        differences, separations = np.zeros((L, 4 * blocks), centres.dtype), np.zeros(L)
        noise, share_sums, slope_sums = np.zeros((L, 4 * blocks)), np.zeros(L), np.zeros((L, len(NO_SUMS)))
        for i in range(L):
            for c in range(d):
                difference = np.float64(centres[L + k, c]) - np.float64(centres[i, c])
                differences[i, c] = difference
                separations[i] += difference * difference
        for first in range(0, flow.particles, LANES):
            members = min(LANES, flow.particles - first)
            dots[:] = real(0)
            squares[:] = real(0)
            for block in range(blocks):
                if halted(flag):
                    return
                draw_block(normals, words, flow.seed, replica, step, L + k, first, block)
                if 4 * block + 4 > d:
                    normals[d:] = real(0)
                add_block(dots, squares, normals, differences, block)
            find_shares(
                shares,
                squared_distances,
                dots,
                squares,
                log_sums,
                separations,
                scale,
                log_amplitudes,
                precisions,
                LANES,
            )
            for i in range(L):
                for lane in range(LANES):
                    weights[lane] = shares[i, lane] if lane < members else 0.0
                subtract_weighted(noise[i], normals, weights)
                for lane in range(members):
                    share_sums[i] += shares[i, lane]
                    if with_shapes:
                        add_forward_slopes(slope_sums[i], shares[i, lane], squared_distances[i, lane], precisions[i], d)
        for i in range(L):
            for c in range(d):
                pull = scale * noise[i, c] - share_sums[i] * np.float64(differences[i, c])
                estimates.gradients[replica, i, c] += factor * precisions[i] * pull
            if with_shapes:
                for n in range(len(NO_SUMS)):
                    slope = slope_sums[i, n] / state.values[WEIGHTS, replica, i]
                    estimates.slopes[n, replica, i] -= factor * slope
