"""The flow of the components themselves, with its linearisation.

The means move in the span of the modes and a few orthogonal dimensions. The overlaps are poor coordinates wherever
means and modes are linearly dependent. The means, on spheres moved along the tangent spaces, remain good coordinates
there. Learned weights w = softmax(θ), scales σ = e^τ and variances e^{2τ} move through θ and τ. In these coordinates
the flow is the gradient flow of the unit metric, so the linearisation is symmetric and its eigenvalues are real.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from annealvi.fixed_points.symmetries import symmetries_of
from annealvi.fixed_points.tangent_spaces import in_basis, retract, tangent_basis
from annealvi.session.session import Session
from derive.dynamics.forces import descent_system
from derive.objects.parameters import PARAMETERS, SCALES, WEIGHTS, Parameter
from derive.objects.short_repr import short_repr
from derive.objects.states import StateKind
from derive.problem.objective_scope import require_tempered_reverse_kl
from derive.problem.specification import COVARIANCES, BadInput
from kernels.integrate.domain import STRAY, excess
from kernels.integrate.kernel import Kernel

STEPS = np.array([1.0, 2.0, 3.0])
DIFFERENCES = np.array([45.0, -9.0, 1.0]) / 60
"""Central differences of sixth order: f' ≈ Σ differences (f(x + step h) − f(x − step h)) / h."""
FINE, COARSE = 1e-2, 1e-4
"""The differences' steps h, of sixth and of second order, in units of the distance over which the forces change.

That distance is an angle of a mean, in radians the smallest scale divided by the longest vector, and one for a
logarithm. The rule of sixth order errs by some 1e-13 of the forces, and amplifies their own error of 1e-12 a
hundredfold.
"""
MOST_UNEQUAL = 4.0
"""Largest ratio of learned scales. The time that an average over two variables takes grows like its fifth power."""


@dataclass(frozen=True)
class MeanFlow:
    """The flow of L components: of their means and, where learned, of their log weights and log scales.

    A place is an array (L, p + n). Each component has a row: first the p learned logarithms, log w_i before log σ_i,
    and then the n coordinates of its mean, n from r to d. The first r coordinates lie in the span of the modes. The
    weights of a place sum to one, which fixes the common shift of the log weights.

    Attributes
    ----------
    session : Session
        The problem.
    kernel : Kernel
        The compiled forces and rates of logarithms.
    modes : ndarray
        Shape (r, r). The independent modes in coordinates of their span.
    all_modes : ndarray
        Shape (K, r). All modes in these coordinates.
    learned : tuple of Parameter or StateKind
        The p learned parameters, WEIGHTS before SCALES before StateKind.COVARIANCE, the variance along an axis.
    on_spheres : bool
        Whether each mean keeps its length.
    radii : ndarray
        Shape (L,). The unit of length of each mean: the radius of its sphere, or the longest mode or scale.
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
        (state, mean, mean) of each state that is an overlap of means; of squared lengths in the Euclidean flow.
    """

    session: Session
    kernel: Kernel
    modes: np.ndarray
    all_modes: np.ndarray
    learned: tuple[Parameter | StateKind, ...]
    on_spheres: bool
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
    def lead(self) -> int:
        """p, the number of logarithms before a mean's coordinates."""
        return len(self.learned)

    @property
    def unturned(self) -> int:
        """p + r, the number of columns that no rotation about the modes changes."""
        return self.lead + self.span

    @property
    def least_orthogonal(self) -> int:
        """1 on spheres if all modes are at the origin, else 0: how many orthogonal dimensions the means need."""
        return int(self.on_spheres and self.span == 0)

    @property
    def most_orthogonal(self) -> int:
        """min(L, d − r), the number of dimensions orthogonal to the modes that the means can span."""
        return min(len(self.radii), self.dimension - self.span)

    def states(self, places: np.ndarray) -> np.ndarray:
        """Return the states (N, states) of places (N, L, p + n)."""
        means = places[..., self.lead :]
        modes = self._modes(means.shape[-1])
        vectors = np.concatenate([np.broadcast_to(modes, (len(means), *modes.shape)), means], axis=1)
        states = self.session.states_of_gram(vectors @ vectors.transpose(0, 2, 1))
        for n, parameter in enumerate(self.learned):
            states[:, self.session.positions_of(parameter)] = np.exp(_power(parameter) * places[..., n])
        return states

    def is_covered(self, places: np.ndarray) -> np.ndarray:
        """Whether each place is one where the averages are accurate and in reach, shape (N,).

        Its states lie in the intervals for which the kernel's averages are made, and its learned scales within a factor
        MOST_UNEQUAL of each other.
        """
        covered = np.all(excess(self.kernel, self.states(places)) <= STRAY, axis=1)
        for n, parameter in enumerate(self.learned):
            if parameter is not WEIGHTS:
                covered &= np.ptp(places[..., n], axis=1) <= np.log(MOST_UNEQUAL)
        return covered

    def log_weights(self, places: np.ndarray) -> np.ndarray:
        """Return the log weights, shape (N, L), of places (N, L, p + n)."""
        if WEIGHTS in self.learned:
            return places[..., 0]
        return np.broadcast_to(np.log(self.session.problem.proposal.weights), places.shape[:-1])

    def forces(self, beta: np.ndarray | float, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the forces on means and the rates of logarithms.

        The forces are the coefficients of the modes, shape (N, L, r), and of the means, (N, L, L), in each mean's
        velocity before the projection. The rates have shape (N, L, p).
        """
        count, size = places.shape[:2]
        states = self.states(places)
        values = self.kernel.rhs_at_beta(beta, states)
        to_modes, to_means = np.zeros((count, size, self.span)), np.zeros((count, size, size))
        for n, i, k in self.towards_modes:
            to_modes[:, i, k] = values[:, n]
        for n, i, j in self.between_means:
            to_means[:, i, j] = to_means[:, j, i] = values[:, n]
        rates = np.zeros((count, size, self.lead))
        for n, parameter in enumerate(self.learned):
            own = self.session.positions_of(parameter)
            rates[..., n] = values[:, own] / states[:, own] / _power(parameter)
        if WEIGHTS in self.learned:  # The slopes along θ sum to zero, whereas a softmax knows θ up to a common shift.
            rates[..., 0] -= rates[..., 0].mean(axis=1, keepdims=True)
        return to_modes, to_means, rates

    def velocity(self, beta: np.ndarray | float, places: np.ndarray) -> np.ndarray:
        """Return the velocity (N, L, p + n) at the places (N, L, p + n)."""
        to_modes, to_means, rates = self.forces(beta, places)
        return np.concatenate([rates, self._moved_means(to_modes, to_means, places[..., self.lead :])], axis=-1)

    def strength(self, beta: np.ndarray | float, places: np.ndarray) -> np.ndarray:
        """Return the largest sum of the magnitudes of the forces on one mean or logarithm, shape (N,).

        A residual is compared to this strength. A mode's force is itself a difference of responsibilities, so the
        strength is at least their share of the force. Otherwise it would vanish where one component lies between two
        modes and nothing else pulls at it. A scale is stretched by the entropy at a rate of d w_i, and a weight by the
        difference of energies of order one plus β times a squared distance.
        """
        to_modes, to_means, _ = self.forces(beta, places)
        means = places[..., self.lead :]
        lengths = np.linalg.norm(self.modes, axis=1)
        heaviest = np.exp(self.log_weights(places).max(axis=1))
        sizes = self.radii if self.on_spheres else np.linalg.norm(means, axis=-1)
        pulls = np.abs(to_modes) @ lengths + (np.abs(to_means) @ sizes[..., None])[..., 0]
        longest = self.radii.max() if len(lengths) == 0 or not self.on_spheres else lengths.max()
        strengths = [np.max(pulls, axis=1), np.asarray(beta) * heaviest * longest]
        if WEIGHTS in self.learned:
            strengths.append(heaviest * (1 + np.asarray(beta) / self.angle**2))
        if SCALES in self.learned:
            strengths.append(heaviest * self.dimension)
        if StateKind.COVARIANCE in self.learned:
            strengths.append(heaviest)
        return np.max(np.broadcast_arrays(*strengths), axis=0)

    def basis(self, places: np.ndarray) -> np.ndarray:
        """Return orthonormal directions (N, L, p + n, p + m) along which a component may move.

        On spheres m = n − 1, otherwise m = n. The D = L(p + m) coordinates along them are the flow's.
        """
        p = self.lead
        means = places[..., p:]
        n = means.shape[-1]
        along = tangent_basis(means) if self.on_spheres else np.tile(np.eye(n), (*means.shape[:-1], 1, 1))
        if p == 0:
            return along
        basis = np.zeros((*places.shape, p + along.shape[-1]))
        basis[..., range(p), range(p)] = 1.0
        basis[..., p:, p:] = along
        return basis

    @property
    def least_unit(self) -> float:
        """The smallest natural size of a coordinate."""
        return min(float(self.radii.min()), 1.0 if self.learned else np.inf)

    def units(self, width: int) -> np.ndarray:
        """Return the natural size of each of `width` columns or directions, shape (L, width)."""
        units = np.repeat(self.radii[:, None], width, axis=1)
        units[:, : self.lead] = 1.0
        return units

    def reaches(self, width: int) -> np.ndarray:
        """Return the distance along each of `width` directions over which the forces change, shape (L, width)."""
        reaches = self.angle * self.units(width)
        reaches[:, : self.lead] = 1.0
        if SCALES in self.learned:  # The squared length of a sample has a relative spread of √(2/d).
            reaches[:, self.learned.index(SCALES)] = min(1.0, float(np.sqrt(2 / self.dimension)))
        return reaches

    def moved(self, places: np.ndarray, basis: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Move places (..., L, p + n) by coordinates (..., D), back on their spheres and to weights of sum one."""
        p = self.lead
        size, width = len(self.radii), basis.shape[-1]
        parts = step.reshape(*step.shape[:-1], size, width)
        along, means = parts[..., p:], places[..., p:]
        if self.on_spheres:
            flat = along.reshape(*step.shape[:-1], size * (width - p))
            means = retract(means, basis[..., p:, p:], flat, self.radii)
        else:
            means = means + along
        logs = places[..., :p] + parts[..., :p]
        if WEIGHTS in self.learned:
            logs[..., :1] -= logsumexp(logs[..., :1], axis=-2, keepdims=True)
        return np.concatenate([logs, means], axis=-1)

    def tangent_velocity(self, beta: np.ndarray | float, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the velocity (N, D) in the basis of the places, and the basis (N, L, p + n, p + m)."""
        basis = self.basis(places)
        return in_basis(basis, self.velocity(beta, places)), basis

    def linearisation(
        self, beta: np.ndarray | float, places: np.ndarray, basis: np.ndarray, fine: bool = False
    ) -> np.ndarray:
        """Return the covariant derivative of the velocity in the basis, shape (N, D, D).

        It is computed by central differences of second order, or of sixth order if `fine`.
        """
        count, size, columns = places.shape
        reaches = self.reaches(basis.shape[-1]).ravel()
        steps, weights, h = (STEPS, DIFFERENCES, FINE) if fine else (np.ones(1), np.full(1, 0.5), COARSE)
        signed = np.concatenate([steps, -steps])
        moves = h * signed[:, None, None] * np.diag(reaches)
        shifted = self.moved(places[:, None, None], basis[:, None, None], moves[None])
        betas = np.repeat(np.broadcast_to(beta, count), len(signed) * len(reaches))
        velocities = self.velocity(betas, shifted.reshape(len(betas), size, columns))
        velocities = velocities.reshape(count, len(signed), len(reaches), size, columns)
        projected = in_basis(basis[:, None, None], velocities)
        slopes = np.tensordot(np.concatenate([weights, -weights]), projected, (0, 1)) / h
        slopes /= reaches[:, None]
        return slopes.transpose(0, 2, 1)

    def transverse(self, beta: float, place: np.ndarray) -> np.ndarray:
        """Return the linearised flow (L, L) along any direction orthogonal to the modes and to all means.

        The states are stationary along such a direction, and so are the forces.
        """
        to_modes, to_means, _ = (f[0] for f in self.forces(beta, place[None]))
        if not self.on_spheres:
            return to_means
        means = place[:, self.lead :]
        pull = to_modes @ self._modes(means.shape[-1]) + to_means @ means
        return to_means - np.diag(np.sum(pull * means, -1) / self.radii**2)

    def images(self, place: np.ndarray) -> np.ndarray:
        """Return the images (G, L, p + n) of a place under every symmetry of the problem, itself first."""
        p, q = self.lead, self.unturned
        return np.stack(
            [
                np.concatenate([place[list(order), :p], place[list(order), p:q] @ turn, place[list(order), q:]], axis=1)
                for order, turn in self.symmetries
            ]
        )

    def _moved_means(self, to_modes: np.ndarray, to_means: np.ndarray, means: np.ndarray) -> np.ndarray:
        pull = to_modes @ self._modes(means.shape[-1]) + to_means @ means
        if not self.on_spheres:
            return pull
        return pull - np.sum(pull * means, -1, keepdims=True) / self.radii[:, None] ** 2 * means

    def _modes(self, n: int) -> np.ndarray:
        return np.pad(self.modes, ((0, 0), (0, n - self.span)))


def _power(parameter: Parameter | StateKind) -> int:
    """The power of e^τ that a learned parameter is: a variance is the square of a scale."""
    return 2 if parameter == StateKind.COVARIANCE else 1


def open_mean_flow(session: Session, tolerance: float = 1e-12, device: str = "cpu") -> MeanFlow:
    """Compile the flow of a problem's components. tolerance is the absolute error of each average.

    Raises BadInput for what is not covered: other objectives, means that rest, and the limit of many dimensions.
    """
    problem, derivation = session.problem, session.derivation
    require_tempered_reverse_kl(
        problem, "fixed points are found for", "leave it out, or follow the flow by `annealvi integrate`"
    )
    if "means" not in problem.flow.learn:
        found = f"with {' and '.join(problem.flow.learn)} alone, every place of the means has its own fixed points"
        raise BadInput("flow.learn", found, "let the flow learn the means as well")
    if derivation.geometry.large_dimension:
        raise BadInput(
            "problem",
            "the limit of many dimensions is no gradient flow at unequal scales",
            "leave out --large-dimension",
        )
    variances = COVARIANCES in problem.flow.learn
    if variances and (problem.coordinates > 1 or problem.flow.metric != "log"):
        found = "fixed points are found for one learned variance of each component, in metric log"
        raise BadInput("flow.learn", found, "leave covariances out, or follow the flow by `annealvi integrate`")
    forces = replace(session, derivation=replace(derivation, system=descent_system(derivation)))
    given = session.modes(problem.coordinates)
    directions = session.coordinates.directions(problem.coordinates)
    frame = np.linalg.qr(directions.T)[0]
    in_span = given @ frame
    on_spheres = problem.flow.manifold == "sphere"
    scales = problem.target.scales + (() if "scales" in problem.flow.learn else problem.proposal.scales)
    if problem.has_covariances:
        given_shapes = [*problem.mode_covariances, *(() if variances else problem.component_covariances)]
        scales = (*scales, *np.sqrt(np.linalg.eigvalsh(given_shapes).ravel()))
    farthest = float(np.linalg.norm(given, axis=1).max())
    radii = np.array(problem.proposal.radii if on_spheres else (max(farthest, *scales),) * len(problem.proposal.radii))
    modes = {v: n for n, v in enumerate(session.coordinates.direction_symbols())}
    means = {a: i for i, a in enumerate(derivation.setting.proposal.means)}
    towards, between = [], []
    for n, (_, inner, _) in enumerate(derivation.overlaps.moving):
        own = [means[a] for a in inner.args if a in means]
        if len(own) == 2:
            between.append((n, own[0], own[1]))
        else:
            towards.append((n, own[0], next(modes[a] for a in inner.args if a in modes)))
    return MeanFlow(
        session,
        forces.compile(device, tolerance),
        directions @ frame,
        in_span,
        (
            *(parameter for parameter in PARAMETERS if parameter.name in problem.flow.learn),
            *([StateKind.COVARIANCE] if variances else []),
        ),
        on_spheres,
        radii,
        problem.space.dimension,
        min(1.0, min(scales) / max(float(radii.max()), farthest)),
        symmetries_of(problem, in_span, frame),
        tuple(towards),
        tuple(between),
    )
