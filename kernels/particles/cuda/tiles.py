"""The four stages of a tile of particles, as device functions of the kernel `estimate`.

The package's docstring describes the stages. All threads of a block call each function at once, and the caller makes
the threads wait for each other in between. A thread draws the particles group, group + groups, … of a tile. Of each
such particle the thread draws the blocks of four coordinates with the numbers column, column + span, …. The centres are
the L + K = `centre_count` means of proposal and target, the proposal's first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from kernels.machine.cuda_functions import device_function, for_cuda
from kernels.particles.cuda.blocks import BlockShape
from kernels.particles.forward import find_shares
from kernels.particles.random_stream import four_normals
from kernels.particles.shapes import add_forward_slopes, add_slopes
from kernels.particles.step import find_pulls


def particle_drawer(real: Any, centre_count: int, shape: BlockShape) -> Any:
    """The device function of the first stage."""
    _, span, passes, groups, tile = shape
    own, coordinates = tile // groups, passes * 4
    four_normals_there = for_cuda(four_normals)

    @device_function
    def draw_particles(
        partials: np.ndarray,
        kept: np.ndarray,
        differences: np.ndarray,
        seed: np.uint64,
        step: int,
        component: int,
        first: int,
        members: int,
        d: int,
    ) -> None:
        """Draws a component's particles first .. first + members - 1, and keeps the thread's own coordinates.

        component: its number in the random stream.

        kept: local, (own particles, coordinates) flat. partials: shared, (L + K + 1, tile, span + 1) flat; receives
        what the thread's coordinates contribute to z . (a_i - c) for each centre, and to |z|^2 in the last row.
        differences: local, the thread's coordinates of a_i - c, (L + K, coordinates) flat.
        """
        replica = cuda.blockIdx.x
        column, group = cuda.threadIdx.x % span, cuda.threadIdx.x // span
        along = cuda.local.array(centre_count, real)
        normals = cuda.local.array(4, real)
        for q in range(own):
            member = group + q * groups
            if group < groups and member < members:
                square = real(0)
                for c in range(centre_count):
                    along[c] = real(0)
                for block in range(column, (d + 3) // 4, span):
                    n = block // span * 4
                    normals[0], normals[1], normals[2], normals[3] = four_normals_there(
                        seed, replica, step, component, first + member, block, real
                    )
                    for e in range(4):
                        normal = normals[e] if 4 * block + e < d else real(0)
                        kept[q * coordinates + n + e] = normal
                        square += normal * normal
                        for c in range(centre_count):
                            along[c] += differences[c * coordinates + n + e] * normal
                for c in range(centre_count):
                    partials[(c * tile + member) * (span + 1) + column] = along[c]
                partials[(centre_count * tile + member) * (span + 1) + column] = square

    return draw_particles


def dot_product_adder(centre_count: int, shape: BlockShape) -> Any:
    """The device function of the second stage."""
    threads, span, _, _, tile = shape
    sums_size = (centre_count + 1) * tile

    @device_function
    def add_dot_products(sums: np.ndarray, partials: np.ndarray, members: int) -> None:
        """Adds up the contributions in `partials`, as `draw_particles` leaves them, over the threads of each particle.

        sums: shared, (L + K + 1, tile) flat; receives the dot products and, in the last row, |z|^2.
        """
        for place in range(cuda.threadIdx.x, sums_size, threads):
            if place % tile < members:
                total = 0.0
                for other in range(span):
                    total += np.float64(partials[place * (span + 1) + other])
                sums[place] = total

    return add_dot_products


def pull_finder(centre_count: int, shape: BlockShape, with_shapes: bool, with_reference: bool) -> Any:
    """The device function of the third stage.

    with_shapes: whether it also adds up the parameters' slopes. with_reference: whether the last centre is a reference.
    """
    tile, float64 = shape.tile, np.float64
    find_pulls_there, add_slopes_there = for_cuda(find_pulls), for_cuda(add_slopes)

    @device_function
    def find_pulls_of_particle(
        tile_pulls: np.ndarray,
        tile_totals: np.ndarray,
        slope_sums: tuple[float, ...],
        sums: np.ndarray,
        separations: np.ndarray,
        amplitudes: np.ndarray,
        inverse_variances: np.ndarray,
        scale: float,
        proposals: int,
        beta: float,
    ) -> tuple[float, ...]:
        """Finds the pulls on the tile's particle that has the thread's number, by `kernels.particles.step.find_pulls`.

        tile_pulls, tile_totals: shared, (L + K, tile) and (tile,); receive the pulls and their sums over the centres.
        sums: those of `add_dot_products`. slope_sums: the thread's, which the function returns with what the particle
        adds to them by `kernels.particles.shapes.add_slopes`.
        """
        thread = cuda.threadIdx.x
        dots = cuda.local.array((centre_count, 1), float64)
        squares = cuda.local.array(1, float64)
        pulls = cuda.local.array((centre_count, 1), float64)
        totals = cuda.local.array(1, float64)
        log_sums = cuda.local.array((3, 1), float64)
        for c in range(centre_count):
            dots[c, 0] = sums[c * tile + thread]
        squares[0] = sums[centre_count * tile + thread]
        find_pulls_there(
            pulls,
            dots,
            squares,
            totals,
            log_sums,
            separations,
            scale,
            amplitudes,
            inverse_variances,
            proposals,
            beta,
            with_reference,
            1,
        )
        tile_totals[thread] = totals[0]
        for c in range(centre_count):
            tile_pulls[c, thread] = pulls[c, 0]
        if with_shapes:
            return add_slopes_there(slope_sums, pulls, dots, squares, totals, log_sums, scale, beta, with_reference, 1)
        return slope_sums

    return find_pulls_of_particle


def share_finder(component_count: int, shape: BlockShape, with_shapes: bool) -> Any:
    """The device function of the third stage for samples of the target. with_shapes: whether it adds up slopes too."""
    tile, float64 = shape.tile, np.float64
    find_shares_there, add_forward_slopes_there = for_cuda(find_shares), for_cuda(add_forward_slopes)

    @device_function
    def find_shares_of_sample(
        tile_pulls: np.ndarray,
        tile_totals: np.ndarray,
        slope_sums: np.ndarray,
        sums: np.ndarray,
        separations: np.ndarray,
        amplitudes: np.ndarray,
        inverse_variances: np.ndarray,
        scale: float,
        d: int,
    ) -> None:
        """Finds the block's component's responsibility for the tile's sample that has the thread's number.

        The share stands in `tile_totals`, (tile,), and in the component's row of `tile_pulls`, (L, tile), whose other
        rows receive zeros: the other components have blocks of their own. sums: those of `add_dot_products`.
        slope_sums: local, (parameters,); receives what `kernels.particles.shapes.add_forward_slopes` adds.
        """
        component, thread = cuda.blockIdx.y, cuda.threadIdx.x
        dots = cuda.local.array((component_count, 1), float64)
        squares = cuda.local.array(1, float64)
        shares = cuda.local.array((component_count, 1), float64)
        squared_distances = cuda.local.array((component_count, 1), float64)
        log_sums = cuda.local.array(1, float64)
        for i in range(component_count):
            dots[i, 0] = sums[i * tile + thread]
        squares[0] = sums[component_count * tile + thread]
        find_shares_there(
            shares,
            squared_distances,
            dots,
            squares,
            log_sums,
            separations,
            scale,
            amplitudes,
            inverse_variances,
            1,
        )
        tile_totals[thread] = shares[component, 0]
        for i in range(component_count):
            tile_pulls[i, thread] = shares[i, 0] if i == component else 0.0
        if with_shapes:
            precision = inverse_variances[component]
            add_forward_slopes_there(slope_sums, shares[component, 0], squared_distances[component, 0], precision, d)

    return find_shares_of_sample


def gradient_adder(real: Any, centre_count: int, shape: BlockShape) -> Any:
    """The device function of the fourth stage."""
    threads, span, passes, groups, tile = shape
    own, coordinates = tile // groups, passes * 4

    @device_function
    def add_to_gradient(
        gradient: np.ndarray,
        pull_sums: np.ndarray,
        tile_pulls: np.ndarray,
        tile_totals: np.ndarray,
        kept: np.ndarray,
        members: int,
        d: int,
    ) -> None:
        """Adds what the tile's particles contribute to the gradient.

        The function adds the tile's pulls to the shared array `pull_sums`, (L + K,). From the local array `gradient`,
        the thread's own coordinates of the gradient, it subtracts the kept normals times their particles' total pulls.
        """
        column, group = cuda.threadIdx.x % span, cuda.threadIdx.x // span
        tile_gradient = cuda.local.array(coordinates, real)
        for c in range(cuda.threadIdx.x, centre_count, threads):
            for member in range(members):
                pull_sums[c] += tile_pulls[c, member]
        for n in range(coordinates):
            tile_gradient[n] = real(0)
        for q in range(own):
            member = group + q * groups
            if group < groups and member < members:
                total_pull = real(tile_totals[member])
                for n in range(coordinates):
                    if column + n // 4 * span < (d + 3) // 4:
                        tile_gradient[n] += total_pull * kept[q * coordinates + n]
        for n in range(coordinates):
            gradient[n] -= np.float64(tile_gradient[n])

    return add_to_gradient
