"""The symmetries of a problem: exchanges of equal components, and rotations that exchange equal modes."""

from __future__ import annotations

import itertools

import numpy as np

from derive.objects.parameters import parameters_of
from derive.problem.specification import COVARIANCES, Problem

MOST_PERMUTED = 6
MOST_SYMMETRIES = 200
"""With more symmetries than this, the search looks for each image of a fixed point as for any other point."""


def symmetries_of(
    problem: Problem, modes: np.ndarray, frame: np.ndarray
) -> tuple[tuple[tuple[int, ...], np.ndarray], ...]:
    """Return the problem's symmetries, the identity first.

    They are exchanges of components of equal constants, times rotations of modes (K, r) onto modes of equal parameters,
    which take the covariances to each other, too. A component's constants are its radius on the sphere and the
    parameters that it does not learn. For a problem with more than MOST_SYMMETRIES only the identity is returned.

    frame: (coordinates, r), the axes of the modes' coordinates `modes` (K, r).
    """
    proposal, target = problem.proposal, problem.target
    constants = [x for name, x in parameters_of(proposal).items() if name not in problem.flow.learn]
    if problem.flow.manifold == "sphere":
        constants.append(proposal.radii)
    if problem.has_covariances and COVARIANCES not in problem.flow.learn:
        constants.append(problem.component_covariances)
    size = len(proposal.weights)
    exchanges = _permutations(list(zip(*constants, strict=True)) if constants else [()] * size)
    turns = []
    # Directions of the span in which no mode lies stay as they are.
    rest = np.eye(modes.shape[1]) - np.linalg.pinv(modes) @ modes
    for order in _permutations(list(zip(*parameters_of(target).values(), strict=True))):
        turn = np.linalg.lstsq(modes, modes[list(order)], rcond=None)[0] + rest
        same_modes = np.allclose(modes @ turn, modes[list(order)], atol=1e-9 * np.abs(modes).max(initial=0.0))
        if (
            same_modes
            and np.allclose(turn @ turn.T, np.eye(len(turn)))
            and _keeps_covariances(problem, order, frame @ turn @ frame.T)
        ):
            turns.append(turn)
    if len(exchanges) * len(turns) > MOST_SYMMETRIES:
        exchanges, turns = exchanges[:1], turns[:1]
    return tuple(itertools.product(exchanges, turns))


def _keeps_covariances(problem: Problem, order: tuple[int, ...], turn: np.ndarray) -> bool:
    """Return whether a rotation takes each mode's covariance to that of its image, and each component's to itself."""
    if not problem.has_covariances:
        return True
    target, proposal = np.array(problem.mode_covariances), np.array(problem.component_covariances)
    turned = [turn.T @ matrices @ turn for matrices in (target, proposal)]
    rest = COVARIANCES not in problem.flow.learn
    return np.allclose(turned[0], target[list(order)]) and (not rest or np.allclose(turned[1], proposal))


def _permutations(kinds: list[tuple[float, ...]]) -> list[tuple[int, ...]]:
    """Return the permutations of equal things among each other, the identity first.

    Only the identity is returned where there are too many things.
    """
    if len(kinds) > MOST_PERMUTED:
        return [tuple(range(len(kinds)))]
    orders = itertools.permutations(range(len(kinds)))
    return [order for order in orders if all(kinds[i] == kinds[j] for i, j in enumerate(order))]
