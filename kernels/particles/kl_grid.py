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
    """The Gaussian mixture sum_i weights[i] N(x; means[i], scales[i]^2 I), or one with covariances.

    With covariances, component i has the covariance covariances[i] in the first r of the d coordinates, and
    scales[i]^2 I in the others.

    Attributes
    ----------
    means
        (L, d), with d <= 3.
    weights
        (L,); they sum to one.
    scales
        (L,); they play no part where r = d.
    covariances
        (L, r, r) with 1 <= r <= d, or None.
    """

    means: ArrayLike
    weights: ArrayLike
    scales: ArrayLike
    covariances: ArrayLike | None = None


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
    covariances
        Symmetric gradients in the covariances, (L, r, r): the derivative along a symmetric matrix E is the sum of the
        entries of G * E. None where the proposal has no covariances.
    """

    means: Array
    logits: Array
    log_scales: Array
    error: float
    covariances: Array | None = None


def rates(mixture: Mixture, gradient: KlGradient, metric: str = "log") -> dict[str, Array]:
    """The rates of a mixture's "weights" and "scales", (L,), and of its "covariances", (L, r, r), if it has any.

    Logits and log scales follow minus the gradient. With G the gradient in a covariance C, the metric "log" gives
    dC/dt = -4 C G C, and "bures-wasserstein" dC/dt = -2 (C G + G C). Raises ValueError for another metric.
    """
    if metric not in ("log", "bures-wasserstein"):
        raise ValueError(f'metric must be "log" or "bures-wasserstein", not {metric!r}')
    weights, scales = np.asarray(mixture.weights, float), np.asarray(mixture.scales, float)
    found = {
        "weights": weights * (weights @ gradient.logits - gradient.logits),
        "scales": -scales * gradient.log_scales,
    }
    if gradient.covariances is not None:
        C, G = np.asarray(mixture.covariances, float), gradient.covariances
        found["covariances"] = -4 * C @ G @ C if metric == "log" else -2 * (C @ G + G @ C)
    return found


class _Parameters(NamedTuple):
    """A mixture in coordinates that are free, real or complex; covariances are (L, 0, 0) where it has none."""

    means: NDArray
    logits: NDArray
    log_scales: NDArray
    covariances: NDArray

    def full_covariances(self) -> Array:
        """The components' covariances in all coordinates, (L, d, d)."""
        inside = self.covariances.shape[1]
        full = np.exp(2 * self.log_scales)[:, None, None] * np.eye(self.means.shape[1])
        full[:, :inside, :inside] = self.covariances
        return full


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
    means, logits, log_scales, entries = np.split(value, np.cumsum([q.means.size, q.logits.size, q.log_scales.size]))
    return KlGradient(
        means.reshape(q.means.shape),
        logits,
        log_scales,
        error,
        None if proposal.covariances is None else _symmetric(entries, q.covariances.shape),
    )


def _symmetric(entries: Array, shape: tuple[int, ...]) -> Array:
    """Symmetric matrices, (L, r, r), from their entries on and above the diagonal, matrix by matrix."""
    rows, columns = np.triu_indices(shape[1])
    matrices = np.empty(shape)
    matrices[:, rows, columns] = matrices[:, columns, rows] = entries.reshape(shape[0], -1)
    return matrices


def _reverse_gradient(
    q: _Parameters, p: _Parameters, beta: float, reference_scale: float, tolerance: float
) -> tuple[Array, float]:
    """The derivatives of E_q[log q - beta log p - (1 - beta) log q0] in all parameters of q, and their error."""
    displaced, rewards = tuple(_complex_displacements(q)), [(beta, p)]
    if reference_scale < math.inf:
        origin, none = np.zeros((1, p.means.shape[1])), np.zeros((1, 0, 0))
        reference = _Parameters(origin, np.zeros(1), np.log([reference_scale]), none)
        rewards.append((1 - beta, reference))

    def sums(axes: Axes) -> Array:
        reward = np.sum([factor * _log_density(axes, density) for factor, density in rewards], axis=0)
        return np.array([np.sum(_integrand(axes, moved, reward)).imag / COMPLEX_STEP for moved in displaced])

    magnitude = (1 + sum(abs(factor) for factor, _ in rewards)) * _steepness(q)
    return _quadrature(sums, q, (q, *(density for _, density in rewards)), magnitude, tolerance)


def _forward_gradient(q: _Parameters, p: _Parameters, tolerance: float) -> tuple[Array, float]:
    """The derivatives of -E_p[log q] in all parameters of q, and their error."""
    displaced = tuple(_complex_displacements(q))

    def sums(axes: Axes) -> Array:
        density = np.exp(_log_density(axes, p))
        return np.array([-np.sum(density * _log_density(axes, moved).imag) / COMPLEX_STEP for moved in displaced])

    return _quadrature(sums, p, (q,), 2 * _steepness(q), tolerance)


def _steepness(q: _Parameters) -> float:
    """About the largest derivative of log q in a parameter, relative to what multiplies it: a power of 1 / scale."""
    power = 2 if q.covariances.size else 1
    return max(1.0, _narrowest(q) ** -power)


def _narrowest(q: _Parameters) -> float:
    """The smallest standard deviation of a component in any direction."""
    return math.sqrt(np.min(np.linalg.eigvalsh(q.full_covariances())))


def _checked(*mixtures: Mixture) -> tuple[_Parameters, ...]:
    parameters = []
    for mixture in mixtures:
        means, weights, scales = (np.asarray(a, dtype=float) for a in mixture[:3])
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
        covariances = _checked_covariances(mixture.covariances, *means.shape)
        parameters.append(_Parameters(means, np.log(weights), np.log(scales), covariances))
    if len({p.means.shape[1] for p in parameters}) != 1:
        raise ValueError("proposal and target differ in dimension")
    return tuple(parameters)


def _checked_covariances(covariances: ArrayLike | None, L: int, d: int) -> Array:
    if covariances is None:
        return np.zeros((L, 0, 0))
    matrices = np.asarray(covariances, dtype=float)
    inside = matrices.shape[-1] if matrices.ndim == 3 else 0
    if matrices.shape != (L, inside, inside) or not 1 <= inside <= d:
        raise ValueError(f"covariances need the shape ({L}, r, r) with r from 1 to {d}, not {matrices.shape}")
    asymmetry = np.abs(matrices - matrices.transpose(0, 2, 1))
    if not np.all(asymmetry <= 1e-12 * np.abs(matrices).max()) or not np.all(np.linalg.eigvalsh(matrices) > 0):
        raise ValueError("covariances must be finite, symmetric and positive definite")
    return matrices


def _complex_displacements(q: _Parameters) -> Iterator[_Parameters]:
    """Copies of q, each with one parameter moved by i * COMPLEX_STEP.

    The parameters come in the order of the means row by row, the logits, the log scales, and the entries of the
    covariances on and above the diagonal. An entry off the diagonal moves by half the step, together with its mirror
    image, so that the derivative is that entry of the symmetric gradient.
    """
    *free, covariances = q._asdict().items()
    for name, values in free:
        for index in np.ndindex(values.shape):
            moved = values.astype(complex)
            moved[index] += 1j * COMPLEX_STEP
            yield q._replace(**{name: moved})
    name, matrices = covariances
    for i in range(len(matrices)):
        for row, column in zip(*np.triu_indices(matrices.shape[1]), strict=True):
            moved = matrices.astype(complex)
            moved[i, row, column] += 0.5j * COMPLEX_STEP
            moved[i, column, row] += 0.5j * COMPLEX_STEP
            yield q._replace(**{name: moved})


def _log_weights(q: _Parameters) -> NDArray:
    shift = np.max(q.logits.real)
    return q.logits - shift - np.log(np.sum(np.exp(q.logits - shift)))


def _log_density(axes: Axes, q: _Parameters) -> NDArray:
    """log q on the product of the axes, each of which has a shape that broadcasts along its own direction."""
    dimension, inside = len(axes), q.covariances.shape[1]
    log_volumes = (dimension - inside) * q.log_scales + np.log(np.linalg.det(q.covariances)) / 2
    heights = _log_weights(q) - log_volumes - dimension * math.log(2 * math.pi) / 2
    half_precisions, half_inverses = np.exp(-2 * q.log_scales) / 2, np.linalg.inv(q.covariances) / 2
    terms = []
    for height, half_precision, half_inverse, mean in zip(
        heights, half_precisions, half_inverses, q.means, strict=True
    ):
        logit = height
        offsets = [x - center for x, center in zip(axes, mean, strict=True)]
        for offset in offsets[inside:]:
            logit = logit - half_precision * offset**2
        for offset, row in zip(offsets[:inside], half_inverse, strict=True):
            logit = logit - offset * sum(entry * other for entry, other in zip(row, offsets[:inside], strict=True))
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
    spread = reach * np.sqrt(np.diagonal(measure.full_covariances(), axis1=1, axis2=2))
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
    """The margin of the box around each mean, and an estimate of the integral outside the box.

    The margin is in standard deviations of each coordinate. The estimate is at most a tenth of the tolerance.
    """
    dimension = measure.means.shape[1]
    centers = np.concatenate([measure.means, *(m.means for m in mixtures)])
    span = float(np.linalg.norm(np.ptp(centers, axis=0)))
    widest = math.sqrt(np.max(np.linalg.eigvalsh(measure.full_covariances())))
    narrowest = min(_narrowest(m) for m in mixtures)
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
    error by exp(y^2 / (2 sigma^2) - 2 pi y / step) times the density below the contour, with sigma the deviation of the
    coordinate while the others are fixed. Where the others are not at their means, the density is smaller, but with
    covariances a zero may be nearer. `aside` is their distance from the means in standard deviations.
    """
    digits = math.log(10 / tolerance)
    offsets, aside = np.linspace(-reach, reach, 201), np.linspace(0, reach, 51)
    needed = np.maximum(digits - offsets[:, None] ** 2 / 2 - aside**2 / 2, 1.0)
    steps = []
    for axis in range(measure.means.shape[1]):
        allowed = []
        for center, covariance in zip(measure.means, measure.full_covariances(), strict=True):
            along = covariance[axis] / math.sqrt(covariance[axis, axis])
            rest = covariance - np.outer(along, along)
            scale = np.linalg.inv(covariance)[axis, axis] ** -0.5
            distance = scale * np.sqrt(2 * needed)
            for mixture in mixtures:
                points = center + offsets[:, None] * along
                distance = np.minimum(distance, _distance_to_zeros(points, rest, aside, mixture, axis))
            allowed.append(np.min(2 * np.pi * distance / (needed + distance**2 / (2 * scale**2))))
        steps.append(min(allowed))
    return np.array(steps)


def _distance_to_zeros(points: Array, rest: Array, aside: Array, mixture: _Parameters, axis: int) -> Array:
    """A lower bound, (points, aside), of the distance along one axis from real points to a complex zero of the mixture.

    At a zero two components cancel: their phases differ by pi, and their magnitudes agree. The phases' difference grows
    with the imaginary part, at a rate that is linear in the point. Without covariances the magnitudes give a second
    bound: with k the narrower component, log N_k - log N_j = curvature / 2 (radius^2 - |x - center|^2), and the
    magnitudes agree only on a sphere that grows into the complex plane.

    points: (points, d); around each of them the other coordinates have the covariance `rest`, (d, d), and stand up to
    `aside` standard deviations away.
    """
    inside = mixture.covariances.shape[1]
    precisions = np.linalg.inv(mixture.full_covariances())
    heights = _log_weights(mixture) + np.linalg.slogdet(precisions)[1] / 2
    slopes = np.einsum("lc,lc->l", precisions[:, axis], mixture.means)
    nearest = np.full((len(points), len(aside)), np.inf)
    for k, j in np.ndindex(len(heights), len(heights)):
        curvature = precisions[k, axis, axis] - precisions[j, axis, axis]
        if curvature < 0 or (curvature == 0 and k >= j):
            continue
        direction = precisions[k, axis] - precisions[j, axis]
        rate = np.abs(points @ direction - (slopes[k] - slopes[j]))[:, None]
        rate = rate + aside * math.sqrt(max(direction @ rest @ direction, 0.0))
        distance = np.pi / np.maximum(rate, 1e-300)
        if not inside and curvature >= 1e-6 * precisions[k, axis, axis]:
            apart = mixture.means[k] - mixture.means[j]
            narrow, wide = precisions[k, axis, axis], precisions[j, axis, axis]
            center = mixture.means[j, axis] + apart[axis] * narrow / curvature
            squared_radius = (2 * (heights[k] - heights[j]) + narrow * wide * (apart @ apart) / curvature) / curvature
            equal_magnitude = np.sqrt(np.maximum((points[:, axis] - center) ** 2 - squared_radius, 0.0))
            distance = np.maximum(distance, equal_magnitude[:, None])
        nearest = np.minimum(nearest, distance)
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
