"""The flow's velocity at one state: read the state from plain values, and evaluate the derived equations there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annealvi.session.session import Session, open_session
from annealvi.session.span_coordinates import SpanCoordinates
from annealvi.show.output import read_json
from derive.checks.velocity import Velocity, velocity_at
from derive.dynamics.symbolic_problem import symbolise
from derive.objects.expectation import Expectation
from derive.objects.parameters import PARAMETERS, parameters_of
from derive.objects.short_repr import short_repr
from derive.objects.states import StateKind
from derive.problem.arguments import checked
from derive.problem.field_checks import one_line, padded_to
from derive.problem.specification import COVARIANCES, BadInput, Problem, Proposal

CONSISTENT = 1e-6
"""How far an overlap that is given may lie from the value that the other overlaps imply, as a share of the largest
overlap. Numbers of seven digits are consistent to this."""

LEAST_ACCURATE = 1e-5
"""Largest error of an average in a velocity. Only averages over more than three variables, which are sampled, can
exceed it."""

_OF_COMPONENTS = (*(parameter.name for parameter in PARAMETERS), COVARIANCES)
"""The keys of what the components have beside their means."""
_KEYS = ("means", "states", "overlaps", *_OF_COMPONENTS, "beta")
_EXAMPLE = (
    '{"means": [[3, 0], [0, 3]], "beta": 1}, {"states": {"m_1": 0.1, ...}} or {"overlaps": '
    '{"M": [[...]], "Q": [[...]]}}'
)


@dataclass(frozen=True)
class State:
    """A proposal of L components with their means, and an inverse temperature.

    Attributes
    ----------
    means : tuple of L tuples of float
        Coordinates of the means, equally many for each.
    proposal : Proposal
        The components' weights, scales and covariances. Its radius plays no part.
    beta : float
        The inverse temperature, at least 0.
    by_overlaps : bool
        Whether the state was given by its overlaps; the means are then one choice among those that have these overlaps.

    Examples
    --------
    >>> import annealvi
    >>> annealvi.State(((3.0, 0.0), (0.0, 3.0)), annealvi.Proposal((0.5, 0.5), (1.0, 1.0)), beta=0.5).means
    ((3.0, 0.0), (0.0, 3.0))
    """

    means: tuple[tuple[float, ...], ...]
    proposal: Proposal
    beta: float
    by_overlaps: bool = False

    __repr__ = short_repr


def read_state(path: str, problem: Problem) -> State:
    """Read a state from a JSON file with the content that `parse_state` takes. BadInput names the file and the key."""
    try:
        document = read_json(path)
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(
            "--state", f"{error.strerror or error}", "give the path of a JSON state file", one_line(path)
        ) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(
            "",
            f"not JSON ({one_line(str(error))[:80]})",
            'write {"means": [[3, 0], [0, 3]], "beta": 1}',
            one_line(path),
        ) from None
    return parse_state(document, problem, one_line(path))


def parse_state(document: Any, problem: Problem, source: str = "state") -> State:
    """Make a state from plain values.

    document: {"means": L lists}, {"states": {name: number}} or {"overlaps": {"M": L lists of K numbers, "Q": L lists of
    L numbers}}, and optionally the keys "weights", "scales" and "covariances" (L matrices; by default the problem's
    own) and "beta" (by default 1). BadInput names the source and the key.
    """
    if not isinstance(document, Mapping):
        raise BadInput("", "the state is not a JSON object", 'write {"means": [[3, 0], [0, 3]], "beta": 1}', source)
    for key in document:
        if key not in _KEYS:
            raise BadInput(one_line(str(key))[:60], "unknown key", f"the keys are {', '.join(_KEYS)}", source)
    given = [key for key in ("means", "states", "overlaps") if key in document]
    if len(given) != 1:
        found = f"{given[1]} beside {given[0]}" if given else "neither means nor states nor overlaps"
        raise BadInput(given[1] if given else "means", found, f"give one of them: {_EXAMPLE}", source)
    if given != ["means"]:
        return _by_overlaps(document, given[0], problem, source)
    means = document["means"]
    count = len(problem.proposal.weights)
    if not isinstance(means, Sequence) or isinstance(means, str) or len(means) != count:
        raise BadInput(
            "means",
            f"not a list of {count} lists",
            "give one list of coordinates per component of the proposal",
            source,
        )
    rows = tuple(_numbers(f"means[{i}]", row, source) for i, row in enumerate(means))
    for i, row in enumerate(rows):
        if not row:
            raise BadInput(f"means[{i}]", "a mean without coordinates", "give at least one coordinate", source)
    longest = max(map(len, rows))
    rows = tuple((*row, *[0.0] * (longest - len(row))) for row in rows)
    span = problem.coordinates
    if not span <= len(rows[0]) <= problem.space.dimension:
        raise BadInput(
            "means",
            f"lists of {len(rows[0])} coordinates",
            f"give at least the target's {span} and at most space.dimension = {problem.space.dimension}",
            source,
        )
    for i, row in enumerate(rows):
        if problem.flow.manifold == "sphere" and not any(row):
            raise BadInput(
                f"means[{i}]",
                "is the origin, which has no sphere",
                "give a nonzero mean or flow.manifold = euclidean",
                source,
            )
    proposal, beta = _beside(document, problem, source)
    return State(rows, proposal, beta)


def _beside(document: Mapping[str, Any], problem: Problem, source: str) -> tuple[Proposal, float]:
    """The parameters of a document, as a proposal, and its beta."""
    count = len(problem.proposal.weights)
    given = {key: document[key] for key in _OF_COMPONENTS if key in document}
    for key, values in given.items():
        if isinstance(values, Sequence) and len(values) != count:
            raise BadInput(key, f"{len(values)} entries", f"give {count}, as many as the proposal's components", source)
    if COVARIANCES in given and not problem.has_covariances:
        remedy = "leave it out, or give or learn covariances in the problem"
        raise BadInput(COVARIANCES, "the problem neither gives nor learns covariances", remedy, source)
    proposal = _with(problem.proposal, given, source)
    r = problem.coordinates
    if COVARIANCES in given and (size := len(proposal.covariances[0])) != r:
        raise BadInput(f"{COVARIANCES}[0]", f"{size} x {size} entries", f"give {r} x {r} entries", source)
    (beta,) = _numbers("beta", [document.get("beta", 1.0)], source)
    if beta < 0:
        raise BadInput("beta", f"{beta:g} is negative", "give an inverse temperature of at least 0", source)
    return proposal, beta


def _with(proposal: Proposal, given: Mapping[str, Any], source: str) -> Proposal:
    """The proposal with other numbers of its components."""
    try:
        return dataclasses.replace(proposal, **given)
    except BadInput as mistake:
        raise BadInput(mistake.key.removeprefix("proposal."), mistake.found, mistake.remedy, source) from None


def _by_overlaps(document: Mapping[str, Any], key: str, problem: Problem, source: str) -> State:
    """Make a state from its summary statistics. Its means have the fewest coordinates that hold all modes and means."""
    session = open_session(problem)
    proposal, beta = _beside(document, problem, source)
    learned: dict[str, Any] = {}
    if key == "states":
        state = _named_states(document["states"], session, source)
        for parameter in PARAMETERS:
            if places := session.positions_of(parameter):
                learned[parameter.name] = tuple(state[places].tolist())
        if isinstance(session.coordinates, SpanCoordinates) and session.positions_of(StateKind.COVARIANCE):
            session.require_state(state, key, source)
            learned[COVARIANCES] = session.coordinates.covariances_of_states(state).tolist()
    else:
        M, Q = _matrices(document["overlaps"], problem, source)
        state = _state_of_overlaps(M, Q, session, proposal, source)
        modes = len(M[0])
        gram = session.gram_of_states(state)
        for name, matrix, own in (("M", M, gram[modes:, :modes]), ("Q", Q, gram[modes:, modes:])):
            off = np.abs(matrix - own)
            if not off.max() <= CONSISTENT * np.abs(gram).max():
                i, j = np.unravel_index(off.argmax(), off.shape)
                found = f"{matrix[i, j]:g}, and the modes, the radii and the other overlaps make it {own[i, j]:g}"
                raise BadInput(
                    f"overlaps.{name}[{i}][{j}]",
                    found,
                    "give overlaps of means on their spheres with target.means",
                    source,
                )
    session.require_state(state, key, source)
    room = min(problem.space.dimension, problem.coordinates + len(proposal.weights))
    try:
        means = session.means_of_states(state, room)
    except ValueError as error:
        raise BadInput(key, str(error), "give overlaps of real vectors", source) from None
    rows = tuple(map(tuple, means.tolist()))
    return State(rows, _with(proposal, learned, source), beta, by_overlaps=True)


def _state_of_overlaps(M: np.ndarray, Q: np.ndarray, session: Session, proposal: Proposal, source: str) -> np.ndarray:
    """The state of some overlaps; raises BadInput where they leave coordinates of the means open."""
    parameters: dict[str, Any] = parameters_of(proposal)
    problem = session.problem
    if not problem.has_covariances:
        return session.states_of_overlaps(M, Q, parameters)
    modes = np.array(problem.modes)
    rank, r = int(np.linalg.matrix_rank(modes)), problem.coordinates
    if rank < r:
        found = f"the modes span {rank} of the {r} coordinates, so overlaps leave coordinates of the means open"
        raise BadInput("overlaps", found, 'give "means" or "states"', source)
    within = np.linalg.lstsq(modes, M.T, rcond=None)[0].T
    parameters[COVARIANCES] = dataclasses.replace(problem, proposal=proposal).component_covariances
    return session.states_of_overlaps(within, Q, parameters)


def _named_states(given: Any, session: Session, source: str) -> np.ndarray:
    names = session.state_names
    if not isinstance(given, Mapping) or sorted(map(str, given)) != sorted(names):
        raise BadInput(
            "states", "not an object with one number per state", f"give numbers for {', '.join(names)}", source
        )
    return np.array([_numbers(f"states.{name}", [given[name]], source)[0] for name in names])


def _matrices(given: Any, problem: Problem, source: str) -> tuple[np.ndarray, np.ndarray]:
    count, modes = len(problem.proposal.weights), len(problem.target.weights)
    if not isinstance(given, Mapping) or set(given) != {"M", "Q"}:
        raise BadInput(
            "overlaps",
            "not an object with M and Q",
            f"give M ({count} lists of {modes}) and Q ({count} lists of {count})",
            source,
        )
    found = []
    for name, width in (("M", modes), ("Q", count)):
        rows = given[name]
        if not isinstance(rows, Sequence) or isinstance(rows, str) or len(rows) != count:
            raise BadInput(
                f"overlaps.{name}", f"not a list of {count} lists", f"give {count} lists of {width} numbers", source
            )
        table = [_numbers(f"overlaps.{name}[{i}]", row, source) for i, row in enumerate(rows)]
        if any(len(row) != width for row in table):
            raise BadInput(
                f"overlaps.{name}", "lists of other lengths", f"give {count} lists of {width} numbers", source
            )
        found.append(np.array(table))
    return found[0], found[1]


@checked
def velocity(problem: Problem, state: State | Mapping[str, Any]) -> Velocity:
    """Evaluate the derived equations at one state: the rates of means, weights, scales, covariances, overlaps.

    Parameters
    ----------
    problem : Problem
    state : State or mapping
        A mapping has one of the keys "means" (L lists of coordinates), "states" (a number by name of each state) and
        "overlaps" ({"M": L lists of K, "Q": L lists of L}). It may also have "weights", "scales" and, where the
        problem has covariances, "covariances" (L matrices), by default the problem's own, and "beta", by default 1.

    Returns
    -------
    Velocity
        Rates per unit of the flow's time: `means` (da_i/dt, with as many coordinates as the given means), `parameters`
        (by name, "weights" and "scales"), `covariances` (L matrices, where the problem has any), and the overlaps `M`
        (L, K) and `Q` (L, L).

    Raises
    ------
    BadInput
        If the state does not fit the problem, the derivation does not cover the problem, or an average over more than
        three variables is not accurate to 1e-5.

    Notes
    -----
    Averages over one variable are accurate to 17 digits, averages over two or three to 1e-13.

    Examples
    --------
    >>> import annealvi
    >>> problem = annealvi.load_problem("bimodal")
    >>> rates = annealvi.velocity(problem, {"means": [[3, 0], [0, 3]], "beta": 0.5})  # doctest: +SKIP
    >>> len(rates.means), len(rates.means[0])  # doctest: +SKIP
    (2, 2)
    """
    from kernels.averages.lattice_reference import average_and_error

    def several(average: Expectation) -> float:
        value, error = average_and_error(average, {})
        if not error <= LEAST_ACCURATE:
            found = f"an average over {len(average.variables)} variables is known to {error:.1e} only"
            raise BadInput("problem", found, "use fewer modes and components, or ones closer together")
        return value

    if not isinstance(state, State):
        state = parse_state(state, problem)
    proposal = dataclasses.replace(state.proposal, radius=problem.proposal.radius)
    at_state = dataclasses.replace(problem, proposal=proposal)
    try:
        symbolic = symbolise(at_state)
        derivation = symbolic.derived(at_state.name)
    except ArithmeticError as error:  # a rule checked its own result and refused it
        raise BadInput(
            "problem", f"the derivation stops ({error})", "please report it with this problem file"
        ) from error
    modes = padded_to(problem.modes, len(state.means[0]))
    return velocity_at(derivation, state.means, modes, symbolic.values, state.beta, several)


def result(problem: Problem, state: State) -> dict[str, Any]:
    """The JSON form of the velocity: every number is a rate of change, zero for a parameter that is not learned.

    For a state that was given by its overlaps the rates of the states, by name, stand in place of those of the means.
    """
    rates = velocity(problem, state)
    first: dict[str, Any] = {"means": rates.means}
    covariances = {COVARIANCES: rates.covariances} if problem.has_covariances else {}
    if state.by_overlaps:
        session = open_session(problem)
        M = np.array(rates.means)[:, : problem.coordinates] if problem.has_covariances else np.array(rates.M)
        states = session.states_of_overlaps(M, np.array(rates.Q), {**rates.parameters, **covariances})
        first = {"states": dict(zip(session.state_names, states.tolist(), strict=True))}
    return {
        **first,
        **rates.parameters,
        **covariances,
        "overlaps": {"M": rates.M, "Q": rates.Q},
        "device": "cpu",
    }


def _numbers(key: str, row: Any, source: str) -> tuple[float, ...]:
    if not isinstance(row, Sequence) or isinstance(row, str):
        raise BadInput(key, "not a list of numbers", "write [3.0, 0.0, 0.0], say", source)
    for x in row:
        if isinstance(x, bool) or not isinstance(x, int | float) or not abs(x) <= 1e100 or not math.isfinite(x):
            raise BadInput(
                key, f"{one_line(str(x))[:40]!r} is not a finite number below 1e100", "write plain numbers", source
            )
    return tuple(float(x) for x in row)
