"""Warnings about a target whose modes cannot be told apart, or are too light to be resolved.

Two modes cannot be told apart where they make one maximum of the density. Such a problem is computed all the same. The
warnings stand beside the result, so that nobody reads more into it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from annealvi.sweeps.axis import Axis, Choices
from annealvi.sweeps.keys import in_words, vary
from derive.problem.specification import BadInput, Problem

LIGHTEST = 1e-6
"""Modes of a smaller weight are not resolved. The flow descends the KL divergence, and a proposal that misses a mode of
weight w is within −log(1 − w) ≈ w of the target. The averages behind maps and recommendations are computed to 1e-6, and
a million perfect samples hold one sample of a mode of this weight."""

MOST_POINTS = 2000
"""Most points of a sweep at which the target is examined."""


def warnings_of(problem: Problem, samples: int | None = None) -> tuple[str, ...]:
    """The warnings about a target's modes, a line each.

    samples: how many samples a trained flow is judged by; None where no flow is trained.
    """
    weights = problem.target.weights
    lines = [
        f"modes {', '.join(str(k + 1) for k in group)} make one maximum of the target's density along "
        f"the line between them: they are "
        "one mode to any sampler, whatever is said of one that is missed"
        for group in _groups_of_one(problem)
    ]
    for k, w in enumerate(weights, 1):
        if w < LIGHTEST:
            lines.append(
                f"mode {k} has the weight {w:.3g}, below the resolution of {LIGHTEST:g}: to miss it "
                f"changes nothing measurable"
            )
        elif samples is not None and w * samples < 1:
            lines.append(
                f"mode {k} has the weight {w:.3g}: of the {samples} samples of a judgement less "
                f"than one is expected there"
            )
    return tuple(lines)


def warnings_over(problem: Problem, axes: Sequence[Axis | Choices], samples: int | None = None) -> tuple[str, ...]:
    """The warnings over a sweep: those of the first point that has any, with the number of points that have some.

    At most MOST_POINTS are examined: equally many evenly spaced values of each axis that concerns the target.
    """
    concerned = [axis for axis in axes if axis.key in ("R", "w_star") or axis.key.startswith("target")]
    if not concerned:
        return warnings_of(problem, samples)
    most = int(MOST_POINTS ** (1 / len(concerned)))
    settings = [[{axis.key: value} for value in _some(axis.settings, most)] for axis in concerned]
    points: list[Mapping[str, Any]] = [
        {k: v for one in chosen for k, v in one.items()} for chosen in itertools.product(*settings)
    ]
    said = [(point, lines) for point in points if (lines := _warnings_at(problem, point, samples))]
    if not said:
        return ()
    point, lines = said[0]
    return tuple(f"at {len(said)} of {len(points)} points, such as {in_words(point)}: {line}" for line in lines)


def maxima_between(weights: tuple[float, float], scales: tuple[float, float], distance: float) -> int:
    """Count the maxima of a mixture of two Gaussians along the line through their means: 1 or 2, exactly.

    The density is that of the coordinate along the line. For equal scales its maxima are those of the mixture's density
    in any dimension, which all lie on the line (Carreira-Perpiñán and Williams 2003; Ray and Lindsay, Annals of
    Statistics 33, 2005). For unequal scales in many dimensions the mixture's own density would compare volumes σ^d,
    which do not say where samples are; the density of the coordinate has no such factors.

    At the fraction x of the way between the means, the slope of the density has the sign of S(x) = log(w_2 φ_2/w_1 φ_1)
    + log((1 − x)/x) − log(σ_2²/σ_1²), which falls from +∞ to −∞. The derivative S' vanishes at roots of a cubic, and S
    is monotone between them, so the signs of S at the roots tell how often S falls through zero.
    """
    (w_1, w_2), (s_1, s_2) = weights, (scales[0] / distance, scales[1] / distance)  # lengths in units of the distance
    rising, bend = 1 / s_2**2, 1 / s_1**2 - 1 / s_2**2  # log(φ_2/φ_1) has the slope rising + bend x
    turns = np.roots([-bend, bend - rising, rising, -1])  # (rising + bend x) x (1 − x) = 1

    def slope(x: float) -> float:
        ratio = math.log(w_2 / w_1) - math.log(s_2 / s_1) - ((1 - x) / s_2) ** 2 / 2 + (x / s_1) ** 2 / 2
        return ratio + math.log((1 - x) / x) - 2 * math.log(s_2 / s_1)

    real = sorted(float(x.real) for x in turns if abs(x.imag) < 1e-9 and 0 < x.real < 1)
    signs = [1.0, *(math.copysign(1.0, slope(x)) for x in real), -1.0]
    return sum(1 for one, other in itertools.pairwise(signs) if one > other)


def _groups_of_one(problem: Problem) -> list[list[int]]:
    """Groups of two or more modes that make one maximum, linked by pairs of which each alone makes one maximum."""
    target = problem.target
    means = np.array(problem.modes)
    group = list(range(len(means)))
    for i, j in itertools.combinations(range(len(means)), 2):
        distance = float(np.linalg.norm(means[i] - means[j]))
        if distance == 0 and target.covariances:
            continue  # modes at one place that differ in their shapes
        weights = target.weights[i], target.weights[j]
        if distance == 0 or maxima_between(weights, _scales_along(problem, i, j), distance) == 1:
            group = [group[i] if g == group[j] else g for g in group]
    return [members for g in dict.fromkeys(group) if len(members := [k for k, own in enumerate(group) if own == g]) > 1]


def _scales_along(problem: Problem, i: int, j: int) -> tuple[float, float]:
    """The standard deviations of two modes along the line through their means."""
    target = problem.target
    if not target.covariances:
        return target.scales[i], target.scales[j]
    line = np.subtract(problem.modes[i], problem.modes[j])
    line /= np.linalg.norm(line)
    first, second = (math.sqrt(line @ np.array(target.covariances[k]) @ line) for k in (i, j))
    return first, second


def _warnings_at(problem: Problem, point: Mapping[str, Any], samples: int | None) -> tuple[str, ...]:
    try:
        return warnings_of(vary(problem, point), samples)
    except BadInput:
        return ()  # the sweep itself refuses the point


def _some(values: Sequence[Any], most: int) -> list[Any]:
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int))
    return [values[int(n)] for n in places]
