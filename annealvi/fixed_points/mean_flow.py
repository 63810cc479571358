"""The spherical flow of the means themselves, with its linearisation.

The means move in the span of the modes and a few orthogonal dimensions. The overlaps are poor coordinates wherever
means and modes are linearly dependent. The means, moved along the tangent spaces of their spheres, remain good
coordinates there. The linearisation is symmetric, as for every gradient flow, so its eigenvalues are real.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from annealvi.session.session import Session
from derive.dynamics.forces import force_system
from derive.objects.parameters import parameters_of
from derive.objects.short_repr import short_repr
from derive.problem.objective_scope import require_tempered_reverse_kl
from derive.problem.specification import BadInput, Problem
from kernels.integrate.kernel import Kernel

STEPS = np.array([1.0, 2.0, 3.0])
WEIGHTS = np.array([45.0, -9.0, 1.0]) / 60
"""Central differences of sixth order: f' ≈ Σ weights (f(x + step h) − f(x − step h)) / h."""
FINE = 1e-2
"""The differences' step h, in units of the smallest scale divided by the longest vector, which is an angle.

Forces change over an angle of about one such unit. The rule errs by some 1e-13 of the forces, and amplifies their own
error of 1e-12 a hundredfold.
"""

MOST_PERMUTED = 6
MOST_SYMMETRIES = 200
"""With more symmetries than this, the search looks for each image of a fixed point as for any other point."""


@dataclass(frozen=True)
class MeanFlow:
    """The flow of L means on their spheres.

    Means have shape (N, L, n) with n from r to d; their first r coordinates lie in the span of the modes.

    Attributes
    ----------
    session : Session
        The problem.
    kernel : Kernel
        The compiled forces.
    modes : ndarray
        Shape (r, r). The independent modes in coordinates of their span.
    all_modes : ndarray
        Shape (K, r). All modes in these coordinates.
    radii : ndarray
        Shape (L,). The radii of the spheres.
    dimension : int
        The dimension d of the whole space.
    angle : float
        The angle over which the forces change.
    symmetries : tuple
        Pairs of a permutation of the components and a rotation (r, r) that permutes the modes; each pair leaves the
        flow unchanged.
    towards_modes : tuple
        (state, mean, independent mode) of each state that is an overlap with a mode.
    between_means : tuple
        (state, mean, mean) of each state that is an overlap of means.
    """

    session: Session
    kernel: Kernel
    modes: np.ndarray
    all_modes: np.ndarray
    radii: np.ndarray
    dimension: int
    angle: float
    symmetries: tuple[tuple[tuple[int, ...], np.ndarray], ...]
    towards_modes: tuple[tuple[int, int, int], ...]
    between_means: tuple[tuple[int, int, int], ...]

    __repr__ = short_repr

    @property
    def span(self) -> int:
        """r, the dimension of the modes' span."""
        return len(self.modes)

    @property
    def most_orthogonal(self) -> int:
        """min(L, d − r), the number of dimensions orthogonal to the modes that the means can span."""
        return min(len(self.radii), self.dimension - self.span)

    def states(self, means: np.ndarray) -> np.ndarray:
        """Return the overlaps' states (N, states) of means (N, L, n)."""
        modes = self._modes(means.shape[-1])
        vectors = np.concatenate([np.broadcast_to(modes, (len(means), *modes.shape)), means], axis=1)
        return self.session.states_of_gram(vectors @ vectors.transpose(0, 2, 1))

    def forces(self, beta: np.ndarray | float, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the coefficients of the modes and of the other means in each mean's velocity before the projection.

        Their shapes are (N, L, r) and (N, L, L).
        """
        count, size = means.shape[:2]
        values = self.kernel.rhs_at_beta(beta, self.states(means))
        to_modes, to_means = np.zeros((count, size, self.span)), np.zeros((count, size, size))
        for n, i, k in self.towards_modes:
            to_modes[:, i, k] = values[:, n]
        for n, i, j in self.between_means:
            to_means[:, i, j] = to_means[:, j, i] = values[:, n]
        return to_modes, to_means

    def velocity(self, beta: np.ndarray | float, means: np.ndarray) -> np.ndarray:
        """Return da_i/dt (N, L, n) at the means (N, L, n)."""
        to_modes, to_means = self.forces(beta, means)
        pull = to_modes @ self._modes(means.shape[-1]) + to_means @ means
        return pull - np.sum(pull * means, -1, keepdims=True) / self.radii[:, None] ** 2 * means

    def strength(self, beta: np.ndarray | float, means: np.ndarray) -> np.ndarray:
        """Return the largest sum of the magnitudes of the forces on one mean, shape (N,).

        A residual is compared to this strength. A mode's force is itself a difference of responsibilities, so the
        strength is at least their share of the force. Otherwise it would vanish where one component lies between two
        modes and nothing else pulls at it.
        """
        to_modes, to_means = self.forces(beta, means)
        lengths = np.linalg.norm(self.modes, axis=1)
        least = np.asarray(beta) * max(self.session.problem.proposal.weights) * lengths.max()
        return np.maximum(np.max(np.abs(to_modes) @ lengths + np.abs(to_means) @ self.radii, axis=1), least)

    def tangent_velocity(self, beta: np.ndarray | float, means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the velocity (N, D) in an orthonormal basis of the tangent spaces, and the basis.

        The basis has shape (N, L, n, n − 1), and D = L(n − 1).
        """
        basis = tangent_basis(means)
        return _in_basis(basis, self.velocity(beta, means)), basis

    def linearisation(
        self, beta: np.ndarray | float, means: np.ndarray, basis: np.ndarray, fine: bool = False
    ) -> np.ndarray:
        """Return the covariant derivative of the velocity in the basis, shape (N, D, D).

        It is computed by central differences of second order, or of sixth order if `fine`.
        """
        count, size, n = means.shape
        dimensions = size * (n - 1)
        steps, weights, h = (
            (STEPS, WEIGHTS, FINE * self.angle) if fine else (np.ones(1), np.full(1, 0.5), 1e-4 * self.angle)
        )
        signed = np.concatenate([steps, -steps])
        directions = np.eye(dimensions) * np.repeat(self.radii, n - 1)[:, None]  # equal angles for all
        moved = h * signed[:, None, None] * directions
        shifted = retract(means[:, None, None], basis[:, None, None], moved[None], self.radii)
        betas = np.repeat(np.broadcast_to(beta, count), len(signed) * dimensions)
        velocities = self.velocity(betas, shifted.reshape(-1, size, n)).reshape(count, len(signed), dimensions, size, n)
        projected = _in_basis(basis[:, None, None], velocities)
        slopes = np.tensordot(np.concatenate([weights, -weights]), projected, (0, 1)) / h
        slopes /= np.repeat(self.radii, n - 1)[:, None]
        return slopes.transpose(0, 2, 1)

    def transverse(self, beta: float, means: np.ndarray) -> np.ndarray:
        """Return the linearised flow (L, L) along any direction orthogonal to the modes and to all means (L, n).

        The overlaps are stationary along such a direction, and so are the forces.
        """
        to_modes, to_means = (f[0] for f in self.forces(beta, means[None]))
        pull = to_modes @ self._modes(means.shape[-1]) + to_means @ means
        return to_means - np.diag(np.sum(pull * means, -1) / self.radii**2)

    def images(self, means: np.ndarray) -> np.ndarray:
        """Return the images (G, L, n) of means (L, n) under every symmetry of the problem, themselves first."""
        r = self.span
        return np.stack(
            [
                np.concatenate([means[list(order), :r] @ turn, means[list(order), r:]], axis=1)
                for order, turn in self.symmetries
            ]
        )

    def _modes(self, n: int) -> np.ndarray:
        return np.pad(self.modes, ((0, 0), (0, n - self.span)))


def open_mean_flow(session: Session, tolerance: float = 1e-12, device: str = "cpu") -> MeanFlow:
    """Compile the flow of a problem's means. tolerance is the absolute error of each average.

    Raises BadInput for what is not covered: other objectives, Euclidean flows, learned weights or scales, and the limit
    of many dimensions.
    """
    problem, derivation = session.problem, session.derivation
    require_tempered_reverse_kl(
        problem, "fixed points are found for", "leave it out, or follow the flow by `annealvi integrate`"
    )
    if problem.flow.manifold != "sphere":
        raise BadInput("flow.manifold", "fixed points are found on spheres alone", "set flow.manifold = sphere")
    if problem.flow.learn != ("means",):
        found = f"fixed points are found where the means alone are learned, not {', '.join(problem.flow.learn)}"
        raise BadInput("flow.learn", found, 'set flow.learn = ["means"]')
    if derivation.geometry.large_dimension:
        raise BadInput(
            "problem",
            "the limit of many dimensions is no gradient flow at unequal scales",
            "leave out --large-dimension",
        )
    forces = replace(session, derivation=replace(derivation, system=force_system(derivation)))
    given = session.modes(problem.target.coordinates)
    kept = list(session.symbolic.independent_modes)
    frame = np.linalg.qr(given[kept].T)[0]
    in_span = given @ frame
    radii = np.array(problem.proposal.radii)
    longest = max(float(radii.max()), float(np.linalg.norm(given, axis=1).max()))
    smallest = min(*problem.target.scales, *problem.proposal.scales)
    modes = {session.derivation.setting.target.means[k]: n for n, k in enumerate(session.symbolic.independent_modes)}
    means = {a: i for i, a in enumerate(derivation.setting.proposal.means)}
    towards, between = [], []
    for n, (_, inner, _) in enumerate(derivation.overlaps.moving):
        own = [means[a] for a in inner.args if a in means]
        if len(own) == 2:
            between.append((n, own[0], own[1]))
        else:
            towards.append((n, own[0], next(modes[a] for a in inner.args if a in modes)))
    angle = min(1.0, smallest / longest)
    kernel = forces.compile(device, tolerance)
    symmetries = symmetries_of(problem, in_span)
    return MeanFlow(
        session,
        kernel,
        in_span[kept],
        in_span,
        radii,
        problem.space.dimension,
        angle,
        symmetries,
        tuple(towards),
        tuple(between),
    )


def symmetries_of(problem: Problem, modes: np.ndarray) -> tuple[tuple[tuple[int, ...], np.ndarray], ...]:
    """Return the problem's symmetries, the identity first.

    They are exchanges of components of equal parameters and radius, times rotations of modes (K, r) onto modes of equal
    parameters. For a problem with more than MOST_SYMMETRIES only the identity is returned.
    """
    proposal, target = problem.proposal, problem.target
    exchanges = _permutations(list(zip(*parameters_of(proposal).values(), proposal.radii, strict=True)))
    turns = []
    for order in _permutations(list(zip(*parameters_of(target).values(), strict=True))):
        turn = np.linalg.lstsq(modes, modes[list(order)], rcond=None)[0]
        if np.allclose(modes @ turn, modes[list(order)], atol=1e-9 * np.abs(modes).max()) and np.allclose(
            turn @ turn.T, np.eye(len(turn))
        ):
            turns.append(turn)
    if len(exchanges) * len(turns) > MOST_SYMMETRIES:
        exchanges, turns = exchanges[:1], turns[:1]
    return tuple(itertools.product(exchanges, turns))


def _permutations(kinds: list[tuple[float, ...]]) -> list[tuple[int, ...]]:
    """Return the permutations of equal things among each other, the identity first.

    Only the identity is returned where there are too many things.
    """
    if len(kinds) > MOST_PERMUTED:
        return [tuple(range(len(kinds)))]
    orders = itertools.permutations(range(len(kinds)))
    return [order for order in orders if all(kinds[i] == kinds[j] for i, j in enumerate(order))]


def tangent_basis(means: np.ndarray) -> np.ndarray:
    """Return orthonormal bases (..., n, n − 1) of the spaces orthogonal to the means (..., n).

    The basis is the columns, other than the mean itself, of a reflection that maps the first axis to the mean.
    """
    unit = means / np.linalg.norm(means, axis=-1, keepdims=True)
    n = unit.shape[-1]
    sign = np.where(unit[..., :1] < 0, -1.0, 1.0)
    normal = unit.copy()
    normal[..., :1] += sign
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.eye(n)[:, 1:] - 2 * normal[..., :, None] * normal[..., None, 1:]


def retract(means: np.ndarray, basis: np.ndarray, step: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Move the means (..., L, n) by tangent coordinates (..., L(n − 1)), and put them back on their spheres."""
    size, n = means.shape[-2:]
    parts = step.reshape(*step.shape[:-1], size, n - 1)
    moved = means + np.einsum("...inm,...im->...in", basis, parts)
    return radii[:, None] * moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def _in_basis(basis: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    parts = np.einsum("...inm,...in->...im", basis, vectors)
    return parts.reshape(*parts.shape[:-2], parts.shape[-2] * parts.shape[-1])
