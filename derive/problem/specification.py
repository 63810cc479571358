"""What a run is about: a target mixture, a proposal mixture, a flow, a schedule. Frozen values, checked when made.

`Problem()` is the study's bimodal case: K = L = 2 unit-scale Gaussians at distance R = 3 from the origin, target
weights 0.8 and 0.2, in 128 dimensions, annealed exponentially. Every field may be given as any sequence of numbers
(lists, tuples, arrays) and is kept as a tuple of floats. Whatever is wrong raises `BadInput`, one line that names the
key and a remedy.
"""

from __future__ import annotations

import math
import numbers
import os
import re
import reprlib
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar

from derive.objects.short_repr import short_repr
from derive.problem.kinds import KINDS, names_of_kinds
from derive.problem.points_file import MOST_POINTS, BadPointsError, read_points
from derive.problem.scope import outside

SCHEDULE_KINDS = names_of_kinds(lambda kind: not kind.adaptive)
"""The kinds whose temperature is a function of time."""
ADAPTIVE_KINDS = names_of_kinds(lambda kind: kind.adaptive)
"""The kinds that are rules: they raise beta by what the proposal has become, and have no formula in t."""

MANIFOLDS = ("sphere", "euclidean")
LEARNABLE = ("means", "weights", "scales")
LAWS = ("uniform-sphere",)

LONGEST_NAME = 80
MOST_COMPONENTS = 64
MOST_PASTED = 16
MOST_DIMENSIONS = 10**9
SUM_TOLERANCE = 1e-9
LARGEST = 1e100  # squares and ratios of admitted numbers stay finite in double precision
SMALLEST = 1e-100


class BadInput(ValueError):  # noqa: N818
    """A mistake in what the user gave. `str` is one line: source, key, what was found, what to do.

    key: empty, or "problem", for the whole of what is in the source.
    """

    exit_status: ClassVar[int] = 2
    """The exit status with which the command line ends after this error."""

    def __init__(self, key: str, found: str, remedy: str, source: str = "problem") -> None:
        key = "" if key == "problem" else key
        super().__init__(key, found, remedy, source)
        self.key, self.found, self.remedy, self.source = key, found, remedy, source

    def __str__(self) -> str:
        return one_line(": ".join(part for part in (self.source, self.key, f"{self.found}; {self.remedy}") if part))

    def at(self, source: str) -> BadInput:
        """The same mistake, said to be in `source` (a file's name, say)."""
        return BadInput(self.key, self.found, self.remedy, source)


def one_line(text: str) -> str:
    """`text` with everything unprintable escaped, so that it is one line on any terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: Any) -> str:
    """A short form of `value` for a message, however large it is."""
    try:
        return one_line(_SHORT.repr(value))
    except ValueError:  # an integer of more digits than Python converts
        return "a number of thousands of digits"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


@dataclass(frozen=True)
class Target:
    """p*(x) = sum_k weights[k] N(x; means[k], scales[k]^2 I), K components.

    weights: K positive numbers that sum to one within 1e-9. means: K lists of coordinates in R^r, each padded with
    zeros to the dimension of the space, so lists may differ in length. Trailing
        coordinates that are zero in every mean are dropped (one is always kept), so r never counts mere padding.
    scales: K positive standard deviations.

    Two components with the same mean and scale are refused: they are one component, and "the modes found" would be
    undefined.
    """

    weights: tuple[float, ...] = (0.8, 0.2)
    means: tuple[tuple[float, ...], ...] = ((3.0,), (-3.0,))
    scales: tuple[float, ...] = (1.0, 1.0)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        weights = _mixture_weights("target.weights", self.weights)
        count = f"as many as target.weights, {len(weights)}"
        means = _padded_alike(_mean_vectors("target.means", self.means))
        _require_length("target.means", means, len(weights), count)
        scales = _positives("target.scales", self.scales)
        _require_length("target.scales", scales, len(weights), count)
        _require_distinct_modes(means, scales)
        _keep(self, weights=weights, means=means, scales=scales)

    @property
    def coordinates(self) -> int:
        """r, the number of coordinates of each mean: at least the dimension of the means' span."""
        return len(self.means[0])


@dataclass(frozen=True)
class Proposal:
    """q(x) = sum_i weights[i] N(x; a_i, scales[i]^2 I), L components, with ||a_i|| = radius at the start.

    weights: L positive numbers that sum to one within 1e-9. scales: L positive standard deviations.
    radius: positive, one number for all components or a list of L.
    """

    weights: tuple[float, ...] = (0.5, 0.5)
    scales: tuple[float, ...] = (1.0, 1.0)
    radius: float | tuple[float, ...] = 3.0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        weights = _mixture_weights("proposal.weights", self.weights)
        scales = _positives("proposal.scales", self.scales)
        _require_length("proposal.scales", scales, len(weights), f"as many as proposal.weights, {len(weights)}")
        if isinstance(self.radius, Collection) and not isinstance(self.radius, str | bytes):
            radius: float | tuple[float, ...] = _positives("proposal.radius", self.radius)
            _require_length(
                "proposal.radius",
                self.radius,
                len(weights),
                f"one number, or as many as proposal.weights, {len(weights)}",
            )
        else:
            radius = _positive("proposal.radius", self.radius)
        _keep(self, weights=weights, scales=scales, radius=radius)

    @property
    def radii(self) -> tuple[float, ...]:
        """The L components' radii."""
        return self.radius if isinstance(self.radius, tuple) else (self.radius,) * len(self.weights)


@dataclass(frozen=True)
class Flow:
    """The gradient flow. manifold: "sphere" keeps every ||a_i||, "euclidean" does not.

    learn: what moves, some of "means", "weights", "scales"; kept in this order without regard to the order given.
    """

    manifold: str = "sphere"
    learn: tuple[str, ...] = ("means",)

    def __post_init__(self) -> None:
        manifold = _one_of("flow.manifold", self.manifold, MANIFOLDS)
        given = _sequence("flow.learn", self.learn, 'write a list such as ["means"]', len(LEARNABLE))
        chosen = [_one_of(f"flow.learn[{i}]", item, LEARNABLE) for i, item in enumerate(given)]
        if not chosen:
            raise BadInput("flow.learn", "nothing is learned", f"name at least one of {', '.join(LEARNABLE)}")
        if len(set(chosen)) < len(chosen):
            raise BadInput("flow.learn", f"{shown(chosen)} names one thing twice", "name each once")
        _keep(self, manifold=manifold, learn=tuple(item for item in LEARNABLE if item in chosen))


DETAILS = {key: kind.name for kind in KINDS.values() for key in kind.own_keys}
"""The keys of a schedule that belong to one kind alone, each with its kind."""
NEEDED = {kind.name: (kind.own_keys, kind.needs) for kind in KINDS.values() if kind.needs is not None}
"""For each kind that needs one of its own keys: those keys, and an example of the first."""
FROM_INFINITY = names_of_kinds(lambda kind: kind.starts_at_zero_beta)
"""The kinds whose formula has a meaning for T0 = inf, where beta begins at 0."""


@dataclass(frozen=True)
class ScheduleSpec:
    """The temperature's course as the user states it; `derive.problem.schedules` gives it its formula.

    kind: one of `SCHEDULE_KINDS` or `ADAPTIVE_KINDS`; "geometric" is cooling by equal factors, not the path q0^(1-beta)
    p^beta. T0: the temperature at t = 0, at least 1; inf (beta = 0) for a kind of `FROM_INFINITY`. t0: the time scale,
    positive, in the flow's time; of an adaptive kind the time between adjustments. points: for "table" alone, 2 to 10
    000 pairs (t, T): t from 0 and ascending, two at one time for a jump, T positive and 1 at the last;
        or the name of a file of two columns, which is read at once (`derive.problem.points_file`).
    expression: for "expression" alone, T as plain mathematics in t, T0 and t0; read by
    `derive.problem.schedules.make_schedule`. beta_expression: in its place, beta = 1/T likewise. tau: for "adaann"
    alone, positive, 0.05 unless given: beta grows by tau/sqrt(Var_q[log p*]). level: for "ess" alone, between 0 and 1,
    0.9 unless given: beta grows as far as the relative effective sample size stays above it.
    """

    kind: str = "exponential"
    T0: float = 300.0
    t0: float = 1152.0
    points: tuple[tuple[float, float], ...] = ()
    expression: str = ""
    beta_expression: str = ""
    tau: float | None = None
    level: float | None = None

    __repr__ = short_repr

    def __post_init__(self) -> None:
        kind = _one_of("schedule.kind", self.kind, (*SCHEDULE_KINDS, *ADAPTIVE_KINDS))
        T0 = _start_temperature(kind, self.T0)
        for key in NEEDED["expression"][0]:
            if not isinstance(getattr(self, key), str):
                raise BadInput(
                    f"schedule.{key}",
                    f"{shown(getattr(self, key))} is not text",
                    'write it in quotes: "1 + 299*exp(-t/100)"',
                )
        points = _table_points("schedule.points", self.points)
        given = [key for key in DETAILS if (points if key == "points" else getattr(self, key)) not in ((), "", None)]
        for key in given:
            if kind != DETAILS[key]:
                remedy = f'set schedule.kind = "{DETAILS[key]}" or leave it out'
                raise BadInput(f"schedule.{key}", f"schedule.kind {kind!r} has no use for it", remedy)
        choices, example = NEEDED.get(kind, ((), ""))
        found = [key for key in choices if key in given]
        if choices and not found:
            others = "".join(f", or schedule.{key}" for key in choices[1:])
            raise BadInput(
                f"schedule.{choices[0]}",
                f"schedule.kind {kind!r} needs it",
                f"give schedule.{choices[0]} = {example}, say{others}",
            )
        if len(found) > 1:
            raise BadInput(f"schedule.{found[1]}", f"schedule.{found[0]} is given too", "leave one of them out")
        tau = _positive("schedule.tau", 0.05 if self.tau is None else self.tau) if kind == "adaann" else None
        level = _positive("schedule.level", 0.9 if self.level is None else self.level) if kind == "ess" else None
        if level is not None and level >= 1:
            raise BadInput("schedule.level", f"{level} is not below 1", "give a number between 0 and 1, such as 0.9")
        _keep(self, kind=kind, T0=T0, t0=_positive("schedule.t0", self.t0), points=points, tau=tau, level=level)


@dataclass(frozen=True)
class Space:
    """The space of x: R^dimension, 1 <= dimension <= 10^9."""

    dimension: int = 128

    def __post_init__(self) -> None:
        key, d = "space.dimension", self.dimension
        if isinstance(d, bool) or not isinstance(d, numbers.Integral):
            raise BadInput(key, f"{shown(d)} is not an integer", "write a whole number without a point, such as 128")
        if d < 1:
            raise BadInput(key, f"{shown(d)} is below 1", "give at least one dimension")
        if d > MOST_DIMENSIONS:
            raise BadInput(key, f"{shown(d)} is above 10^9", "give at most 10^9; the theory hardly changes beyond")
        _keep(self, dimension=int(d))


@dataclass(frozen=True)
class Init:
    """The law of the proposal's means at t = 0; "uniform-sphere": independent and uniform on the sphere of `radius`."""

    law: str = "uniform-sphere"

    def __post_init__(self) -> None:
        _one_of("init.law", self.law, LAWS)


@dataclass(frozen=True)
class Problem:
    """Everything one run needs. The defaults are the study's bimodal case.

    The means are placed by padding them with zeros, so `space.dimension` must be at least the coordinates they use.
    That implies the theory's own condition, a dimension no smaller than the rank of the span.

    name: for titles, labels and files. Without one, the study's own mixtures and flow are "bimodal" and others
    "unnamed".
    """

    name: str = ""
    target: Target = field(default_factory=Target)
    proposal: Proposal = field(default_factory=Proposal)
    flow: Flow = field(default_factory=Flow)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    space: Space = field(default_factory=Space)
    init: Init = field(default_factory=Init)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for key, kind in (
            ("target", Target),
            ("proposal", Proposal),
            ("flow", Flow),
            ("schedule", ScheduleSpec),
            ("space", Space),
            ("init", Init),
        ):
            if not isinstance(getattr(self, key), kind):
                raise BadInput(
                    key,
                    f"{shown(getattr(self, key))} is no {kind.__name__}",
                    f"make one by annealvi.{kind.__name__}(...)",
                )
        if self.name == "":
            own = (self.target, self.proposal, self.flow) == (Target(), Proposal(), Flow())
            _keep(self, name="bimodal" if own else "unnamed")
        require_name("name", self.name)
        d, r = self.space.dimension, self.target.coordinates
        if d < r:
            raise BadInput(
                "space.dimension",
                f"{d} is smaller than the {r} coordinates that target.means use",
                f"give at least {r}, or rotate the means into fewer coordinates",
            )


def _keep(instance: object, **values: object) -> None:
    """Store checked values in a frozen instance that is being made."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def without_axes(value: Any) -> Any:
    """The number in an array of no axes; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _real(key: str, value: Any) -> float:
    value = without_axes(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise BadInput(key, f"{shown(value)} is not a number", "write a number such as 1.0")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= LARGEST:
        raise BadInput(
            key, f"{shown(value)} is not finite or too large", f"write a number of magnitude at most {LARGEST:g}"
        )
    return number


def _positive(key: str, value: Any) -> float:
    number = _real(key, value)
    if number <= 0:
        raise BadInput(key, f"{number} is not positive", "write a number above zero")
    if number < SMALLEST:
        raise BadInput(key, f"{number} is too small", f"write a number of at least {SMALLEST:g}")
    return number


def _sequence(key: str, value: Any, remedy: str, most: int) -> tuple[Any, ...]:
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping | Set):
        raise BadInput(key, f"{shown(value)} is not a list", remedy)
    if len(value) > most:
        raise BadInput(key, f"{len(value)} entries", f"give at most {most}")
    return tuple(value)


def _positives(key: str, value: Any) -> tuple[float, ...]:
    entries = _sequence(key, value, "write a list of numbers such as [1.0, 1.0]", MOST_COMPONENTS)
    return tuple(_positive(f"{key}[{i}]", x) for i, x in enumerate(entries))


def _mixture_weights(key: str, value: Any) -> tuple[float, ...]:
    weights = _positives(key, value)
    if not weights:
        raise BadInput(key, "a mixture without components", "give at least one weight")
    total = math.fsum(weights)
    if abs(total - 1) > SUM_TOLERANCE:
        raise BadInput(
            key,
            f"the weights sum to {total:.12g}",
            f"make them sum to one within {SUM_TOLERANCE:g}{_normalised(weights, total)}",
        )
    return weights


def _normalised(weights: tuple[float, ...], total: float) -> str:
    """The weights divided by their sum, to be pasted; of many, what to divide by, since a message is one line."""
    shares = [w / total for w in weights]
    if len(shares) > MOST_PASTED or min(shares) < SMALLEST:
        return f": divide each by {total!r}"
    return f", such as [{', '.join(map(repr, shares))}]"


def _mean_vectors(key: str, value: Any) -> tuple[tuple[float, ...], ...]:
    remedy = "write one list of coordinates per component, such as [[3.0], [-3.0]]"
    rows = [
        _sequence(f"{key}[{k}]", row, remedy, MOST_DIMENSIONS)
        for k, row in enumerate(_sequence(key, value, remedy, MOST_COMPONENTS))
    ]
    for k, row in enumerate(rows):
        if not row:
            raise BadInput(f"{key}[{k}]", "a mean without coordinates", "give at least one coordinate")
    return tuple(tuple(_real(f"{key}[{k}][{j}]", x) for j, x in enumerate(row)) for k, row in enumerate(rows))


def _padded_alike(means: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """All means with as many coordinates as the last one that is not zero takes, and one at least."""
    used = max((j for row in means for j, x in enumerate(row, start=1) if x != 0), default=1)
    return tuple((*row[:used], *[0.0] * (used - len(row))) for row in means)


def _start_temperature(kind: str, value: Any) -> float:
    key = "schedule.T0"
    if isinstance(value, numbers.Real) and value == math.inf:
        if kind in FROM_INFINITY:
            return math.inf
        remedy = f"give a number, or one of the kinds {', '.join(FROM_INFINITY)}"
        raise BadInput(key, f"the formula of schedule.kind {kind!r} has no meaning for inf", remedy)
    T0 = _real(key, value)
    if T0 < 1:
        remedy = 'give a temperature of at least 1; kinds "table" and "expression" may be colder than 1 on the way'
        raise BadInput(key, f"{T0} is below 1", remedy)
    return T0


def _table_points(key: str, value: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, str | os.PathLike):
        return _checked_points(key, value)
    if not os.fspath(value):
        return ()
    try:
        points, places = read_points(value)
    except BadPointsError as mistake:
        raise BadInput(key, mistake.found, mistake.remedy) from None
    try:
        return _checked_points(key, points)
    except BadInput as mistake:
        entry = re.match(r".*?\[([0-9]+)\]", mistake.key)
        place = places[int(entry[1])] if entry else os.fsdecode(value)
        raise BadInput(key, f"{place}: {mistake.found}", mistake.remedy) from None


def _checked_points(key: str, value: Any) -> tuple[tuple[float, float], ...]:
    remedy = (
        "write a list of pairs [time, temperature] such as [[0, 300], [1000, 1]], or the name of a file of two columns"
    )
    points: list[tuple[float, float]] = []
    for i, entry in enumerate(_sequence(key, value, remedy, MOST_POINTS)):
        pair = _sequence(f"{key}[{i}]", entry, remedy, 2)
        if len(pair) != 2:
            raise BadInput(f"{key}[{i}]", f"{len(pair)} entries", remedy)
        if pair[1] == math.inf:
            finite = 'give a finite temperature, or schedule.kind = "beta-linear" with T0 = inf'
            raise BadInput(f"{key}[{i}]", "log T is linear between points, and inf has none", finite)
        time, temperature = (_real(f"{key}[{i}][{j}]", x) for j, x in enumerate(pair))
        if i == 0 and time != 0:
            raise BadInput(f"{key}[0]", f"the first time is {time}", "begin at time 0")
        if points and time < points[-1][0]:
            raise BadInput(f"{key}[{i}]", f"time {time} does not come after {points[-1][0]}", "give ascending times")
        if len(points) > 1 and time == points[-2][0]:
            raise BadInput(f"{key}[{i}]", f"a third point at time {time}", "give at most two, before and after a jump")
        points.append((time, _positive(f"{key}[{i}][1]", temperature)))
    if len(points) == 1:
        raise BadInput(key, "one point", "give at least two")
    if points and points[-1][1] != 1:
        raise BadInput(key, f"the last temperature is {points[-1][1]}", "end at temperature 1")
    return tuple(points)


def _one_of(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        found, remedy = f"{shown(value)} is unknown", f"choose one of {', '.join(allowed)}"
        if isinstance(value, str) and (known := outside(f"{key}={value}")):
            found, remedy = f"{shown(value)}: {known[0]}", known[1]
        raise BadInput(key, found, remedy)
    return value


def _require_length(key: str, entries: Collection[Any], wanted: int, reason: str) -> None:
    if len(entries) != wanted:
        raise BadInput(key, f"{len(entries)} entries", f"give {reason}")


def _require_distinct_modes(means: tuple[tuple[float, ...], ...], scales: tuple[float, ...]) -> None:
    seen: dict[tuple[tuple[float, ...], float], int] = {}
    for k, mode in enumerate(zip(means, scales, strict=True)):
        if mode in seen:
            remedy = "merge them into one, adding their weights"
            raise BadInput(f"target.means[{k}]", f"the same mean and scale as target.means[{seen[mode]}]", remedy)
        seen[mode] = k


def require_name(key: str, name: Any) -> None:
    if not isinstance(name, str):
        raise BadInput(key, f"{shown(name)} is not text", 'write it in quotes, such as "bimodal"')
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or set(name) & set("/\\") or name.startswith("."):
        remedy = f"give 1 to {LONGEST_NAME} printable characters without slashes or a leading dot"
        raise BadInput(key, f"{shown(name)} cannot serve in file names", remedy)
