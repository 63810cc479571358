"""A session: one problem with everything that follows from it.

`open_session` runs the derivation. The session then hands its parts to the other modules of this folder: `coordinates`
maps states to vectors and back, `starts` draws initial states, `compilation` makes kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import sympy as sp

from annealvi.session import compilation
from annealvi.session.coordinates import Coordinates
from annealvi.session.span_coordinates import SpanCoordinates
from annealvi.session.starts import random_states_in_parts
from derive.dynamics.adaptive_schedule import with_adaann
from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import SymbolicProblem, symbolise
from derive.objects.parameters import Parameter, parameters_of
from derive.objects.short_repr import short_repr
from derive.objects.states import StateKind
from derive.problem.arguments import LEAST, checked
from derive.problem.schedules import AdaptiveRule, Schedule, make_rule, make_schedule, settling_time
from derive.problem.specification import COVARIANCES, BadInput, Problem

if TYPE_CHECKING:
    from kernels.integrate.kernel import Kernel
    from kernels.particles.covariances import Covariances

TIME_TO_SETTLE = 50.0
"""Time that the flow is given to settle once the schedule has ended."""


@dataclass(frozen=True)
class Session:
    """One problem with its derived equations, its schedule, and the numbers of its parameters.

    Make one with `annealvi.open_session`. The states of a session are the summary statistics in the order of
    `state_names`: the overlaps first, then the learned parameters of the components, weights before scales. K is the
    number of modes of the target, L the number of components of the proposal, d the dimension of the space, and r the
    number of linearly independent modes.

    Attributes
    ----------
    problem : Problem
        The problem as it was read.
    symbolic : SymbolicProblem
        The problem's mixtures as SymPy objects, with the numbers of their symbols.
    derivation : Derivation
        The derivation's steps and the closed system of ODEs that they end with.
    schedule : Schedule
        The temperature as a formula in time; under an adaptive rule, the temperature until the rule acts.
    values : mapping from sympy.Symbol to float
        The numbers of the system's parameters.
    rule : AdaptiveRule or None
        The rule of an adaptive schedule.
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

    @cached_property
    def coordinates(self) -> Coordinates:
        """The maps to and from states, to which the methods below delegate."""
        kind = SpanCoordinates if self.problem.has_covariances else Coordinates
        return kind(self.problem, self.symbolic, self.derivation)

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the states, in order."""
        return self.coordinates.state_names

    @property
    def overlap_count(self) -> int:
        """How many of the states are overlaps."""
        return len(self.derivation.overlaps.moving)

    def positions_of(self, *kinds: StateKind | Parameter) -> list[int]:
        """Return the places of the states of some kinds.

        Parameters
        ----------
        *kinds : StateKind or Parameter

        Returns
        -------
        list of int
            In the order of the states.
        """
        return self.coordinates.positions_of(*kinds)

    def modes(self, dimension: int | None = None) -> np.ndarray:
        """Return the target's means, padded with zeros.

        Parameters
        ----------
        dimension : int, optional
            Number of coordinates; by default that of the problem's space.

        Returns
        -------
        ndarray, shape (K, dimension)
        """
        return self.coordinates.modes(dimension)

    def mixtures(
        self, dimension: int | None = None
    ) -> tuple[np.ndarray, Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
        """Return the numbers of the two mixtures, as the particle simulation takes them.

        Parameters
        ----------
        dimension : int, optional
            Number of coordinates of the modes; by default that of the problem's space.

        Returns
        -------
        modes : ndarray, shape (K, dimension)
        target : dict from str to ndarray, shape (K,)
            The target's weights and scales by name.
        proposal : dict from str to ndarray, shape (L,)
            The proposal's weights and scales by name.
        """
        target, proposal = (
            {name: np.array(values) for name, values in parameters_of(mixture).items()}
            for mixture in (self.problem.target, self.problem.proposal)
        )
        return self.modes(dimension), target, proposal

    def covariances(self) -> Covariances | None:
        """Return the covariances of the two mixtures, as the particle simulation takes them.

        Returns
        -------
        Covariances or None
            The K and L matrices of shape (r, r) in the target's coordinates, and the metric of learned ones; None
            where all components are isotropic.
        """
        from kernels.particles.covariances import Covariances

        problem = self.problem
        if not problem.has_covariances:
            return None
        target, proposal = np.array(problem.mode_covariances), np.array(problem.component_covariances)
        return Covariances(target, proposal, problem.flow.metric)

    def covariances_of_states(self, states: np.ndarray) -> np.ndarray:
        """Return the components' covariances at some states, in the target's coordinates.

        Parameters
        ----------
        states : ndarray, shape (..., states)

        Returns
        -------
        ndarray, shape (..., L, r, r)
            Those of the problem where they are not learned.

        Raises
        ------
        BadInput
            If all components are isotropic.
        """
        if not isinstance(self.coordinates, SpanCoordinates):
            raise BadInput("proposal.covariances", "all components are isotropic", "give covariances or learn them")
        return self.coordinates.covariances_of_states(states)

    def states_of_run(self, run: Any, suffix: str = "") -> np.ndarray:
        """Compute the states of a run's records, or of rates, errors or biases in the same form.

        Parameters
        ----------
        run : ParticleRun, ExtrapolatedRun or VelocityEstimate
        suffix : str
            The ending of the attributes that are read, such as "_standard_error".

        Returns
        -------
        ndarray, shape (..., states)
        """
        M, Q, parameters = (getattr(run, f"{name}{suffix}") for name in ("M", "Q", "parameters"))
        if self.problem.has_covariances:
            M, covariances = getattr(run, f"X{suffix}"), getattr(run, f"covariances{suffix}")
            parameters = {**parameters, COVARIANCES: covariances}
        return self.states_of_overlaps(M, Q, parameters)

    def states_of_gram(self, gram: np.ndarray) -> np.ndarray:
        """Compute states from Gram matrices of the independent modes and the proposal means, in that order.

        Parameters
        ----------
        gram : ndarray, shape (n, r + L, r + L)

        Returns
        -------
        ndarray, shape (n, states)
            Learned weights and scales are those of the problem.
        """
        return self.coordinates.states_of_gram(gram)

    def states_of_vectors(self, means: np.ndarray) -> np.ndarray:
        """Compute states from proposal means.

        Parameters
        ----------
        means : ndarray, shape (n, L, d)

        Returns
        -------
        ndarray, shape (n, states)
            Learned weights and scales are those of the problem.
        """
        return self.coordinates.states_of_vectors(means)

    def means_of_states(self, states: np.ndarray, dimension: int | None = None) -> np.ndarray:
        """Find proposal means that have the overlaps of one state, for the problem's own modes.

        Parameters
        ----------
        states : ndarray, shape (states,)
        dimension : int, optional
            Number of coordinates of the means; by default that of the problem's space.

        Returns
        -------
        ndarray, shape (L, dimension)
            Unique up to rotations that leave the modes where they are.

        Raises
        ------
        ValueError
            If no vectors of that dimension have these overlaps.
        """
        return self.coordinates.means_of_states(states, dimension)

    def states_of_overlaps(self, M: np.ndarray, Q: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
        """Compute states from overlaps and learned parameters. The map is linear, so it takes rates to rates.

        Parameters
        ----------
        M : ndarray, shape (..., L, K)
            Inner products of proposal means and modes; where covariances stand in a span, the means' coordinates in
            it, (..., L, r).
        Q : ndarray, shape (..., L, L)
            Inner products of proposal means.
        parameters : mapping from str to array-like, shape (..., L)
            The proposal's parameters by name, such as "weights"; only learned ones enter, and others may be left out.

        Returns
        -------
        ndarray, shape (..., states)
        """
        return self.coordinates.states_of_overlaps(M, Q, parameters)

    def gram_of_states(self, states: np.ndarray) -> np.ndarray:
        """Compute the Gram matrix of all modes and all proposal means at one state.

        Parameters
        ----------
        states : ndarray, shape (states,)

        Returns
        -------
        ndarray, shape (K + L, K + L)
            In units of the problem's lengths, modes first.
        """
        return self.coordinates.gram_of_states(states)

    def require_state(self, state: np.ndarray, key: str, source: str) -> None:
        """Refuse an array that is not a state.

        Parameters
        ----------
        state : ndarray, shape (states,)
        key, source : str
            Where the user gave the state, for the message.

        Raises
        ------
        BadInput
            If no real vectors have these overlaps, a weight or scale is not positive, or the weights do not sum to one.
        """
        self.coordinates.require_state(state, key, source)

    def require_states(self, states: np.ndarray, key: str, source: str) -> None:
        """Refuse many arrays of which one is not a state; a million take seconds.

        Parameters
        ----------
        states : ndarray, shape (n, states)
        key, source : str
            Where the user gave the states, for the message, which adds the index of the first that is refused.

        Raises
        ------
        BadInput
            As `require_state` does.
        """
        self.coordinates.require_states(states, key, source)

    def compile(
        self,
        device: str = "auto",
        tolerance: float = 1e-12,
        expectations: str = "proxy",
        precision: str = "float64",
        stabilised: bool = False,
    ) -> Kernel:
        """Generate and compile the kernel of the derived system with this problem's parameters and schedule.

        Parameters
        ----------
        device : {"auto", "cpu", "cuda"}
        tolerance : float
            Absolute error of each average.
        expectations : {"proxy", "quadrature"}
            How the kernel computes averages: by Chebyshev tables where these reach the tolerance, in up to three
            coordinates for averages over several variables, or by quadrature.
        precision : {"float64", "float32"}
        stabilised : bool
            Whether the kernel has a second method, RKC, for steps that stability bounds; it acts at rtol >= 1e-7.

        Returns
        -------
        Kernel

        Raises
        ------
        BadInput
            If an average cannot be tabulated.
        DeviceUnavailable
            If the device cannot run here.
        """
        options = {"tolerance": tolerance, "expectations": expectations, "device": device, "precision": precision}
        options["stabilised"] = stabilised
        return compilation.compile_with_schedule(
            self.problem, self.derivation.system, self.values, self.schedule, **options
        )

    def with_rule(self) -> Derivation:
        """Derive the flow of the inverse temperature under the rule "adaann", with beta as the last state.

        Returns
        -------
        Derivation

        Raises
        ------
        BadInput
            If the schedule has no such rule, or the session was opened in the limit of many dimensions: there the
            squared length is correlated with the logits, and the variance that the rule needs is not derived. Nor is
            it with covariances.
        """
        if self.rule is None or self.rule.kind != "adaann":
            found = f"{self.problem.schedule.kind!r} has no equation in the summary statistics"
            raise BadInput("schedule.kind", found, "simulate it, or set schedule.kind = adaann")
        if self.derivation.geometry.large_dimension:
            found = "the rule's variance is not derived in the limit of many dimensions"
            raise BadInput("schedule.kind", found, "leave out --large-dimension, or choose a schedule with a formula")
        return with_adaann(self.derivation)

    def compile_with_rule(self, device: str, tolerance: float, expectations: str = "proxy") -> Kernel:
        """Generate and compile the kernel of the autonomous system that `with_rule` derives.

        Parameters
        ----------
        device : {"auto", "cpu", "cuda"}
        tolerance : float
            Absolute error of each average.
        expectations : {"proxy", "quadrature"}
            As for `compile`.

        Returns
        -------
        Kernel

        Raises
        ------
        BadInput
            As `with_rule` and `compile` do.
        """
        system = self.with_rule().system
        assert self.rule is not None  # with_rule refuses a session without a rule
        values = self.symbolic.values
        return compilation.compile_with_rule(
            self.problem, system, values, self.rule, tolerance=tolerance, device=device, expectations=expectations
        )

    @partial(checked, least={**LEAST, "n": 0})
    def random_states(self, n: int, seed: int) -> np.ndarray:
        """Draw initial states from the exact law of the overlaps of independent means, each uniform on its sphere.

        Parameters
        ----------
        n : int
            Number of states, zero included.
        seed : int

        Returns
        -------
        ndarray, shape (n, states)
        """
        (states,) = self.random_states_in_parts(n, seed, n)
        return states

    def random_states_in_parts(self, n: int, seed: int, size: int) -> Iterator[np.ndarray]:
        """Draw the states of `random_states` part by part, which takes less memory than all at once.

        Parameters
        ----------
        n, seed : int
            As for `random_states`; the numbers are the same.
        size : int
            Most states of a part.

        Yields
        ------
        ndarray, shape (up to size, states)
        """
        return random_states_in_parts(self.coordinates, n, seed, size)

    def end_time(self) -> float:
        """Return the time at which a run ends by default.

        Returns
        -------
        float
            The settling time of the schedule plus `TIME_TO_SETTLE`, in units of the flow's time; `TIME_TO_SETTLE`
            alone at a constant temperature.
        """
        if self.schedule.kind == "constant":
            return TIME_TO_SETTLE
        return settling_time(self.schedule) + TIME_TO_SETTLE


@checked
def open_session(problem: Problem, large_dimension: bool = False) -> Session:
    """Derive the equations of a problem and make its schedule.

    Parameters
    ----------
    problem : Problem
        From `annealvi.load_problem`, or built in code.
    large_dimension : bool, optional
        Derive the limit d → ∞ of the terms that unequal scales make depend on the dimension d, instead of equations
        that are exact in every d.

    Returns
    -------
    Session

    Raises
    ------
    BadInput
        If the derivation does not cover the problem.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.T0=30"]))
    >>> session.state_names
    ('m_1', 'm_2', 's')
    >>> session.random_states(5, seed=1).shape
    (5, 3)
    """
    from kernels.machine.stages import stage

    try:
        with stage("deriving the equations"):
            symbolic = symbolise(problem, large_dimension)
            derivation = symbolic.derived(problem.name)
    except ArithmeticError as error:  # a rule checked its own result and refused it
        raise BadInput(
            "problem", f"the derivation stops ({error})", "please report it with this problem file"
        ) from error
    return Session(
        problem,
        symbolic,
        derivation,
        make_schedule(problem.schedule),
        symbolic.parameter_values(derivation.system),
        make_rule(problem.schedule),
    )
