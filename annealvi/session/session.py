"""One problem with everything that follows from it: derivation, schedule, parameter values, and the maps to and from
its states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import sympy as sp

from derive.dynamics.adaptive_schedule import INTERVAL, STEP, with_adaann
from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import SymbolicProblem, derive_problem, parameter_values, symbolise
from derive.objects.short_repr import short_repr
from derive.objects.system import OdeSystem
from derive.objects.vectors import Inner
from derive.problem.arguments import LEAST, checked
from derive.problem.schedules import AdaptiveRule, Schedule, make_rule, make_schedule, settling_time
from derive.problem.specification import SUM_TOLERANCE, BadInput, Problem

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel

DRAWN_AT_ONCE = 2**14
"""Initial states, whose Gram matrices and their factors take several times the memory of the states themselves."""


@dataclass(frozen=True)
class Session:
    """problem and what was derived from it. values: the system's parameters as numbers.

    rule: of an adaptive schedule; `schedule` is then the temperature until it acts.
    """

    problem: Problem
    symbolic: SymbolicProblem
    derivation: Derivation
    schedule: Schedule
    values: Mapping[sp.Symbol, float]
    rule: AdaptiveRule | None = None

    SHOWN: ClassVar = ("problem", "state_names")
    __repr__ = short_repr

    def _repr_html_(self) -> str:
        from annealvi.show.printing import as_html
        from annealvi.verification.report import print_session

        return as_html(print_session, self)

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.derivation.system.states)

    def modes(self, dimension: int | None = None) -> np.ndarray:
        """The target's means, padded with zeros to (K, dimension)."""
        given = np.array(self.problem.target.means)
        modes = np.zeros((len(given), dimension or self.problem.space.dimension))
        modes[:, : given.shape[1]] = given
        return modes

    def mixtures(
        self, dimension: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What the particles are told of the two mixtures: modes (K, dimension), the target's weights and scales, the
        proposal's."""
        target, proposal = self.problem.target, self.problem.proposal
        parts = np.array(target.weights), np.array(target.scales), np.array(proposal.weights), np.array(proposal.scales)
        return self.modes(dimension), *parts

    @property
    def overlap_count(self) -> int:
        """How many states are overlaps; learned weights, then learned scales, follow them."""
        return len(self.derivation.overlaps.moving)

    def states_of_gram(self, gram: np.ndarray) -> np.ndarray:
        """States (n, states) from Gram matrices (n, r + L, r + L) of the independent modes and the means, in that
        order.

        Learned weights and scales are those of the problem.
        """
        index = self._gram_index()
        overlaps = [gram[:, index[inner.args[0]], index[inner.args[1]]] / unit for inner, unit in self._measured()]
        proposal = self.problem.proposal
        return self._with_parameters(overlaps, np.array(proposal.weights), np.array(proposal.scales), gram.shape[:1])

    def states_of_vectors(self, means: np.ndarray) -> np.ndarray:
        """States (n, states) of proposal means (n, L, d), with the problem's own weights and scales."""
        modes = self.modes(means.shape[-1])[list(self.symbolic.independent_modes)]
        vectors = np.concatenate([np.broadcast_to(modes, (len(means), *modes.shape)), means], axis=1)
        return self.states_of_gram(vectors @ vectors.transpose(0, 2, 1))

    def means_of_states(self, states: np.ndarray, dimension: int | None = None) -> np.ndarray:
        """Proposal means (L, d) with the overlaps of one state (states,), for the problem's own modes; unique up to
        rotations about them.

        dimension: d, the problem's own unless given. Raises ValueError where no vectors of R^d have these overlaps.
        """
        from kernels.particles.initial_means import embed_overlaps

        modes = self.modes(dimension)
        embedded, means = embed_overlaps(self.gram_of_states(states), *modes.shape)
        # The orthogonal matrix that takes the embedded modes to the problem's own takes the means along.
        left, _, right = np.linalg.svd(modes.T @ embedded)
        return means @ (left @ right).T

    def states_of_overlaps(self, M: np.ndarray, Q: np.ndarray, weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """States (..., states) of overlaps M (..., L, K), Q (..., L, L), weights and scales (..., L). Linear, so rates
        become rates."""
        means = {a: i for i, a in enumerate(self.derivation.setting.proposal.means)}
        modes = {nu: k for k, nu in enumerate(self.derivation.setting.target.means)}
        columns = []
        for inner, unit in self._measured():
            inside = [a for a in inner.args if a in means]
            value = Q[..., means[inside[0]], means[inside[-1]]]
            if len(inside) == 1:
                (mode,) = (modes[a] for a in inner.args if a in modes)
                value = M[..., means[inside[0]], mode]
            columns.append(value / unit)
        return self._with_parameters(columns, weights, scales, Q.shape[:-2])

    def _with_parameters(
        self, overlaps: list[np.ndarray], weights: np.ndarray, scales: np.ndarray, shape: tuple[int, ...]
    ) -> np.ndarray:
        learned = [
            given for name, given in (("weights", weights), ("scales", scales)) if name in self.problem.flow.learn
        ]
        columns = [np.broadcast_to(given[..., i], shape) for given in learned for i in range(given.shape[-1])]
        return np.stack([*overlaps, *columns], axis=-1)

    def gram_of_states(self, states: np.ndarray) -> np.ndarray:
        """The Gram matrix (K + L, K + L) of all modes and means at one state (states,), in units of the problem."""
        names = dict(self.derivation.overlaps.names)
        relations: dict[Any, Any] = dict(self.derivation.overlaps.relations)
        moving = {names[inner]: unit * float(x) for (inner, unit), x in zip(self._measured(), states, strict=False)}
        fixed = dict(self.symbolic.values)
        vectors = [*self.derivation.setting.target.means, *self.derivation.setting.proposal.means]

        def entry(u: Any, v: Any) -> float:
            name = names[Inner(u, v)]
            value: Any = relations.get(name, name)
            return float(value.xreplace({**moving, **fixed}))

        return np.array([[entry(u, v) for v in vectors] for u in vectors])

    def require_state(self, state: np.ndarray, key: str, source: str) -> None:
        """Raise BadInput unless the state (states,) is one: overlaps of real vectors, weights that sum to one, scales
        above zero."""
        gram = self.gram_of_states(state)
        if not np.isfinite(gram).all() or np.linalg.eigvalsh(gram).min() < -1e-9 * gram.trace():
            found = "no vectors have these overlaps (their Gram matrix is not positive)"
            raise BadInput(key, found, "give overlaps of real vectors", source)
        learned = {s: x for s, x in zip(self.state_names, state, strict=True) if s.startswith(("w_", "sigma_"))}
        for name, value in learned.items():
            if value <= 0:
                raise BadInput(
                    f"{key}.{name}", f"{value:g} is not positive", "give weights and scales above zero", source
                )
        weights = [float(value) for name, value in learned.items() if name.startswith("w_")]
        if weights and abs(sum(weights) - 1) > SUM_TOLERANCE:
            shares = ", ".join(f"w_{i} = {w / sum(weights)!r}" for i, w in enumerate(weights, 1))
            remedy = f"make them sum to one within {SUM_TOLERANCE:g}, such as {shares}"
            raise BadInput(key, f"the weights sum to {sum(weights):.12g}", remedy, source)

    def require_states(self, states: np.ndarray, key: str, source: str) -> None:
        """Raise BadInput, as `require_state` does, for the first of many states (n, states) that is none; a million
        take seconds."""
        width = states.shape[1]
        constant = self.gram_of_states(np.zeros(width))
        slopes = np.stack([self.gram_of_states(row) - constant for row in np.eye(width)])  # it is affine in the states
        learned = [n for n, name in enumerate(self.state_names) if name.startswith(("w_", "sigma_"))]
        weights = [n for n, name in enumerate(self.state_names) if name.startswith("w_")]
        for first in range(0, len(states), DRAWN_AT_ONCE):
            part = states[first : first + DRAWN_AT_ONCE]
            with np.errstate(over="ignore", invalid="ignore"):
                gram = constant + np.tensordot(part, slopes, axes=1)
            finite = np.isfinite(gram).all(axis=(1, 2))
            suspect = ~finite | (part[:, learned] <= 0).any(axis=1)
            suspect[finite] |= np.linalg.eigvalsh(gram[finite])[:, 0] < -5e-10 * np.einsum("nii->n", gram[finite])
            if weights:
                suspect |= np.abs(part[:, weights].sum(axis=1) - 1) > SUM_TOLERANCE / 2
            for n in np.flatnonzero(suspect):
                self.require_state(part[n], f"{key}[{first + n}]", source)

    def _measured(self) -> list[tuple[Any, float]]:
        """(inner product, its value per unit state) of each state."""
        return [
            (inner, float(unit.xreplace(dict(self.symbolic.values))))
            for _, inner, unit in self.derivation.overlaps.moving
        ]

    def _gram_index(self) -> dict[Any, int]:
        modes = [self.derivation.setting.target.means[k] for k in self.symbolic.independent_modes]
        return {v: n for n, v in enumerate([*modes, *self.derivation.setting.proposal.means])}

    def compile(
        self, device: str = "auto", tolerance: float = 1e-12, expectations: str = "proxy", precision: str = "float64"
    ) -> Kernel:
        """The generated kernel with this problem's parameters. tolerance: absolute error of each average; for the other
        options see `kernels.integrate.kernel.compile_system`."""
        schedule = self.schedule
        values = {**self.values, **dict(zip(schedule.parameters, schedule.values, strict=True))}
        options = {
            "breakpoints": schedule.breakpoints,
            "tolerance": tolerance,
            "expectations": expectations,
            "device": device,
        }
        options["precision"] = precision
        return self._compiled(self.derivation.system, schedule.beta, schedule.parameters, values, options)

    def with_rule(self) -> Derivation:
        """The derivation with the rule's flow, and beta as the last state. BadInput for a rule that has no equation."""
        if self.rule is None or self.rule.kind != "adaann":
            found = f"{self.problem.schedule.kind!r} has no equation in the summary statistics"
            raise BadInput("schedule.kind", found, "simulate it, or set schedule.kind = adaann")
        if (
            self.derivation.geometry.large_dimension
        ):  # there the squared length is correlated with the logits, which takes rules of its own
            found = "the rule's variance is not derived in the limit of many dimensions"
            raise BadInput("schedule.kind", found, "leave out --large-dimension, or choose a schedule with a formula")
        return with_adaann(self.derivation)

    def compile_with_rule(self, device: str, tolerance: float) -> Kernel:
        """The kernel of the autonomous system that `with_rule` derives."""
        system = self.with_rule().system
        known = (
            {**self.symbolic.values, STEP: self.rule.strength, INTERVAL: self.rule.interval}
            if self.rule is not None
            else {}
        )
        values = {s: known[s] for s in system.parameters}
        return self._compiled(system, sp.S.One, (), values, {"tolerance": tolerance, "device": device})

    def _compiled(
        self,
        system: OdeSystem,
        beta: sp.Expr,
        parameters: tuple[sp.Symbol, ...],
        values: Mapping[sp.Symbol, float],
        options: Mapping[str, Any],
    ) -> Kernel:
        from kernels.averages.reach import Reach
        from kernels.integrate.kernel import compile_system
        from kernels.machine.stages import stage

        target, proposal = self.problem.target, self.problem.proposal
        scales = (*target.scales, *proposal.scales)
        longest = max(*proposal.radii, float(np.linalg.norm(target.means, axis=1).max()))
        try:
            with stage("tabulating averages and writing the kernels"):
                return compile_system(
                    system, beta, parameters, values, reach=Reach(longest, min(scales), max(scales)), **options
                )
        except (ArithmeticError, ValueError) as error:  # an average that no table resolves
            remedy = (
                "bring target.means and proposal.radius within a few hundred scales, and scales "
                "within a factor of thirty"
            )
            raise BadInput("problem", f"its averages cannot be tabulated ({error})", remedy) from error

    @partial(checked, least={**LEAST, "n": 0})
    def random_states(self, n: int, seed: int) -> np.ndarray:
        """n initial states (n, states), drawn from the exact law of the overlaps of independent uniform means."""
        (states,) = self.random_states_in_parts(n, seed, n)
        return states

    def random_states_in_parts(self, n: int, seed: int, size: int) -> Iterator[np.ndarray]:
        """The states of `random_states`, in parts of up to `size`: the same numbers, without the memory that all take
        together."""
        from kernels.integrate.ensembles import GramStream

        independent = self.modes(len(self.problem.target.means[0]))[list(self.symbolic.independent_modes)]
        stream = GramStream(
            self.problem.space.dimension, np.array(self.problem.proposal.radii), independent @ independent.T, seed
        )
        for part in _shares(n, size):
            yield np.concatenate([self.states_of_gram(stream.draw(few)) for few in _shares(part, DRAWN_AT_ONCE)])

    def end_time(self) -> float:
        """When the schedule has ended and the flow had time to settle: the settling time plus 50 units of the flow's
        time."""
        if self.schedule.kind == "constant":
            return 50.0
        return settling_time(self.schedule) + 50.0


def _shares(n: int, size: int) -> list[int]:
    """n in shares of up to `size`; of none there is one empty share."""
    return [min(size, n - first) for first in range(0, n, size)] if n else [0]


@checked
def open_session(problem: Problem, large_dimension: bool = False) -> Session:
    """Derive the problem's equations and make its schedule. BadInput where the derivation does not cover the problem.

    large_dimension: derive the limit d → ∞ of what unequal scales make depend on d, instead of the equations exact in
    every d.
    """
    from kernels.machine.stages import stage

    try:
        with stage("deriving the equations"):
            derivation = derive_problem(problem, large_dimension)
    except ArithmeticError as error:  # a rule checked its own result and refused it
        raise BadInput(
            "problem", f"the derivation stops ({error})", "please report it with this problem file"
        ) from error
    symbolic = symbolise(problem, large_dimension)
    return Session(
        problem,
        symbolic,
        derivation,
        make_schedule(problem.schedule),
        parameter_values(problem, derivation),
        make_rule(problem.schedule),
    )
