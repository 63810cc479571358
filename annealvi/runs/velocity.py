"""The flow's velocity at one state, for the command `rhs`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from annealvi.session.session import Session, open_session
from annealvi.show.output import read_json
from derive.checks.velocity import Velocity, velocity_at
from derive.dynamics.symbolic_problem import symbolise
from derive.objects.expectation import Expectation
from derive.objects.short_repr import short_repr
from derive.objects.states import StateKind
from derive.problem.arguments import checked
from derive.problem.specification import BadInput, Problem, Proposal, one_line

CONSISTENT = 1e-6
"""Share of the largest overlap by which given overlaps may differ from what the others make them: what numbers of seven
digits do."""

LEAST_ACCURATE = 1e-5
"""Largest error of an average that a velocity is given with; averages over more than three variables are sampled."""

_KEYS = ("means", "states", "overlaps", "weights", "scales", "beta")
_EXAMPLE = (
    '{"means": [[3, 0], [0, 3]], "beta": 1}, {"states": {"m_1": 0.1, ...}} or {"overlaps": '
    '{"M": [[...]], "Q": [[...]]}}'
)


@dataclass(frozen=True)
class State:
    """A proposal and an inverse temperature: means (L lists of one length), weights and scales (L numbers or the
    problem's), beta >= 0.

    by_overlaps: the state was given by overlaps; the means are then one choice of those that have them.
    """

    means: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    scales: tuple[float, ...]
    beta: float
    by_overlaps: bool = False

    __repr__ = short_repr


def read_state(path: str, problem: Problem) -> State:
    """Read a state file: JSON with "means", "states" or "overlaps", and if wanted "weights", "scales", "beta" (1).

    BadInput names file and key.
    """
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
    """A state from plain values: {"means": L lists}, {"states": {name: number}} or {"overlaps": {"M": L lists of K,
    "Q": L lists of L}}.

    Beside them "weights", "scales" and "beta", if wanted. BadInput names source and key.
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
    span = problem.target.coordinates
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
    return State(rows, proposal.weights, proposal.scales, beta)


def _beside(document: Mapping[str, Any], problem: Problem, source: str) -> tuple[Proposal, float]:
    """Weights and scales, as a proposal, and beta."""
    count = len(problem.proposal.weights)
    for key in ("weights", "scales"):
        if isinstance(document.get(key), Sequence) and len(document[key]) != count:
            raise BadInput(
                key, f"{len(document[key])} entries", f"give {count}, as many as the proposal's components", source
            )
    try:
        proposal = Proposal(
            document.get("weights", problem.proposal.weights),
            document.get("scales", problem.proposal.scales),
            problem.proposal.radius,
        )
    except BadInput as mistake:
        raise BadInput(mistake.key.removeprefix("proposal."), mistake.found, mistake.remedy, source) from None
    (beta,) = _numbers("beta", [document.get("beta", 1.0)], source)
    if beta < 0:
        raise BadInput("beta", f"{beta:g} is negative", "give an inverse temperature of at least 0", source)
    return proposal, beta


def _by_overlaps(document: Mapping[str, Any], key: str, problem: Problem, source: str) -> State:
    """A state given by its summary statistics, with means that have them in as few coordinates as hold all modes and
    means."""
    session = open_session(problem)
    proposal, beta = _beside(document, problem, source)
    weights, scales = np.array(proposal.weights), np.array(proposal.scales)
    if key == "states":
        state = _named_states(document["states"], session, source)
        for kind, values in ((StateKind.WEIGHT, weights), (StateKind.SCALE, scales)):
            if learned := session.positions_of(kind):
                values[:] = state[learned]
    else:
        M, Q = _matrices(document["overlaps"], problem, source)
        state = session.states_of_overlaps(M, Q, weights, scales)
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
    room = min(problem.space.dimension, problem.target.coordinates + len(weights))
    try:
        means = session.means_of_states(state, room)
    except ValueError as error:
        raise BadInput(key, str(error), "give overlaps of real vectors", source) from None
    return State(
        tuple(map(tuple, means.tolist())), tuple(weights.tolist()), tuple(scales.tolist()), beta, by_overlaps=True
    )


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
    """da_i/dt, dw_i/dt, dσ_i/dt and the overlaps' rates at the state, from the derived equations.

    state: a State, or plain values as `parse_state` reads them, such as {"means": [[3, 0], [0, 3]], "beta": 0.5}.
    Averages over one variable are accurate to 17 digits, those over two or three to 1e-13. BadInput where those over
    more are not accurate to LEAST_ACCURATE.
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
    proposal = Proposal(state.weights, state.scales, problem.proposal.radius)
    at_state = dataclasses.replace(problem, proposal=proposal)
    try:
        symbolic = symbolise(at_state)
        derivation = symbolic.derived(at_state.name)
    except ArithmeticError as error:  # a rule checked its own result and refused it
        raise BadInput(
            "problem", f"the derivation stops ({error})", "please report it with this problem file"
        ) from error
    length = len(state.means[0])
    modes = [[*mean, *[0.0] * (length - len(mean))] for mean in problem.target.means]
    return velocity_at(derivation, state.means, modes, symbolic.values, state.beta, several)


def result(problem: Problem, state: State) -> dict[str, Any]:
    """The JSON of `annealvi rhs`: everything in it is a rate of change; weights and scales rest unless they are
    learned.

    A state given by its overlaps has the rates of the states by name in place of those of the means.
    """
    rates = velocity(problem, state)
    first: dict[str, Any] = {"means": rates.means}
    if state.by_overlaps:
        session = open_session(problem)
        parts = map(np.array, (rates.M, rates.Q, rates.weights, rates.scales))
        first = {"states": dict(zip(session.state_names, session.states_of_overlaps(*parts).tolist(), strict=True))}
    return {
        **first,
        "weights": rates.weights,
        "scales": rates.scales,
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
