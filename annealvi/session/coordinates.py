"""The maps between a problem's states and the vectors that they describe.

A state is the vector of the summary statistics, in the order of the derived system: the overlaps first, then the
learned parameters of the components. The maps lead to and from proposal means, Gram matrices, and the overlaps M and Q.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import SymbolicProblem
from derive.objects.parameters import PARAMETERS, WEIGHTS, Parameter, parameters_of
from derive.objects.states import StateKind
from derive.objects.vectors import Inner, VectorSymbol
from derive.problem.field_checks import SUM_TOLERANCE
from derive.problem.specification import BadInput, Problem

CHECKED_AT_ONCE = 2**14
"""States checked together. Their Gram matrices take several times the memory of the states themselves."""


@dataclass(frozen=True)
class Coordinates:
    """What a problem's states measure, and the maps to and from them. `Session` documents the public ones."""

    problem: Problem
    symbolic: SymbolicProblem
    derivation: Derivation

    @property
    def state_names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.derivation.system.states)

    def positions_of(self, *kinds: StateKind | Parameter) -> list[int]:
        """The places of the states of these kinds, in the order of the states."""
        return [n for n, variable in enumerate(self.derivation.system.variables) if variable.kind in kinds]

    def modes(self, dimension: int | None = None) -> np.ndarray:
        """The target's means, padded with zeros to (K, dimension)."""
        given = np.array(self.problem.modes)
        modes = np.zeros((len(given), dimension or self.problem.space.dimension))
        modes[:, : given.shape[1]] = given
        return modes

    def states_of_gram(self, gram: np.ndarray) -> np.ndarray:
        """States (n, states) from Gram matrices (n, r + L, r + L) of the independent modes and the means."""
        index = self._gram_index()
        overlaps = [gram[:, index[inner.args[0]], index[inner.args[1]]] / unit for inner, unit in self._measured()]
        return self._with_parameters(overlaps, self.own_parameters(), gram.shape[:1])

    def own_parameters(self) -> dict[str, Any]:
        """The numbers of the problem's own components, by the names of what may be learned."""
        return parameters_of(self.problem.proposal)

    def directions(self, dimension: int | None = None) -> np.ndarray:
        """The vectors (r, dimension) with which the means' overlaps are states: the independent modes."""
        return self.modes(dimension)[list(self.symbolic.independent_modes)]

    def states_of_vectors(self, means: np.ndarray) -> np.ndarray:
        """States (n, states) of proposal means (n, L, d)."""
        modes = self.directions(means.shape[-1])
        vectors = np.concatenate([np.broadcast_to(modes, (len(means), *modes.shape)), means], axis=1)
        return self.states_of_gram(vectors @ vectors.transpose(0, 2, 1))

    def means_of_states(self, states: np.ndarray, dimension: int | None = None) -> np.ndarray:
        """Proposal means (L, d) with the overlaps of one state (states,)."""
        from kernels.particles.initial_means import embed_overlaps

        modes = self.modes(dimension)
        embedded, means = embed_overlaps(self.gram_of_states(states), *modes.shape)
        # The orthogonal matrix that takes the embedded modes to the problem's own takes the means along.
        left, _, right = np.linalg.svd(modes.T @ embedded)
        return means @ (left @ right).T

    def states_of_overlaps(self, M: np.ndarray, Q: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        """States (..., states) of overlaps M (..., L, K) and Q (..., L, L), and of parameters (..., L) by name."""
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
        return self._with_parameters(columns, parameters, Q.shape[:-2])

    def _with_parameters(
        self, overlaps: list[np.ndarray], parameters: Mapping[str, Any], shape: tuple[int, ...]
    ) -> np.ndarray:
        """The overlaps' columns and, after them, those of the learned parameters."""
        given = {name: np.asarray(values) for name, values in parameters.items()}
        learned = self.derivation.system.variables[len(overlaps) :]
        columns = [np.broadcast_to(given[v.kind.name][..., v.components[0]], shape) for v in learned]
        return np.stack([*overlaps, *columns], axis=-1)

    def gram_of_states(self, states: np.ndarray) -> np.ndarray:
        """The Gram matrix (K + L, K + L) of all modes and means at one state (states,)."""
        return self._gram_of(states, [*self.derivation.setting.target.means, *self.derivation.setting.proposal.means])

    def _gram_of(self, states: np.ndarray, vectors: Sequence[VectorSymbol]) -> np.ndarray:
        """The Gram matrix of some vectors at one state (states,)."""
        names = dict(self.derivation.overlaps.names)
        relations: dict[Any, Any] = dict(self.derivation.overlaps.relations)
        moving = {names[inner]: unit * float(x) for (inner, unit), x in zip(self._measured(), states, strict=False)}
        fixed = dict(self.symbolic.values)

        def entry(u: Any, v: Any) -> float:
            name = names[Inner(u, v)]
            value: Any = relations.get(name, name)
            return float(value.xreplace({**moving, **fixed}))

        return np.array([[entry(u, v) for v in vectors] for u in vectors])

    def require_state(self, state: np.ndarray, key: str, source: str) -> None:
        """Raise BadInput unless the array (states,) is a state."""
        gram = self.gram_of_states(state)
        if not np.isfinite(gram).all() or np.linalg.eigvalsh(gram).min() < -1e-9 * gram.trace():
            found = "no vectors have these overlaps (their Gram matrix is not positive)"
            raise BadInput(key, found, "give overlaps of real vectors", source)
        for n in self.positions_of(*PARAMETERS):
            if state[n] <= 0:
                found = f"{state[n]:g} is not positive"
                names = " and ".join(parameter.name for parameter in PARAMETERS)
                raise BadInput(f"{key}.{self.state_names[n]}", found, f"give {names} above zero", source)
        weights = [float(state[n]) for n in self.positions_of(WEIGHTS)]
        if weights and abs(sum(weights) - 1) > SUM_TOLERANCE:
            shares = ", ".join(f"w_{i} = {w / sum(weights)!r}" for i, w in enumerate(weights, 1))
            remedy = f"make them sum to one within {SUM_TOLERANCE:g}, such as {shares}"
            raise BadInput(key, f"the weights sum to {sum(weights):.12g}", remedy, source)

    def require_states(self, states: np.ndarray, key: str, source: str) -> None:
        """Raise BadInput for the first of many states (n, states) that `require_state` refuses.

        The Gram matrix is affine in the state, so all of them are made at once and only suspects are checked singly.
        """
        width = states.shape[1]
        constant = self.gram_of_states(np.zeros(width))
        slopes = np.stack([self.gram_of_states(row) - constant for row in np.eye(width)])
        learned, weights = self.positions_of(*PARAMETERS), self.positions_of(WEIGHTS)
        for first in range(0, len(states), CHECKED_AT_ONCE):
            part = states[first : first + CHECKED_AT_ONCE]
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
        """The inner product behind each overlap, and its value where the overlap is one."""
        return [
            (inner, float(unit.xreplace(dict(self.symbolic.values))))
            for _, inner, unit in self.derivation.overlaps.moving
        ]

    def _gram_index(self) -> dict[Any, int]:
        return {v: n for n, v in enumerate([*self.direction_symbols(), *self.derivation.setting.proposal.means])}

    def direction_symbols(self) -> list[VectorSymbol]:
        """The symbols of `directions`."""
        return [self.derivation.setting.target.means[k] for k in self.symbolic.independent_modes]
