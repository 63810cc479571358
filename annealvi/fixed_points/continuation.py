"""One side of a branch of fixed points, followed from a start, with the bifurcations and ends that it meets.

Everything that a step passes is located along that step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import brentq

from annealvi.fixed_points.curve_steps import PathPoint, advance
from annealvi.fixed_points.mean_flow import MeanFlow
from annealvi.fixed_points.search import LIGHTEST, SAME, distance
from annealvi.fixed_points.spectra import Spectrum, slowest_motion, spectrum_at
from derive.objects.parameters import WEIGHTS
from derive.objects.short_repr import short_repr

FIRST_STEP, SMALLEST_STEP, LARGEST_STEP = 0.02, 1e-7, 0.12
SHARPEST_TURN = 0.2
"""Largest angle between the tangents at both ends of a step."""
MOST_STEPS = 5000
LOCATED = 1e-11
"""Arclength to which a bifurcation is located."""
FLAT = 1e-5
"""A slope below this value has no known sign; it comes from differences of second order. Along a branch on which two
components of learned weights nearly coincide and exchange their weights, the temperature may be constant to this.
"""
BEFORE_THE_END = 0.98
"""Part of the last step up to which eigenvalues are compared, where a branch ends at an eigenvalue zero."""
BESIDE_THE_END = 0.03
"""Part of the asymmetry, left after a step, below which the branch ends there. The tangent is rounding so close to the
end.
"""
BROKEN = 1e-6
"""Relative difference of the overlaps from their images from which a symmetry counts as broken."""
SYMMETRIC = 1e-4
"""A quadratic term below this value, relative to the forces, counts as zero; the branch point is then a pitchfork."""


@dataclass(frozen=True)
class Bifurcation:
    """A bifurcation on a branch of fixed points.

    Attributes
    ----------
    kind : str
        "fold": two fixed points of one branch annihilate. "pitchfork": a symmetry breaks. "branch point": neither.
    temperature : float
        The temperature T = 1/β.
    state : ndarray
        Shape (states,). The overlaps, and learned weights and scales.
    images : ndarray
        Shape (G, states). What the problem's symmetries make of the state, itself first.
    across : bool
        Whether the eigenvalue that vanishes belongs to a motion orthogonal to the span of modes and means.
    """

    kind: str
    temperature: float
    state: np.ndarray
    images: np.ndarray
    across: bool

    __repr__ = short_repr

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "kind": self.kind,
            "T": self.temperature,
            "beta": 1 / self.temperature,
            "state": self.state,
            "across": self.across,
        }


@dataclass
class Arm:
    """One side of a branch, without its start.

    `crossings` holds (level of log T, place there). For `end` see `branches.Branch.ends`.
    """

    points: list[PathPoint] = field(default_factory=list)
    bifurcations: list[Bifurcation] = field(default_factory=list)
    crossings: list[tuple[float, np.ndarray]] = field(default_factory=list)
    end: str = "not followed"


class _StepFailedError(ArithmeticError):
    """The corrections did not converge at a point within a step, although they did at its end."""


def follow(flow: MeanFlow, start: PathPoint, levels: np.ndarray) -> Arm:
    """Follow the branch from its start along its tangent.

    The arm ends at the first or last of the ascending levels of log T, or where the branch ends before.
    """
    arm = Arm()
    here, length = start, FIRST_STEP
    spectrum = spectrum_at(flow, here.beta, here.place)
    for _ in range(MOST_STEPS):
        there = advance(flow, here, length)
        if there is None or _turn(here, there) > SHARPEST_TURN:
            length /= 2
            if length < SMALLEST_STEP:
                return arm
            continue
        try:
            last, end = _first_end(flow, here, there, length, levels)
            if end == "pitchfork":
                with suppress(_StepFailedError):
                    _meet(flow, arm, here, spectrum, BEFORE_THE_END * last, levels)
            elif last > 0:
                spectrum = _meet(flow, arm, here, spectrum, last, levels)
        except _StepFailedError:
            return arm
        if end == "range":
            arm.crossings += [
                (float(level), p.place) for level in levels for p in arm.points[-1:] if abs(p.log_t - level) < LOCATED
            ]
        elif any(
            level == start.log_t and distance(flow, place, start.place) < 10 * SAME for level, place in arm.crossings
        ):
            end = "closed"
        if end:
            arm.end = end
            return arm
        here = there
        length = min(LARGEST_STEP, length * (1.5 if here.corrections <= 3 else 0.8))
    return arm


def _first_end(
    flow: MeanFlow, here: PathPoint, there: PathPoint, length: float, levels: np.ndarray
) -> tuple[float, str]:
    """Return how much of the step lies before the branch's end, and which end it is; "" where the branch goes on."""
    ends = []
    for edge, outward in ((levels[0], -1), (levels[-1], 1)):
        if outward * (there.log_t - edge) > 0:
            ends.append((_located(flow, here, length, _above(edge)), "range"))
    if WEIGHTS in flow.learned and _lightest(flow)(there) < 0:
        ends.append((_located(flow, here, length, _lightest(flow)), "dying"))
    for part in (_least_part, _asymmetry):
        before, after = part(flow, here, here), part(flow, here, there)
        # The curve is singular where it meets its mirror image, so the end is interpolated, not located.
        if after < BESIDE_THE_END * before:
            ends.append((length * before / (before - after), "pitchfork"))
    return min(ends, default=(length, ""))


def _meet(flow: MeanFlow, arm: Arm, here: PathPoint, spectrum: Spectrum, length: float, levels: np.ndarray) -> Spectrum:
    """Record the point at `length` and everything that lies before it; return the spectrum there."""
    there = _within(flow, here, length)
    reached = spectrum_at(flow, there.beta, there.place)
    met: list[tuple[float, str, bool]] = []
    near = 1e-4
    if here.slope * there.slope < 0 and max(abs(here.slope), abs(there.slope)) > FLAT:
        met.append((_located(flow, here, length, lambda p: p.slope), "fold", False))
        near = max(near, FLAT / abs(here.slope - there.slope))
    known = max(spectrum.resolution, reached.resolution)
    for name in ("within", "across"):
        before, after = getattr(spectrum, name), getattr(reached, name)
        for k in np.flatnonzero((before * after < 0) & (np.maximum(np.abs(before), np.abs(after)) > known)):
            place = _located(flow, here, length, _eigenvalue(flow, name, int(k)))
            if not any(abs(place - other) < near * length for other, _, across in met if across == (name == "across")):
                met.append((place, "", name == "across"))
    for place, kind, across in sorted(met):
        point = _within(flow, here, place)
        arm.bifurcations.append(_bifurcation(flow, kind or _kind(flow, point, across), point, across))
    for level in levels:
        if (here.log_t - level) * (there.log_t - level) < 0:
            place = _located(flow, here, length, _above(level))
            arm.crossings.append((float(level), _within(flow, here, place).place))
    arm.points.append(there)
    return reached


def _bifurcation(flow: MeanFlow, kind: str, point: PathPoint, across: bool) -> Bifurcation:
    images = flow.states(flow.images(point.place))
    return Bifurcation(kind, math.exp(point.log_t), images[0], images, across)


def _kind(flow: MeanFlow, point: PathPoint, across: bool) -> str:
    """Return the kind of a branch point with a vanishing eigenvalue.

    It is a pitchfork if nothing distinguishes the two directions of the vanishing motion. Across the span this is
    always so.
    """
    if across:
        return "pitchfork"
    basis = flow.basis(point.place)
    motion = slowest_motion(flow, point.beta, point.place)
    angle = 0.1 * flow.angle
    moves = angle * flow.units(basis.shape[-1]).ravel() * motion
    ends = np.stack([flow.moved(point.place, basis, sign * moves) for sign in (1, -1)])
    speeds = np.einsum("inm,sin->sim", basis, flow.velocity(point.beta, ends)).reshape(2, -1) @ motion
    strength = float(flow.strength(point.beta, point.place[None])[0])
    return "pitchfork" if abs(speeds.sum()) / angle**2 < SYMMETRIC * strength else "branch point"


def _located(flow: MeanFlow, here: PathPoint, length: float, function: Callable[[PathPoint], float]) -> float:
    """Return where along the step a function of the point is zero; its signs at the step's ends differ."""
    return float(brentq(lambda h: function(_within(flow, here, h)), 0.0, length, xtol=LOCATED, rtol=1e-12))


def _above(level: float) -> Callable[[PathPoint], float]:
    return lambda point: point.log_t - level


def _lightest(flow: MeanFlow) -> Callable[[PathPoint], float]:
    return lambda point: float(flow.log_weights(point.place[None]).min()) - math.log(LIGHTEST)


def _eigenvalue(flow: MeanFlow, name: str, k: int) -> Callable[[PathPoint], float]:
    return lambda point: getattr(spectrum_at(flow, point.beta, point.place), name)[k]


def _within(flow: MeanFlow, here: PathPoint, length: float) -> PathPoint:
    if length == 0:
        return here
    found = advance(flow, here, length)
    if found is None:
        raise _StepFailedError
    return found


def _least_part(flow: MeanFlow, here: PathPoint, there: PathPoint) -> float:
    """Return the smallest singular value of the means' orthogonal parts `here`, followed to `there` with its sign."""
    q = flow.unturned
    if here.place.shape[1] == q:
        return 1.0
    left, _, right = np.linalg.svd(here.place[:, q:] / flow.radii[:, None], full_matrices=False)
    return float(left[:, -1] @ (there.place[:, q:] / flow.radii[:, None]) @ right[-1])


def _asymmetry(flow: MeanFlow, here: PathPoint, there: PathPoint) -> float:
    """Return how far the overlaps differ from their images under the problem's symmetries.

    The difference is taken `here` and followed to `there` with its sign; the result is the least over broken
    symmetries.
    """
    before, after = (flow.states(flow.images(p.place)) for p in (here, there))
    off, still_off = before[0] - before[1:], after[0] - after[1:]
    lengths = np.linalg.norm(off, axis=1)
    broken = lengths > BROKEN * np.linalg.norm(before[0])
    parts = np.sum(off[broken] * still_off[broken], axis=1) / lengths[broken]
    return float(parts.min(initial=1.0))


def _turn(here: PathPoint, there: PathPoint) -> float:
    """Return the angle between two tangents, up to the turn of the means' own tangent spaces."""
    cosine = np.sum(here.direction * there.direction) + here.slope * there.slope
    return math.acos(min(1.0, max(-1.0, float(cosine))))
