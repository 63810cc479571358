"""Random states, temperatures and parameters at which two systems of equations are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import sympy as sp

from annealvi.comparison.evidence.evaluation import evaluated_in_order
from annealvi.session.coordinates import Coordinates
from annealvi.session.session import Session
from derive.dynamics.symbolic_problem import symbolise
from derive.objects.system import BETA
from derive.problem.specification import BadInput, Problem

POINTS = ((8, 6), (8, 6), (5, 4), (3, 2))
"""The number of sets of parameters and of states in each, by the number of variables of averages: each variable more
takes a hundred times as long."""
LEAST_WEIGHT, DEFORMATION = 0.15, 0.2
GRAM = "Gamma_"


@dataclass(frozen=True)
class Samples:
    """Points (n,) at which equations are evaluated.

    Attributes
    ----------
    numbers
        The value (n,) of each state, each parameter and `BETA`.
    sets
        (n,) which set of parameters each point has. Within a set states and temperatures vary.
    """

    numbers: Mapping[sp.Symbol, np.ndarray]
    sets: np.ndarray
    _known: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> int:
        """The number of points."""
        return len(self.sets)

    def values(self, subexpressions: Sequence[tuple[sp.Symbol, sp.Expr]]) -> dict[sp.Symbol, np.ndarray]:
        """The numbers with those of named subexpressions."""
        key = tuple(subexpressions)
        if key not in self._known:
            self._known[key] = evaluated_in_order(subexpressions, self.numbers)
        return dict(self._known[key])


def has_geometry(session: Session) -> bool:
    """Whether lengths and angles of the modes are parameters of the derived system, as entries of a Gram matrix."""
    return any(s.name.startswith(GRAM) for s in session.derivation.system.parameters)


def random_samples(
    session: Session, seed: int, equal_weights: Sequence[str] = (), own_geometry: bool = False
) -> Samples:
    """Points of the problem's domain under random weights and lengths.

    equal_weights: the mixtures, "target" or "proposal", whose weights are equal in all sets. own_geometry: whether the
    modes keep their angles and the ratios of their lengths also where these are parameters.
    """
    rng = np.random.default_rng([seed, 11])
    system, columns, sets = session.derivation.system, [], []
    deformed = has_geometry(session) and not own_geometry
    parameter_sets, count = POINTS[min(system.widest_average, 3)]
    for n in range(parameter_sets):
        problem = _varied(session.problem, rng if n else None, equal_weights, deformed)
        symbolic = symbolise(problem, session.derivation.geometry.large_dimension)
        coordinates = Coordinates(problem, symbolic, session.derivation)
        states = coordinates.states_of_vectors(_random_means(coordinates, count, rng))
        known = dict(zip(system.states, states.T, strict=True)) | {BETA: rng.uniform(0.02, 1.0, len(states))}
        fixed = {s: np.full(len(states), float(v)) for s, v in symbolic.values.items() if s not in known}
        columns.append(known | fixed)
        sets.append(np.full(len(states), n))
    symbols = set(columns[0]).intersection(*columns)
    missing = {*system.states, *system.parameters} - symbols
    if missing:
        raise BadInput("problem", f"{', '.join(map(str, missing))} cannot be varied", "use a problem without symmetry")
    return Samples({s: np.concatenate([c[s] for c in columns]) for s in symbols}, np.concatenate(sets))


def _varied(problem: Problem, rng: np.random.Generator | None, equal_weights: Sequence[str], deformed: bool) -> Problem:
    """The problem with random weights and with all lengths times a random factor; as it is where there is no rng.

    deformed: whether the modes also go through a random linear map, which keeps their linear relations.
    """
    target, proposal = problem.target, problem.proposal
    if rng is not None:
        factor = float(rng.uniform(0.5, 1.05))
        radius = proposal.radius
        longer = tuple(factor * r for r in radius) if isinstance(radius, tuple) else factor * radius
        modes = factor * np.asarray(target.means)
        if deformed:
            modes = modes @ (np.eye(modes.shape[1]) + DEFORMATION * rng.uniform(-1, 1, [modes.shape[1]] * 2))
        means = tuple(map(tuple, modes.tolist()))
        target = replace(target, means=means, weights=_weights(len(target.weights), rng))
        proposal = replace(proposal, radius=longer, weights=_weights(len(proposal.weights), rng))
    if "target" in equal_weights:
        target = replace(target, weights=(1 / len(target.weights),) * len(target.weights))
    if "proposal" in equal_weights:
        proposal = replace(proposal, weights=(1 / len(proposal.weights),) * len(proposal.weights))
    return replace(problem, target=target, proposal=proposal)


def _weights(count: int, rng: np.random.Generator) -> tuple[float, ...]:
    shares = LEAST_WEIGHT + rng.exponential(size=count)
    return tuple(shares / shares.sum())


def _random_means(coordinates: Coordinates, n: int, rng: np.random.Generator) -> np.ndarray:
    """Proposal means (n, L, d) in few dimensions, in all directions and at the proposal's radii."""
    problem = coordinates.problem
    modes, count = problem.target.means, len(problem.proposal.weights)
    dimension = min(problem.space.dimension, len(modes[0]) + count + 1)
    radii = np.broadcast_to(problem.proposal.radius, count)
    means = rng.normal(size=(n, count, dimension))
    return means * (radii / np.linalg.norm(means, axis=2))[..., None]
