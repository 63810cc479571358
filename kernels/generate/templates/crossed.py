"""What a lattice needs where logits contain products of normal variables. Generated modules copy these functions, and
`lattice_rule` calls them.

Along one of the variables a logit still is quadratic, but its slope depends on the other variables, and a bound on the
slopes over the whole ball often asks for many more nodes than there need to be. The shares have poles where two
exponentials cancel, which is where the difference of their logits is an odd multiple of iπ. The nearest poles are those
at ±iπ. At given values of the other variables they are roots z_n = x + iδ of a quadratic. A pole has the weight of its
real point z, so that an error of e^{−nats} takes (nats − |z|²/2 + δ²/2)/(2πδ) nodes per unit length; see
`templates.lattice`. The largest of these numbers is found on a coarse grid of the other variables.
"""

import math
from typing import Any

import numpy as np

from kernels.generate.templates.lattice import normal_density


def device(function: Any) -> Any:
    return function


def fused(function: Any) -> Any:
    return function


# The copied text begins below this line.
MOST_PER_STEP = 75.0


@device
def hessian(forms: np.ndarray, components: int, normals: int, one: int, other: int, row: int, column: int) -> float:
    """An entry of the Hessian of the difference of two logits. forms: see `crossed_densities`."""
    if row == column:
        place = components * (1 + normals)
        return 2.0 * (forms[place + one * normals + row] - forms[place + other * normals + row])
    low, high = min(row, column), max(row, column)
    count = normals * (normals - 1) // 2
    place = components * (1 + 2 * normals) + low * (2 * normals - low - 1) // 2 + high - low - 1
    return forms[place + one * count] - forms[place + other * count]


@device
def density_at_pole(x: float, distance: float, budget: float) -> float:
    """Nodes per unit length that a pole at x + i·distance asks for.

    budget: the nats less |z|²/2 of the other variables.
    """
    left = budget - 0.5 * x * x
    return (left + 0.5 * distance * distance) / (2.0 * math.pi * distance) if left > 0.0 and distance > 0.0 else 0.0


@device
def density_at_poles(forms: np.ndarray, components: int, normals: int, axis: int, nats: float) -> float:
    """Nodes per unit length of one of two or three normal variables that all poles together ask for."""
    own = math.sqrt(2.0 * nats) / (2.0 * math.pi)
    densest, radius = own, math.sqrt(2.0 * nats)
    v, w = (axis + 1) % normals, (axis + 2) % normals
    points = 33 if normals == 2 else 17
    planes = 1 if normals == 2 else points
    spacing = 2.0 * radius / (points - 1)
    for one in range(components):
        for other in range(one):
            first, second = components + one * normals, components + other * normals
            slope_v, slope_w, slope = (
                forms[first + v] - forms[second + v],
                0.0,
                forms[first + axis] - forms[second + axis],
            )
            curve_v, curve_w = 0.5 * hessian(forms, components, normals, one, other, v, v), 0.0
            cross_v, cross_w, cross = hessian(forms, components, normals, one, other, axis, v), 0.0, 0.0
            if normals == 3:
                slope_w = forms[first + w] - forms[second + w]
                curve_w = 0.5 * hessian(forms, components, normals, one, other, w, w)
                cross_w = hessian(forms, components, normals, one, other, axis, w)
                cross = hessian(forms, components, normals, one, other, v, w)
            square = 0.5 * hessian(forms, components, normals, one, other, axis, axis)
            for plane in range(planes):
                z_w = spacing * plane - radius if normals == 3 else 0.0
                for point in range(points):
                    z_v = spacing * point - radius
                    budget = nats - 0.5 * (z_v * z_v + z_w * z_w)
                    if budget <= 0.0:
                        continue
                    constant = forms[one] - forms[other] + (slope_v + curve_v * z_v) * z_v
                    constant += (slope_w + curve_w * z_w + cross * z_v) * z_w
                    linear = slope + cross_v * z_v + cross_w * z_w
                    # The roots of square x² + linear x + constant = iπ, of which one is half/square.
                    real, imaginary = linear * linear - 4.0 * square * constant, 4.0 * math.pi * square
                    size = math.sqrt(real * real + imaginary * imaginary)
                    root_real = math.copysign(math.sqrt(0.5 * max(0.0, size + real)), linear)
                    root_imaginary = math.copysign(math.sqrt(0.5 * max(0.0, size - real)), linear * imaginary)
                    half_real, half_imaginary = -0.5 * (linear + root_real), -0.5 * root_imaginary
                    length = half_real * half_real + half_imaginary * half_imaginary
                    if length > 0.0:
                        x = (constant * half_real - math.pi * half_imaginary) / length
                        distance = abs((constant * half_imaginary + math.pi * half_real) / length)
                        densest = max(densest, density_at_pole(x, distance, budget))
                    if square != 0.0:
                        distance = abs(half_imaginary / square)
                        densest = max(densest, density_at_pole(half_real / square, distance, budget))
    return 1.05 * densest


@device
def crossed_densities(
    forms: np.ndarray, components: int, normals: int, nats: float, seek: bool, densities: np.ndarray
) -> float:
    """Write the nodes per unit length for each normal variable, and return the steepest slope along the last one.

    forms: the offsets of the logits, their slopes, the coefficients of squares and those of products. seek: look for
    poles where a bound on the slopes asks for so many nodes that this pays.
    """
    radius = math.sqrt(2.0 * nats)
    asked, steepest = 1.0, 0.0
    for axis in range(normals):
        linear, quadratic = 0.0, 0.0
        for one in range(components):
            for other in range(one):
                place = components + axis
                slope = forms[place + one * normals] - forms[place + other * normals]
                linear = max(linear, abs(slope))
                squared = 0.0
                for m in range(normals):
                    entry = hessian(forms, components, normals, one, other, axis, m)
                    squared += entry * entry
                quadratic = max(quadratic, math.sqrt(squared))
        densities[axis] = normal_density(linear, quadratic, nats)
        asked *= 2.0 * radius * densities[axis]
        steepest = linear + quadratic * radius
    if seek and asked > (5000.0 if normals == 2 else 100000.0):
        for axis in range(normals):
            densities[axis] = min(densities[axis], density_at_poles(forms, components, normals, axis, nats))
        # Where no pole is near, a logit may still be steep, and over eight nodes its exponential must not overflow.
        densities[normals - 1] = max(densities[normals - 1], steepest / MOST_PER_STEP)
    return steepest


@fused
def tilt(factors: np.ndarray, ratio: float, powers: np.ndarray, tilted: np.ndarray) -> None:
    """Multiply a row of factors, whose length is a multiple of eight, by the powers 1, ratio, ratio² …

    powers: room for eight of them, so that the compiler makes vector instructions.
    """
    square = ratio * ratio
    fourth = square * square
    powers[0], powers[1], powers[2], powers[3] = 1.0, ratio, square, square * ratio
    powers[4], powers[5], powers[6], powers[7] = fourth, fourth * ratio, fourth * square, fourth * square * ratio
    power, eighth = 1.0, fourth * fourth
    for k in range(factors.shape[0] // 8):
        for i in range(8):
            tilted[8 * k + i] = factors[8 * k + i] * (power * powers[i])
        power *= eighth


@fused
def tilt_exponents(exponents: np.ndarray, nodes: np.ndarray, slope: float, middle: float, tilted: np.ndarray) -> None:
    """Add slope · (node − middle) to a row of exponents."""
    for i in range(nodes.shape[0]):
        tilted[i] = exponents[i] + slope * (nodes[i] - middle)
