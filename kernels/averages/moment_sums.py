"""Moments of softmax shares at many sets of logits at once, by sums over a tensor grid; tables are made from them.

The sums serve numbers, where the functions that `kernels.generate.lattice_code` writes serve one system: the number of
logits, of variables and of moments is data here, and the code is compiled once for all systems.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit

from kernels.averages.chi_law import chi_law, chi_nodes
from kernels.generate.templates.lattice import chi_density, normal_density
from kernels.lower.lattice import Moment
from kernels.machine.kept_code import kept
from kernels.machine.threads import run_on_threads

STEEPEST = 40.0
"""The largest slope of a logit, relative to another, in a normal variable. The factors exp(slope z) that the sums are
made of are finite with room to spare, and a table of a steeper function would not pay."""


CHI_RULES = 12
"""How many rules for the χ² variable serve the points of a table."""


class Coefficients(NamedTuple):
    """The coefficients of C logits A_l + B_l·z + k_l ‖z‖² + k'_l c at N points.

    One of the logits is zero, to which the others are relative.

    Attributes
    ----------
    offsets
        (N, C) A_l.
    slopes
        (N, C, r) B_l, r at most three.
    curvatures, chi_slopes
        (N, C) k_l and k'_l.
    """

    offsets: np.ndarray
    slopes: np.ndarray
    curvatures: np.ndarray
    chi_slopes: np.ndarray


def moments_at(
    logits: Coefficients, degrees: float | None, moments: Sequence[Moment], nats: float, finer: float = 1.0
) -> np.ndarray:
    """E[Π z^a c^b Π ρ_l^p (log ρ_l)^q] at N sets of coefficients: (N, moments).

    degrees: of the χ² variable c, or None. moments: a power of a normal variable is only for r = 1. nats: the accuracy
    e^{−nats}. finer: more nodes by this factor along each axis, for measurements.
    """
    points, components, normals = logits.slopes.shape
    slopes = logits.slopes if normals > 0 else np.zeros((points, components, 1))
    quadratic = 2 * np.ptp(logits.curvatures, axis=1)
    densities = np.array(
        [
            [finer * normal_density(s, q, nats) for s in row]
            for row, q in zip(np.ptp(slopes, axis=1), quadratic, strict=True)
        ]
    )
    found = np.empty((points, len(moments)))
    powers = np.array([(m.shares, m.logs) for m in moments], np.int64)
    of_variables = np.array([(sum(m.variables[:normals]), sum(m.variables[normals:])) for m in moments], np.int64)
    # Points with a like slope in c share the nodes of the χ² variable, and no point pays for a much steeper one.
    steepness = np.ptp(logits.chi_slopes, axis=1)
    parts = np.array_split(np.argsort(steepness), CHI_RULES) if np.ptp(steepness) > 0 else [np.arange(points)]
    for part in (p for p in parts if len(p)):
        coefficients = (logits.offsets[part], slopes[part], logits.curvatures[part], logits.chi_slopes[part])
        c, c_weights = _chi_rule(coefficients[3], degrees, nats, finer)
        rule = (densities[part], c, c_weights, math.sqrt(2 * nats))
        some = np.empty((len(part), len(moments)))
        run_on_threads(_sums, len(part), *coefficients, *rule, powers, of_variables, some)
        found[part] = some
    return found


def nodes_of(logits: Coefficients, degrees: float | None, nats: float) -> float:
    """About how many nodes the sums take at the steepest of N sets of coefficients; see `moments_at`."""
    spread = np.ptp(logits.slopes, axis=1).max(axis=0)
    quadratic = 2 * float(np.ptp(logits.curvatures, axis=1).max())
    of_normals = math.prod(2 * math.sqrt(2 * nats) * normal_density(s, quadratic, nats) for s in spread)
    return of_normals * len(_chi_rule(logits.chi_slopes, degrees, nats, 1.0)[0])


def _chi_rule(
    chi_slopes: np.ndarray, degrees: float | None, nats: float, finer: float
) -> tuple[np.ndarray, np.ndarray]:
    """The nodes and weights of the χ² variable, or those of a constant where there is none."""
    if degrees is None:
        return np.zeros(1), np.ones(1)
    law = chi_law(degrees, nats)
    density = finer * chi_density(float(np.ptp(chi_slopes, axis=1).max()), law.own_density, law.steepest)
    c, log_weights = chi_nodes(law, np.arange(law.lowest, law.highest + 1 / density, 1 / density))
    return c, np.exp(log_weights) / density


@kept(njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}))
def _sums(  # type: ignore[no-untyped-def]
    first,
    stop,
    flag,
    offsets,
    slopes,
    curvatures,
    chi_slopes,
    densities,
    c,
    c_weights,
    radius,
    powers,
    of_variables,
    found,
):
    """Write the moments at the points first … stop; see `moments_at`. The last normal variable is the inner one."""
    components, normals = slopes.shape[1], slopes.shape[2]
    for n in range(first, stop):
        if flag[0] != 0:
            return
        reach = np.zeros(3, np.int64)
        step = np.ones(3)
        slope = np.zeros((components, 3))
        for axis in range(normals):
            place = 3 - normals + axis
            step[place] = 1 / densities[n, axis]
            reach[place] = int(radius * densities[n, axis]) + 1
            for l in range(components):
                slope[l, place] = slopes[n, l, axis]
        width = 2 * reach[2] + 1
        weights, total, term = np.empty(width), np.empty(width), np.empty(width)
        exponents, factors = np.empty((components, width)), np.empty((components, width))
        shares, logs = np.empty((components, width)), np.empty((components, width))
        for i in range(width):
            x = (i - reach[2]) * step[2]
            weights[i] = step[2] / math.sqrt(2 * math.pi) * math.exp(-0.5 * x * x)
            for l in range(components):
                exponents[l, i] = (slope[l, 2] + curvatures[n, l] * x) * x
                factors[l, i] = math.exp(exponents[l, i])
        found[n] = 0.0
        logarithms = powers[:, 1].max() > 0
        highest_weight = c_weights.max()
        for k in range(len(c)):
            within = radius * radius + 2.0 * math.log(max(c_weights[k] / highest_weight, 1e-300))
            for i_0 in range(-reach[0], reach[0] + 1):
                z_0 = i_0 * step[0]
                for i_1 in range(-reach[1], reach[1] + 1):
                    z_1 = i_1 * step[1]
                    left = within - (z_0 * z_0 + z_1 * z_1)
                    if left < 0.0:
                        continue
                    half = min(reach[2], int(math.sqrt(left) / step[2]) + 1)
                    begin, end = reach[2] - half, reach[2] + half + 1
                    outer = c_weights[k]
                    if normals > 1:
                        outer *= step[1] / math.sqrt(2 * math.pi) * math.exp(-0.5 * z_1 * z_1)
                    if normals > 2:
                        outer *= step[0] / math.sqrt(2 * math.pi) * math.exp(-0.5 * z_0 * z_0)
                    highest = -np.inf
                    levels = np.empty(components)
                    for l in range(components):
                        levels[l] = offsets[n, l] + chi_slopes[n, l] * c[k]
                        levels[l] += (slope[l, 0] + curvatures[n, l] * z_0) * z_0
                        levels[l] += (slope[l, 1] + curvatures[n, l] * z_1) * z_1
                        highest = max(highest, levels[l])
                    total[begin:end] = 0.0
                    for l in range(components):
                        scale = math.exp(levels[l] - highest)
                        for i in range(begin, end):
                            shares[l, i] = scale * factors[l, i]
                            total[i] += shares[l, i]
                    if logarithms:
                        for i in range(begin, end):
                            logs[0, i] = math.log(total[i])
                        for l in range(components - 1, -1, -1):
                            for i in range(begin, end):
                                logs[l, i] = levels[l] - highest + exponents[l, i] - logs[0, i]
                    for i in range(begin, end):
                        total[i] = 1 / total[i]
                    for m in range(len(powers)):
                        for i in range(begin, end):
                            term[i] = weights[i]
                        for _ in range(of_variables[m, 0]):
                            for i in range(begin, end):
                                term[i] *= (i - reach[2]) * step[2]
                        for l in range(components):
                            for _ in range(powers[m, 0, l]):
                                for i in range(begin, end):
                                    term[i] *= shares[l, i] * total[i]
                            for _ in range(powers[m, 1, l]):
                                for i in range(begin, end):
                                    term[i] *= logs[l, i]
                        part = 0.0
                        for i in range(begin, end):
                            part += term[i]
                        found[n, m] += outer * c[k] ** of_variables[m, 1] * part
