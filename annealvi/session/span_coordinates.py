"""The maps between states and vectors where covariances stand in the target's span.

The states are the coordinates of the means in the span, the overlaps of whole means, and what is learned. The axes
e_1 … e_r of the span take the place of the independent modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from annealvi.session.coordinates import Coordinates
from derive.objects.states import StateKind
from derive.objects.vectors import VectorSymbol
from derive.problem.specification import COVARIANCES, BadInput
from derive.rules.geometry import axes

ROUNDING = 1e-9
"""The negative part of an eigenvalue, relative to the trace, that counts as rounding."""


class SpanCoordinates(Coordinates):
    """What the states of a problem with covariances measure, and the maps to and from them."""

    @property
    def size(self) -> int:
        """The number r of coordinates of the span."""
        return self.problem.coordinates

    def directions(self, dimension: int | None = None) -> np.ndarray:
        """The axes of the span, (r, dimension)."""
        return np.eye(self.size, dimension or self.problem.space.dimension)

    def direction_symbols(self) -> list[VectorSymbol]:
        return axes(self.size)

    def own_parameters(self) -> dict[str, Any]:
        return {**super().own_parameters(), COVARIANCES: self.problem.component_covariances}

    def states_of_overlaps(self, M: np.ndarray, Q: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        """States (..., states) of coordinates M (..., L, r) and overlaps Q (..., L, L), and of what is learned.

        parameters: weights and scales (..., L), covariances (..., L, r, r).
        """
        means = {a: i for i, a in enumerate(self.derivation.setting.proposal.means)}
        places = {e: n for n, e in enumerate(self.direction_symbols())}
        columns = []
        for inner, _ in self._measured():
            inside = [means[v] for v in inner.args if v in means]
            axis = [places[v] for v in inner.args if v in places]
            columns.append(M[..., inside[0], axis[0]] if axis else Q[..., inside[0], inside[-1]])
        return self._with_parameters(columns, parameters, Q.shape[:-2])

    def _with_parameters(
        self, overlaps: list[np.ndarray], parameters: Mapping[str, Any], shape: tuple[int, ...]
    ) -> np.ndarray:
        entries = self.positions_of(StateKind.COVARIANCE)
        if not entries:
            return super()._with_parameters(overlaps, parameters, shape)
        flat = np.asarray(parameters[COVARIANCES])
        upper = np.triu_indices(self.size)
        matrices = flat[..., upper[0], upper[1]].reshape(*flat.shape[:-3], len(entries))
        columns = [np.broadcast_to(matrices[..., n], shape) for n in range(len(entries))]
        others = {name: values for name, values in parameters.items() if name != COVARIANCES}
        plain = self._plain(overlaps, others, shape, len(entries))
        return np.concatenate([plain, np.stack(columns, axis=-1)], axis=-1)

    def _plain(
        self, overlaps: list[np.ndarray], parameters: Mapping[str, Any], shape: tuple[int, ...], entries: int
    ) -> np.ndarray:
        """The columns of the overlaps and of the learned weights and scales."""
        variables = self.derivation.system.variables
        learned = variables[len(overlaps) : len(variables) - entries]
        columns = [np.broadcast_to(np.asarray(parameters[v.kind.name])[..., v.components[0]], shape) for v in learned]
        return np.stack([*overlaps, *columns], axis=-1)

    def coordinates_of_states(self, states: np.ndarray) -> np.ndarray:
        """The coordinates of the means in the span, (..., L, r), of states (..., states)."""
        own = states[..., self.positions_of(StateKind.COORDINATE)]
        return own.reshape(*states.shape[:-1], -1, self.size)

    def covariances_of_states(self, states: np.ndarray) -> np.ndarray:
        """The covariances of the components in the span, (..., L, r, r), of states (..., states)."""
        entries = self.positions_of(StateKind.COVARIANCE)
        if not entries:
            own = np.array(self.problem.component_covariances)
            return np.broadcast_to(own, (*states.shape[:-1], *own.shape))
        upper = np.triu_indices(self.size)
        flat = states[..., entries].reshape(*states.shape[:-1], -1, len(upper[0]))
        matrices = np.empty((*flat.shape[:-1], self.size, self.size))
        matrices[..., upper[0], upper[1]] = flat
        matrices[..., upper[1], upper[0]] = flat
        return matrices

    def gram_of_states(self, states: np.ndarray) -> np.ndarray:
        """The Gram matrix (K + L, K + L) of all modes and means at one state (states,)."""
        modes, within = np.array(self.problem.modes), self.coordinates_of_states(states)
        means = self._gram_of(states, list(self.derivation.setting.proposal.means))
        return np.block([[modes @ modes.T, modes @ within.T], [within @ modes.T, means]])

    def means_of_states(self, states: np.ndarray, dimension: int | None = None) -> np.ndarray:
        """Proposal means (L, d) with the coordinates and overlaps of one state (states,)."""
        within = self.coordinates_of_states(states)
        d = dimension or self.problem.space.dimension
        outside = self._gram_of(states, list(self.derivation.setting.proposal.means)) - within @ within.T
        values, vectors = np.linalg.eigh(outside)
        scale = max(float(np.trace(outside)), float((within**2).sum()), 1e-300)
        if values[0] < -ROUNDING * scale:
            raise ValueError("no vectors have these overlaps: outside the span their Gram matrix is not positive")
        kept = [n for n in np.argsort(-values) if values[n] > ROUNDING * scale]
        if len(kept) > d - self.size:
            raise ValueError(f"vectors with these overlaps do not fit in {d} dimensions")
        means = np.zeros((len(within), d))
        means[:, : self.size] = within
        means[:, self.size : self.size + len(kept)] = vectors[:, kept] * np.sqrt(values[kept])
        return means

    def require_state(self, state: np.ndarray, key: str, source: str) -> None:
        super().require_state(state, key, source)
        for i, matrix in enumerate(self.covariances_of_states(state)):
            least = float(np.linalg.eigvalsh(matrix)[0]) if np.isfinite(matrix).all() else np.nan
            if not least > 0:
                found = f"the covariance of component {i + 1} has the eigenvalue {least:.6g}"
                raise BadInput(key, found, "give a covariance with positive eigenvalues", source)

    def _measured(self) -> list[tuple[Any, float]]:
        return [(inner, 1.0) for _, inner, _ in self.derivation.overlaps.moving]
