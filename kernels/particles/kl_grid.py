"""The gradient of an objective of Gaussian mixtures by quadrature on a grid, in up to three dimensions.

The objectives are those of `kernels.particles.objective`: the tempered reverse KL, the forward KL, or both. The
quadrature is a second route to every drift, and imports nothing of the derivation: it evaluates densities at points and
sums. No score, no responsibility and no Gaussian identity enters. The gradient is the complex-step derivative of the
quadrature's own value. This derivative is exact to rounding, because the log densities are analytic in their
parameters.

The rule is trapezoidal. Its error falls exponentially with the inverse step. The distance from the real axis to the
nearest complex zero of q or of p* sets the rate; it is pi sigma^2 / D along an axis on which two components of one
scale are D apart. The module evaluates each integral on two grids, the second shifted by half a step along every axis.
The value is the mean of the two. Half their difference estimates the error of either grid, and so exceeds the error of
the mean. In one dimension the two grids together are the rule of half the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernels.particles.objective import TEMPERED_REVERSE_KL, Objective

MAX_NODES = 20_000_000
CHUNK_NODES = 1 << 15
COMPLEX_STEP = 1e-30

Array = NDArray[np.float64]
Axes = tuple[Array, ...]


class Mixture(NamedTuple):
    """The Gaussian mixture sum_i weights[i] N(x; means[i], scales[i]^2 I).

    Attributes
    ----------
    means
        (L, d), with d <= 3.
    weights
        (L,); they sum to one.
    scales
        (L,)
    """

    means: ArrayLike
    weights: ArrayLike
    scales: ArrayLike


class KlGradient(NamedTuple):
    """Derivatives of the objective in the proposal's parameters.

    Attributes
    ----------
    means
        Derivatives in the means, (L, d).
    logits
        Derivatives in the softmax logits of the weights, (L,).
    log_scales
        Derivatives in the logarithms of the scales, (L,).
    error
        Estimated absolute error of the worst entry.
    """

    means: Array
    logits: Array
    log_scales: Array
    error: float


def rates(mixture: Mixture, gradient: KlGradient) -> dict[str, Array]:
    """The rates, (L,), of a mixture's weights and scales whose logits and log scales follow minus the gradient."""
    weights, scales = np.asarray(mixture.weights, float), np.asarray(mixture.scales, float)
    return {
        "weights": weights * (weights @ gradient.logits - gradient.logits),
        "scales": -scales * gradient.log_scales,
    }


class _Parameters(NamedTuple):
    """A mixture in unconstrained coordinates, real or complex."""

    means: NDArray
    logits: NDArray
    log_scales: NDArray


def kl_gradient(
    proposal: Mixture,
    target: Mixture,
    beta: float,
    tolerance: float = 1e-10,
    objective: Objective = TEMPERED_REVERSE_KL,
) -> KlGradient:
    """The gradient of the objective in the proposal's parameters, on which log Z(beta) does not depend.

    Raises ValueError for a malformed mixture, and ArithmeticError where the tolerance needs more than MAX_NODES nodes.
    """
    q, p = _checked(proposal, target)
    share, parts = objective.forward_share, []
    if share < 1:
        parts.append((1 - share, *_reverse_gradient(q, p, beta, objective.reference_scale, tolerance)))
    if share > 0:
        parts.append((share, *_forward_gradient(q, p, tolerance)))
    value = np.sum([factor * found for factor, found, _ in parts], axis=0)
    error = sum(factor * found for factor, _, found in parts)
    means, logits, log_scales = np.split(value, np.cumsum([q.means.size, q.logits.size]))
    return KlGradient(means.reshape(q.means.shape), logits, log_scales, error)


def _reverse_gradient(
    q: _Parameters, p: _Parameters, beta: float, reference_scale: float, tolerance: float
) -> tuple[Array, float]:
    """The derivatives of E_q[log q - beta log p - (1 - beta) log q0] in all parameters of q, and their error."""
    displaced, rewards = tuple(_complex_displacements(q)), [(beta, p)]
    if reference_scale < math.inf:
        reference = _Parameters(np.zeros((1, p.means.shape[1])), np.zeros(1), np.log([reference_scale]))
        rewards.append((1 - beta, reference))

    def sums(axes: Axes) -> Array:
        reward = np.sum([factor * _log_density(axes, density) for factor, density in rewards], axis=0)
        return np.array([np.sum(_integrand(axes, moved, reward)).imag / COMPLEX_STEP for moved in displaced])

    magnitude = (1 + sum(abs(factor) for factor, _ in rewards)) / min(1.0, float(np.exp(np.min(q.log_scales))))
    return _quadrature(sums, q, (q, *(density for _, density in rewards)), magnitude, tolerance)


def _forward_gradient(q: _Parameters, p: _Parameters, tolerance: float) -> tuple[Array, float]:
    """The derivatives of -E_p[log q] in all parameters of q, and their error."""
    displaced = tuple(_complex_displacements(q))

    def sums(axes: Axes) -> Array:
        density = np.exp(_log_density(axes, p))
        return np.array([-np.sum(density * _log_density(axes, moved).imag) / COMPLEX_STEP for moved in displaced])

    return _quadrature(sums, p, (q,), 2 / min(1.0, float(np.exp(np.min(q.log_scales)))), tolerance)


def _checked(*mixtures: Mixture) -> tuple[_Parameters, ...]:
    parameters = []
    for mixture in mixtures:
        means, weights, scales = (np.asarray(a, dtype=float) for a in mixture)
        if (
            means.ndim != 2
            or not 1 <= means.shape[1] <= 3
            or weights.shape != means.shape[:1]
            or scales.shape != weights.shape
        ):
            raise ValueError("a mixture needs means (L, d) with d = 1, 2 or 3, weights (L,) and scales (L,)")
        if not np.all(np.isfinite(means)) or not np.all(weights > 0) or not np.all((scales > 0) & np.isfinite(scales)):
            raise ValueError("means must be finite, weights and scales positive")
        if abs(float(np.sum(weights)) - 1) > 1e-12:
            raise ValueError(f"the weights sum to {float(np.sum(weights))!r}, not to 1")
        parameters.append(_Parameters(means, np.log(weights), np.log(scales)))
    if len({p.means.shape[1] for p in parameters}) != 1:
        raise ValueError("proposal and target differ in dimension")
    return tuple(parameters)


def _complex_displacements(q: _Parameters) -> Iterator[_Parameters]:
    """Copies of q, each with one parameter moved by i * COMPLEX_STEP.

    The parameters come in the order of the means row by row, the logits, and the log scales.
    """
    for name, values in q._asdict().items():
        for index in np.ndindex(values.shape):
            moved = values.astype(complex)
            moved[index] += 1j * COMPLEX_STEP
            yield q._replace(**{name: moved})


def _log_weights(q: _Parameters) -> NDArray:
    shift = np.max(q.logits.real)
    return q.logits - shift - np.log(np.sum(np.exp(q.logits - shift)))


def _log_density(axes: Axes, q: _Parameters) -> NDArray:
    """log q on the product of the axes, each of which has a shape that broadcasts along its own direction."""
    dimension = len(axes)
    heights = _log_weights(q) - dimension * (q.log_scales + math.log(2 * math.pi) / 2)
    half_precisions = np.exp(-2 * q.log_scales) / 2
    terms = []
    for height, half_precision, mean in zip(heights, half_precisions, q.means, strict=True):
        logit = height
        for x, center in zip(axes, mean, strict=True):
            logit = logit - half_precision * (x - center) ** 2
        terms.append(logit)
    shift = np.max([t.real for t in terms], axis=0)
    total = sum(np.exp(t - shift) for t in terms)
    return shift + np.log(total)


def _integrand(axes: Axes, q: _Parameters, reward: Array) -> NDArray:
    log_q = _log_density(axes, q)
    return np.exp(log_q) * (log_q - reward)


def _quadrature(
    sums: Callable[[Axes], Array],
    measure: _Parameters,
    mixtures: tuple[_Parameters, ...],
    magnitude: float,
    tolerance: float,
) -> tuple[Array, float]:
    """Integrals, (integrands,), of functions that decay like the mixture `measure`, and their estimated absolute error.

    The functions are singular at the complex zeros of `mixtures`. sums: the integrands' sums over a
    product of axes, (integrands,). magnitude: the size of the integrands relative to `measure`.
    """
    reach, outside = _reach(measure, mixtures, magnitude, tolerance)
    spread = reach * np.exp(measure.log_scales)[:, None]
    low, high = np.min(measure.means - spread, axis=0), np.max(measure.means + spread, axis=0)
    steps = _predicted_steps(measure, mixtures, reach, tolerance)
    largest_grid = MAX_NODES / 2
    while True:
        coarsening = (np.prod((high - low) / steps) / largest_grid) ** (1 / len(steps))
        exhausted = bool(coarsening >= 1)
        steps = steps * max(1.0, coarsening)
        plain, shifted = (_trapezoid(sums, low, high, steps, offset) for offset in (0.0, 0.5))
        value = (plain + shifted) / 2
        rounding = 16 * np.finfo(float).eps * (1 + float(np.max(np.abs(value))))
        error = float(np.max(np.abs(plain - shifted)) / 2 + outside + rounding)
        if error <= tolerance:
            return value, error
        if exhausted or rounding >= tolerance:
            raise ArithmeticError(f"the grid reaches {error:.1e}, not {tolerance:.1e}, with {MAX_NODES} nodes")
        steps = steps * 0.8


def _reach(
    measure: _Parameters, mixtures: tuple[_Parameters, ...], magnitude: float, tolerance: float
) -> tuple[float, float]:
    """The margin of the box around each mean, in scales, and an estimate of the integral outside the box.

    The estimate is at most a tenth of the tolerance.
    """
    dimension = measure.means.shape[1]
    centers = np.concatenate([measure.means, *(m.means for m in mixtures)])
    span = float(np.linalg.norm(np.ptp(centers, axis=0)))
    widest = float(np.exp(np.max(measure.log_scales)))
    narrowest = float(np.exp(min(np.min(m.log_scales) for m in mixtures)))
    reach = 4.0
    while True:
        logarithm = 1 + ((span + reach * widest) / narrowest) ** 2 / 2
        outside = dimension * math.erfc(reach / math.sqrt(2)) * magnitude * (1 + reach) * logarithm
        if outside <= tolerance / 10:
            return reach, outside
        reach += 0.1


def _predicted_steps(measure: _Parameters, mixtures: tuple[_Parameters, ...], reach: float, tolerance: float) -> Array:
    """The steps, (d,), for which the rule's error is about the tolerance.

    The contour of integration may be moved by y into the complex plane, short of the nearest zero. This bounds the
    error by exp(y^2 / (2 sigma^2) - 2 pi y / step) times the density below the contour.
    """
    digits = math.log(10 / tolerance)
    offsets = np.linspace(-reach, reach, 201)
    needed = np.maximum(digits - offsets**2 / 2, 1.0)
    steps = []
    for axis in range(measure.means.shape[1]):
        allowed = []
        for center, scale in zip(measure.means[:, axis], np.exp(measure.log_scales), strict=True):
            distance = scale * np.sqrt(2 * needed)
            for mixture in mixtures:
                distance = np.minimum(distance, _distance_to_zeros(center + scale * offsets, mixture, axis))
            allowed.append(np.min(2 * np.pi * distance / (needed + distance**2 / (2 * scale**2))))
        steps.append(min(allowed))
    return np.array(steps)


def _distance_to_zeros(x: Array, mixture: _Parameters, axis: int) -> Array:
    """A lower bound, (points,), of the distance from real points x of one axis to a complex zero of the mixture.

    At a zero two components cancel: their phases differ by pi, and their magnitudes agree. Where both have one scale,
    the phases decide. Otherwise, with k the narrower component, log N_k - log N_j = curvature / 2 (radius^2 - |x -
    center|^2), and the magnitudes agree only on a sphere that grows into the complex plane.
    """
    dimension = mixture.means.shape[1]
    heights = _log_weights(mixture) - dimension * mixture.log_scales
    precisions = np.exp(-2 * mixture.log_scales)
    nearest = np.full(x.shape, np.inf)
    for k, j in np.ndindex(len(heights), len(heights)):
        apart = mixture.means[k] - mixture.means[j]
        curvature = precisions[k] - precisions[j]
        if k < j and abs(curvature) < 1e-6 * precisions[k]:
            nearest = np.minimum(nearest, np.pi / max(precisions[k] * abs(apart[axis]), 1e-300))
        elif curvature >= 1e-6 * precisions[k]:
            center = mixture.means[j, axis] + apart[axis] * precisions[k] / curvature
            squared_radius = (
                2 * (heights[k] - heights[j]) + precisions[k] * precisions[j] * (apart @ apart) / curvature
            ) / curvature
            opposite_phase = np.pi / np.maximum(curvature * np.abs(x - center), 1e-300)
            equal_magnitude = np.sqrt(np.maximum((x - center) ** 2 - squared_radius, 0.0))
            nearest = np.minimum(nearest, np.maximum(opposite_phase, equal_magnitude))
    return nearest


def _trapezoid(sums: Callable[[Axes], Array], low: Array, high: Array, steps: Array, offset: float) -> Array:
    """The trapezoidal rule: step^d times `sums` over the nodes low + (k + offset) step of the box.

    The function takes one slab of nodes at a time, which bounds the memory.
    """
    nodes = [
        a + h * (np.arange(math.ceil((b - a) / h) + 1) + offset - 0.5) for a, b, h in zip(low, high, steps, strict=True)
    ]
    dimension = len(nodes)
    axes = [x.reshape([-1 if n == axis else 1 for n in range(dimension)]) for axis, x in enumerate(nodes)]
    per_slab = max(1, CHUNK_NODES // math.prod(x.size for x in nodes[1:]))
    slabs = [sums((axes[0][start : start + per_slab], *axes[1:])) for start in range(0, nodes[0].size, per_slab)]
    return np.prod(steps) * np.sum(slabs, axis=0)
