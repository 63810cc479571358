"""Random initial states: the overlaps of independent means, each uniform on its sphere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from annealvi.session.coordinates import Coordinates

DRAWN_AT_ONCE = 2**14
"""Initial states drawn together. Their Gram matrices and the factors take several times the memory of the states."""


def random_states_in_parts(coordinates: Coordinates, n: int, seed: int, size: int) -> Iterator[np.ndarray]:
    """Draw n initial states and yield them in parts (up to size, states); the numbers do not depend on `size`."""
    from kernels.integrate.ensembles import GramStream

    problem = coordinates.problem
    independent = coordinates.directions(problem.coordinates)
    stream = GramStream(problem.space.dimension, np.array(problem.proposal.radii), independent @ independent.T, seed)
    for part in _shares(n, size):
        yield np.concatenate([coordinates.states_of_gram(stream.draw(few)) for few in _shares(part, DRAWN_AT_ONCE)])


def _shares(n: int, size: int) -> list[int]:
    """Split n into shares of up to `size`; n = 0 is one empty share."""
    return [min(size, n - first) for first in range(0, n, size)] if n else [0]
