"""The problem of a run as frozen values: a target mixture, a proposal mixture, a flow, a schedule, a space.

`Problem()` is the study's bimodal case: K = L = 2 unit-scale Gaussians at distance R = 3 from the origin, target
weights 0.8 and 0.2, in 128 dimensions, annealed exponentially. A field of several numbers takes any sequence (a list, a
tuple, an array) and keeps a tuple of floats. Every value is checked when it is made; a wrong one raises `BadInput`, one
line that names the key and a remedy.
"""

from __future__ import annotations

import numbers
from collections.abc import Collection
from dataclasses import dataclass, field, fields

from derive.objects.parameters import PARAMETERS
from derive.objects.short_repr import short_repr
from derive.problem.field_checks import (
    MOST_DIMENSIONS,
    BadInput,
    covariance_matrices,
    keep,
    mean_vectors,
    mixture_weights,
    one_of,
    padded_alike,
    padded_to,
    positive,
    positives,
    require_distinct_modes,
    require_length,
    require_name,
    sequence,
    shown,
    start_temperature,
    table_points,
)
from derive.problem.kinds import KINDS, names_of_kinds

SCHEDULE_KINDS = names_of_kinds(lambda kind: not kind.adaptive)
"""The kinds whose temperature is a function of time."""
ADAPTIVE_KINDS = names_of_kinds(lambda kind: kind.adaptive)
"""The kinds that are rules: they raise beta by what the proposal has become, and have no formula in t."""

MANIFOLDS = ("sphere", "euclidean")
COVARIANCES = "covariances"
LEARNABLE = ("means", *(parameter.name for parameter in PARAMETERS))
"""What a flow of isotropic components may learn; covariances are learned beside these."""
METRICS = ("log", "bures-wasserstein")
OBJECTIVES = ("reverse-kl", "forward-kl", "mixed")
LAWS = ("uniform-sphere",)


Matrices = tuple[tuple[tuple[float, ...], ...], ...]


def without(instance: object, *left_out: str) -> tuple[str, ...]:
    """The names of a dataclass's fields, some left out."""
    return tuple(field.name for field in fields(instance) if field.name not in left_out)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Target:
    """The target mixture p*(x) = sum_k weights[k] N(x; means[k], scales[k]^2 I) of K Gaussian components.

    Two components with the same mean, scale and covariance are refused: they are one component, so the number of modes
    that a run has found would be undefined.

    Attributes
    ----------
    weights : tuple of float, length K
        Positive numbers that sum to one within 1e-9.
    means : tuple of K tuples of float
        The coordinates of each mean in R^r, padded with zeros to the dimension of the space; the lists given may
        differ in length. Trailing coordinates that are zero in every mean are dropped, but one coordinate is always
        kept, so r never counts mere padding.
    scales : tuple of float, length K
        Positive standard deviations; where there are covariances, those outside the r coordinates.
    covariances : tuple of K tuples of r tuples of r floats
        The covariance matrix of each component in the r coordinates of the means, which then keep all r coordinates;
        without covariances, scales[k]^2 I.
    reference_scale : float or None
        Positive. With it the tempered target is the geometric path q0^(1-beta) p*^beta from the reference
        q0 = N(0, reference_scale^2 I); without it, p*^beta.

    Raises
    ------
    BadInput
        If a value is of the wrong type or range, the lengths differ, or two components coincide.

    Examples
    --------
    >>> from annealvi import Target
    >>> Target(weights=[0.5, 0.3, 0.2], means=[[3, 0], [0, 3], [-3]], scales=[1, 1, 1]).means
    ((3.0, 0.0), (0.0, 3.0), (-3.0, 0.0))
    """

    weights: tuple[float, ...] = (0.8, 0.2)
    means: tuple[tuple[float, ...], ...] = ((3.0,), (-3.0,))
    scales: tuple[float, ...] = (1.0, 1.0)
    reference_scale: float | None = None
    covariances: Matrices = ()

    __repr__ = short_repr

    def __post_init__(self) -> None:
        weights = mixture_weights("target.weights", self.weights)
        count = f"as many as target.weights, {len(weights)}"
        means = padded_alike(mean_vectors("target.means", self.means))
        require_length("target.means", means, len(weights), count)
        scales = positives("target.scales", self.scales)
        require_length("target.scales", scales, len(weights), count)
        covariances = covariance_matrices("target.covariances", self.covariances)
        if covariances:
            require_length("target.covariances", covariances, len(weights), count)
            r = len(covariances[0])
            if len(means[0]) > r:
                raise BadInput(
                    "target.covariances[0]",
                    f"{r} x {r} entries, and target.means use {len(means[0])} coordinates",
                    f"give {len(means[0])} x {len(means[0])} entries",
                )
            means = padded_to(means, r)
        require_distinct_modes(means, scales, covariances)
        reference = self.reference_scale
        if reference is not None:
            reference = positive("target.reference_scale", reference)
        keep(self, weights=weights, means=means, scales=scales, reference_scale=reference, covariances=covariances)

    @property
    def coordinates(self) -> int:
        """The number r of coordinates of each mean, which is at least the dimension of the means' span."""
        return len(self.means[0])

    @property
    def SHOWN(self) -> tuple[str, ...]:
        """The fields of the repr: a reference and covariances only where there are some."""
        absent = {"reference_scale"} if self.reference_scale is None else set()
        return without(self, *absent, *(() if self.covariances else (COVARIANCES,)))


@dataclass(frozen=True)
class Proposal:
    """The proposal mixture q(x) = sum_i weights[i] N(x; a_i, scales[i]^2 I) of L Gaussian components.

    The means a_i are drawn when a run starts (see `Problem.init`), so the proposal states only their lengths.

    Attributes
    ----------
    weights : tuple of float, length L
        Positive numbers that sum to one within 1e-9.
    scales : tuple of float, length L
        Positive standard deviations.
    radius : float or tuple of float, length L
        The length of each mean at the start, ||a_i||: one positive number for all components, or one for each.
    covariances : tuple of L tuples of r tuples of r floats
        The covariance matrix of each component in the r coordinates of the target's means (at the start, where
        covariances are learned), with scales[i]^2 I outside them; without covariances, scales[i]^2 I.

    Raises
    ------
    BadInput
        If a value is of the wrong type or range, or the lengths differ.

    Examples
    --------
    >>> from annealvi import Proposal
    >>> Proposal(radius=2).radii
    (2.0, 2.0)
    """

    weights: tuple[float, ...] = (0.5, 0.5)
    scales: tuple[float, ...] = (1.0, 1.0)
    radius: float | tuple[float, ...] = 3.0
    covariances: Matrices = ()

    __repr__ = short_repr

    def __post_init__(self) -> None:
        weights = mixture_weights("proposal.weights", self.weights)
        scales = positives("proposal.scales", self.scales)
        require_length("proposal.scales", scales, len(weights), f"as many as proposal.weights, {len(weights)}")
        if isinstance(self.radius, Collection) and not isinstance(self.radius, str | bytes):
            radius: float | tuple[float, ...] = positives("proposal.radius", self.radius)
            require_length(
                "proposal.radius",
                self.radius,
                len(weights),
                f"one number, or as many as proposal.weights, {len(weights)}",
            )
        else:
            radius = positive("proposal.radius", self.radius)
        covariances = covariance_matrices("proposal.covariances", self.covariances)
        if covariances:
            require_length(
                "proposal.covariances", covariances, len(weights), f"as many as proposal.weights, {len(weights)}"
            )
        keep(self, weights=weights, scales=scales, radius=radius, covariances=covariances)

    @property
    def SHOWN(self) -> tuple[str, ...]:
        """The fields of the repr: covariances only where there are some."""
        return () if self.covariances else without(self, COVARIANCES)

    @property
    def radii(self) -> tuple[float, ...]:
        """The radius of each component, a tuple of length L."""
        return self.radius if isinstance(self.radius, tuple) else (self.radius,) * len(self.weights)


@dataclass(frozen=True)
class Flow:
    """The gradient flow: the manifold on which the means move, and the parameters that are learned.

    Attributes
    ----------
    manifold : {"sphere", "euclidean"}
        "sphere" keeps every length ||a_i||; "euclidean" lets the lengths change.
    learn : tuple of str
        The parameters that move: some of "means", "weights", "scales" and "covariances", kept in this order whatever
        the order given. "covariances" are the r x r blocks in the target's coordinates; "scales" are then those
        outside.
    metric : {"log", "bures-wasserstein"}
        How a learned covariance C follows the symmetric gradient G of the objective in it: "log" is dC/dt = -4 C G C,
        the unit metric on log sigma along a diagonal; "bures-wasserstein" is dC/dt = -2 (C G + G C).

    Raises
    ------
    BadInput
        If a name is unknown or given twice, or if nothing is learned.

    Examples
    --------
    >>> from annealvi import Flow
    >>> Flow("euclidean", ["scales", "means"]).learn
    ('means', 'scales')
    """

    manifold: str = "sphere"
    learn: tuple[str, ...] = ("means",)
    metric: str = METRICS[0]

    __repr__ = short_repr

    def __post_init__(self) -> None:
        metric = one_of("flow.metric", self.metric, METRICS)
        manifold = one_of("flow.manifold", self.manifold, MANIFOLDS)
        learnable = (*LEARNABLE, COVARIANCES)
        given = sequence("flow.learn", self.learn, 'write a list such as ["means"]', len(learnable))
        chosen = [one_of(f"flow.learn[{i}]", item, learnable) for i, item in enumerate(given)]
        if not chosen:
            raise BadInput("flow.learn", "nothing is learned", f"name at least one of {', '.join(learnable)}")
        if len(set(chosen)) < len(chosen):
            raise BadInput("flow.learn", f"{shown(chosen)} names one thing twice", "name each once")
        if metric != METRICS[0] and COVARIANCES not in chosen:
            raise BadInput(
                "flow.metric", "no covariance is learned", 'add "covariances" to flow.learn or leave flow.metric out'
            )
        keep(self, manifold=manifold, learn=tuple(item for item in learnable if item in chosen), metric=metric)

    @property
    def SHOWN(self) -> tuple[str, ...]:
        """The fields of the repr: the metric only where covariances are learned."""
        return () if COVARIANCES in self.learn else without(self, "metric")


DETAILS = {key: kind.name for kind in KINDS.values() for key in kind.own_keys}
"""The keys of a schedule that belong to one kind alone, each with its kind."""
NEEDED = {kind.name: (kind.own_keys, kind.needs) for kind in KINDS.values() if kind.needs is not None}
"""For each kind that needs one of its own keys: those keys, and an example of the first."""


@dataclass(frozen=True)
class ScheduleSpec:
    """The temperature's course as the user states it; `make_schedule` turns it into formulas.

    Attributes
    ----------
    kind : str
        One of `SCHEDULE_KINDS` or `ADAPTIVE_KINDS`. "geometric" is cooling by equal factors, not the path
        q0^(1-beta) p^beta.
    T0 : float
        The temperature at t = 0, at least 1; inf (beta = 0) for a kind of `FROM_INFINITY`.
    t0 : float
        The time scale, positive, in the flow's time. For an adaptive kind it is the time between adjustments.
    points : tuple of pairs of float
        For "table" alone: 2 to 10 000 pairs (t, T). The times start at 0 and ascend, and two points at one time are a
        jump. The temperatures are positive, and the last is 1. The name of a file of two columns may be given instead;
        the file is read at once.
    expression : str
        For "expression" alone: T as plain mathematics in t, T0 and t0. `make_schedule` reads it.
    beta_expression : str
        For "expression" alone, in place of `expression`: beta = 1/T as plain mathematics in t, T0 and t0.
    tau : float or None
        For "adaann" alone, positive, 0.05 unless given: beta grows by tau/sqrt(Var_q[log p*]) at each adjustment.
    level : float or None
        For "ess" alone, between 0 and 1, 0.9 unless given: beta grows as far as the relative effective sample size
        stays above this level.

    Raises
    ------
    BadInput
        If a value is of the wrong type or range, a key that the kind needs is missing, or a key belongs to another
        kind.

    Examples
    --------
    >>> from annealvi import ScheduleSpec
    >>> ScheduleSpec("adaann", T0=50, t0=1).tau
    0.05
    >>> ScheduleSpec("linear", T0=0.5)
    Traceback (most recent call last):
        ...
    derive.problem.field_checks.BadInput: problem: schedule.T0: 0.5 is below 1; give a temperature of at least 1; \
kinds "table" and "expression" may be colder than 1 on the way
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
        kind = one_of("schedule.kind", self.kind, (*SCHEDULE_KINDS, *ADAPTIVE_KINDS))
        T0 = start_temperature(kind, self.T0)
        for key in NEEDED["expression"][0]:
            if not isinstance(getattr(self, key), str):
                raise BadInput(
                    f"schedule.{key}",
                    f"{shown(getattr(self, key))} is not text",
                    'write it in quotes: "1 + 299*exp(-t/100)"',
                )
        points = table_points("schedule.points", self.points)
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
        tau = positive("schedule.tau", 0.05 if self.tau is None else self.tau) if kind == "adaann" else None
        level = positive("schedule.level", 0.9 if self.level is None else self.level) if kind == "ess" else None
        if level is not None and level >= 1:
            raise BadInput("schedule.level", f"{level} is not below 1", "give a number between 0 and 1, such as 0.9")
        keep(self, kind=kind, T0=T0, t0=positive("schedule.t0", self.t0), points=points, tau=tau, level=level)


@dataclass(frozen=True)
class Objective:
    """What the flow minimises: the tempered reverse KL, the forward KL, or both in a fixed proportion.

    Attributes
    ----------
    kind : {"reverse-kl", "forward-kl", "mixed"}
        "reverse-kl" is KL(q || p*^beta / Z), up to log Z(beta). "forward-kl" is KL(p* || q), whose samples come from
        the target: beta does not enter it. "mixed" is (1 - weight) times the first plus weight times the second.
    weight : float or None
        For "mixed" alone, which needs it: the share of the forward KL, between 0 and 1.

    Raises
    ------
    BadInput
        If the kind is unknown, the weight is missing or out of range, or another kind has one.

    Examples
    --------
    >>> from annealvi import Objective
    >>> Objective("mixed", 0.25).forward_share
    0.25
    """

    kind: str = "reverse-kl"
    weight: float | None = None

    def __post_init__(self) -> None:
        key, kind, weight = "objective.weight", one_of("objective.kind", self.kind, OBJECTIVES), self.weight
        if kind == "mixed":
            if weight is None:
                raise BadInput(
                    key, "objective.kind 'mixed' needs it", "give the forward KL's share, objective.weight = 0.5, say"
                )
            weight = positive(key, weight)
            if weight >= 1:
                raise BadInput(key, f"{weight} is not below 1", "give the forward KL's share, between 0 and 1")
        elif weight is not None:
            remedy = 'set objective.kind = "mixed" or leave it out'
            raise BadInput(key, f"objective.kind {kind!r} has no use for it", remedy)
        keep(self, kind=kind, weight=weight)

    @property
    def forward_share(self) -> float:
        """The factor of the forward KL, from 0 to 1; the tempered reverse KL has the rest."""
        return float(self.kind == "forward-kl") if self.weight is None else self.weight


@dataclass(frozen=True)
class Space:
    """The space R^dimension of x.

    Attributes
    ----------
    dimension : int
        From 1 to 10^9.

    Raises
    ------
    BadInput
        If the dimension is not a whole number in this range.

    Examples
    --------
    >>> from annealvi import Space
    >>> Space().dimension
    128
    """

    dimension: int = 128

    def __post_init__(self) -> None:
        key, d = "space.dimension", self.dimension
        if isinstance(d, bool) or not isinstance(d, numbers.Integral):
            raise BadInput(key, f"{shown(d)} is not an integer", "write a whole number without a point, such as 128")
        if d < 1:
            raise BadInput(key, f"{shown(d)} is below 1", "give at least one dimension")
        if d > MOST_DIMENSIONS:
            raise BadInput(key, f"{shown(d)} is above 10^9", "give at most 10^9; the theory hardly changes beyond")
        keep(self, dimension=int(d))


@dataclass(frozen=True)
class Init:
    """The law of the proposal's means at t = 0.

    Attributes
    ----------
    law : {"uniform-sphere"}
        "uniform-sphere": the means are independent and uniform on the sphere of the proposal's radius.

    Raises
    ------
    BadInput
        If the law is unknown.
    """

    law: str = "uniform-sphere"

    def __post_init__(self) -> None:
        one_of("init.law", self.law, LAWS)


@dataclass(frozen=True)
class Problem:
    """Everything that one run needs. The defaults are the study's bimodal case.

    The target's means are placed in the space by padding them with zeros, so the dimension of the space must be at
    least the number of coordinates that they use. This implies the theory's own condition: the dimension is no smaller
    than the rank of the means' span.

    Attributes
    ----------
    name : str
        The name in titles, labels and files. Without a name, the study's own mixtures and flow are "bimodal", and
        others are "unnamed".
    target : Target
        The mixture that is approximated.
    proposal : Proposal
        The mixture that approximates the target.
    flow : Flow
        The manifold and the learned parameters.
    schedule : ScheduleSpec
        The temperature's course.
    space : Space
        The dimension.
    init : Init
        The law of the proposal's means at the start.
    objective : Objective
        What the flow minimises.

    Raises
    ------
    BadInput
        If a section is of another type, the name cannot serve in file names, the dimension is too small, or the
        schedule does not fit: the forward KL has no temperature, and adaptive rules look at log p* alone and know no
        covariances.

    Examples
    --------
    >>> from annealvi import Problem, Space
    >>> problem = Problem(space=Space(1024))
    >>> problem.name, problem.target.weights
    ('bimodal', (0.8, 0.2))
    """

    name: str = ""
    target: Target = field(default_factory=Target)
    proposal: Proposal = field(default_factory=Proposal)
    flow: Flow = field(default_factory=Flow)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    space: Space = field(default_factory=Space)
    init: Init = field(default_factory=Init)
    objective: Objective = field(default_factory=Objective)

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for key, kind in (
            ("target", Target),
            ("proposal", Proposal),
            ("flow", Flow),
            ("schedule", ScheduleSpec),
            ("space", Space),
            ("init", Init),
            ("objective", Objective),
        ):
            if not isinstance(getattr(self, key), kind):
                raise BadInput(
                    key,
                    f"{shown(getattr(self, key))} is no {kind.__name__}",
                    f"make one by annealvi.{kind.__name__}(...)",
                )
        if self.name == "":
            given = (self.target, self.proposal, self.flow, self.objective)
            own = given == (Target(), Proposal(), Flow(), Objective())
            keep(self, name="bimodal" if own else "unnamed")
        require_name("name", self.name)
        d, r = self.space.dimension, self.coordinates
        _require_one_size_of_covariances(self)
        _require_scales_outside(self)
        if d < r:
            raise BadInput(
                "space.dimension",
                f"{d} is smaller than the {r} coordinates that "
                f"{'the covariances' if r > self.target.coordinates else 'target.means'} use",
                f"give at least {r}, or rotate the means into fewer coordinates",
            )
        _require_a_temperature_with_meaning(self)

    @property
    def coordinates(self) -> int:
        """The number r of coordinates of the target's means and of the covariances."""
        return max(self.target.coordinates, *(len(matrix) for matrix in self.proposal.covariances[:1]), 1)

    @property
    def has_covariances(self) -> bool:
        """Whether any covariance is given or learned."""
        return bool(self.target.covariances or self.proposal.covariances or COVARIANCES in self.flow.learn)

    @property
    def modes(self) -> tuple[tuple[float, ...], ...]:
        """The target's means in all r coordinates."""
        return padded_to(self.target.means, self.coordinates)

    @property
    def mode_covariances(self) -> Matrices:
        """The covariance of each mode in the r coordinates."""
        return self.target.covariances or _isotropic(self.target.scales, self.coordinates)

    @property
    def component_covariances(self) -> Matrices:
        """The covariance of each component in the r coordinates, at the start."""
        return self.proposal.covariances or _isotropic(self.proposal.scales, self.coordinates)

    @property
    def SHOWN(self) -> tuple[str, ...]:
        """The fields of the repr: the objective only where it is another one than the tempered reverse KL."""
        return without(self, "objective") if self.objective == Objective() else ()


def _isotropic(scales: tuple[float, ...], size: int) -> Matrices:
    return tuple(tuple(tuple(s**2 * (m == n) for m in range(size)) for n in range(size)) for s in scales)


def _require_one_size_of_covariances(problem: Problem) -> None:
    """Raise BadInput unless the proposal's covariances have the size of the target's span."""
    own, r = problem.proposal.covariances, problem.target.coordinates
    wrong = bool(own) and (len(own[0]) != r if problem.target.covariances else len(own[0]) < r)
    if wrong:
        raise BadInput(
            "proposal.covariances[0]",
            f"{len(own[0])} x {len(own[0])} entries, and the target has {r} coordinates",
            f"give {r} x {r} entries, in the coordinates of target.means",
        )


def _require_scales_outside(problem: Problem) -> None:
    """Raise BadInput where scales are learned beside covariances, and it is unclear or empty what they scale."""
    learn, r = problem.flow.learn, problem.coordinates
    if "scales" not in learn or not problem.has_covariances:
        return
    if COVARIANCES not in learn and not problem.proposal.covariances:
        raise BadInput(
            "flow.learn",
            f"scales are those outside the {r} coordinates of target.covariances, and nothing says what is within",
            'add "covariances", or give proposal.covariances, which then stay as they are',
        )
    if problem.space.dimension == r:
        raise BadInput(
            "flow.learn",
            f"scales are those outside the covariances' {r} coordinates, and space.dimension = {r} leaves none",
            'leave out "scales", or give a larger space.dimension',
        )


def _require_a_temperature_with_meaning(problem: Problem) -> None:
    """Raise BadInput for a schedule or a reference that the objective has no use for."""
    objective, schedule, reference = problem.objective.kind, problem.schedule, problem.target.reference_scale
    if objective == "forward-kl":
        meaningless = "beta has no meaning for objective.kind 'forward-kl', whose samples come from p* itself"
        if (schedule.kind, schedule.T0) != ("constant", 1.0):
            key = "schedule.T0" if schedule.kind == "constant" else "schedule.kind"
            raise BadInput(key, meaningless, 'set schedule.kind = "constant" and schedule.T0 = 1')
        if reference is not None:
            raise BadInput("target.reference_scale", meaningless, "leave it out")
    if schedule.kind in ADAPTIVE_KINDS and (objective != "reverse-kl" or reference is not None):
        what = f"objective.kind {objective!r}" if objective != "reverse-kl" else "target.reference_scale"
        raise BadInput(
            "schedule.kind",
            f"the rule {schedule.kind!r} looks at log p* alone, and {what} brings in more",
            "choose a schedule with a formula",
        )
    if schedule.kind in ADAPTIVE_KINDS and problem.has_covariances:
        raise BadInput(
            "schedule.kind",
            f"the rule {schedule.kind!r} covers isotropic components alone",
            "choose a schedule with a formula, or leave out the covariances",
        )
