"""The built-in problems: the study's own, and one for each direction in which the theory extends beyond it."""

from __future__ import annotations

import math

from derive.problem.specification import Flow, Problem, Proposal, ScheduleSpec, Space, Target

RADIUS = 3.0


def _on_circle(count: int) -> tuple[tuple[float, float], ...]:
    """Means at equal angles on the circle of RADIUS."""
    angles = [2 * math.pi * k / count for k in range(count)]
    return tuple((round(RADIUS * math.cos(a), 12) + 0.0, round(RADIUS * math.sin(a), 12) + 0.0) for a in angles)


def _slips(dimension: int) -> Problem:
    """The bimodal benchmark of the SLIPS sampler.

    Its means are −1 + 1/3 and 1 + 1/3 in every coordinate, its covariances 0.05 I, its weights 2/3 and 1/3. Here the
    diagonal (1, …, 1) is the first coordinate. Source: h2o64/slips, experiments/two_modes_utils.py, a = 1.
    """
    diagonal, scale = math.sqrt(dimension), math.sqrt(0.05)
    return Problem(
        f"slips-{dimension}",
        Target((2 / 3, 1 / 3), ((-2 / 3 * diagonal,), (4 / 3 * diagonal,)), (scale, scale)),
        Proposal((0.5, 0.5), (scale, scale), 2 / 3 * diagonal),
        Flow("euclidean"),
        ScheduleSpec("exponential", 300.0, 10.0),
        Space(dimension),
    )


def _elongated(angle: float) -> tuple[tuple[float, ...], ...]:
    """The covariance diag(4, 0.25), turned by an angle in degrees."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    across = round((4 - 0.25) * c * s, 12)
    return ((round(4 * c * c + 0.25 * s * s, 12), across), (across, round(4 * s * s + 0.25 * c * c, 12)))


def _learned_scales() -> Problem:
    """Learned scales in 16 dimensions and on a short schedule.

    The scales' flow has rates of about 2 d w_i, so the equations are stiff in many dimensions.
    """
    return Problem(
        "learned-scales",
        proposal=Proposal(scales=(1.2, 0.9)),
        flow=Flow(learn=("means", "scales")),
        schedule=ScheduleSpec("exponential", 30.0, 100.0),
        space=Space(16),
    )


_PROBLEMS = (
    Problem(),
    Problem("simplex", Target((0.5, 0.3, 0.2), _on_circle(3), (1.0,) * 3), Proposal((1 / 3,) * 3, (1.0,) * 3)),
    Problem("square", Target((0.4, 0.3, 0.2, 0.1), _on_circle(4), (1.0,) * 4), Proposal((0.25,) * 4, (1.0,) * 4)),
    Problem("two-scales", Target(scales=(1.0, 0.9)), Proposal(scales=(1.0, 0.9))),
    Problem("learned-weights", flow=Flow(learn=("means", "weights"))),
    _learned_scales(),
    Problem("more-components", proposal=Proposal((0.4, 0.3, 0.3), (1.0,) * 3)),
    Problem("one-component", proposal=Proposal((1.0,), (1.0,))),
    *map(_slips, (8, 16, 32, 64, 128)),
    Problem("elongated", Target(means=((3, 0), (-3, 0)), covariances=(_elongated(15), _elongated(-15)))),
    Problem("full-covariance", flow=Flow(learn=("means", "covariances"))),
    Problem(
        "cross",
        Target((0.5, 0.5), ((0,), (0,)), covariances=(_elongated(45), _elongated(-45))),
        flow=Flow("euclidean", ("means", "covariances")),
        schedule=ScheduleSpec("exponential", 30.0, 100.0),
    ),
)

BUILT_IN: dict[str, Problem] = {problem.name: problem for problem in _PROBLEMS}
"""Every built-in problem by its name."""
