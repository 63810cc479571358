"""The flow's velocity at one state, for the command `rhs`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from annealvi.output import read_json
from derive.expectation import Expectation
from derive.problem import BadInput, Problem, Proposal, one_line
from derive.short_repr import short_repr
from derive.symbolic_problem import derive_problem, symbolise
from derive.velocity import Velocity, velocity_at

LEAST_ACCURATE = 1e-5
"""Largest error of an average that a velocity is given with; averages over more than three variables are sampled."""

_KEYS = ("means", "weights", "scales", "beta")


@dataclass(frozen=True)
class State:
    """A proposal and an inverse temperature: means (L lists of one length), weights and scales (L numbers or the problem's), beta >= 0."""

    means: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    scales: tuple[float, ...]
    beta: float

    __repr__ = short_repr


def read_state(path: str, problem: Problem) -> State:
    """Read a state file: JSON with "means", and if wanted "weights", "scales", "beta" (1). BadInput names file and key."""
    try:
        document = read_json(path)
    except BadInput:
        raise
    except OSError as error:
        raise BadInput("--state", f"{error.strerror or error}", "give the path of a JSON state file", one_line(path)) from None
    except (ValueError, RecursionError) as error:
        raise BadInput(
            "", f"not JSON ({one_line(str(error))[:80]})", 'write {"means": [[3, 0], [0, 3]], "beta": 1}', one_line(path)
        ) from None
    return parse_state(document, problem, one_line(path))


def parse_state(document: Any, problem: Problem, source: str = "state") -> State:
    if not isinstance(document, Mapping):
        raise BadInput("", "the state is not a JSON object", 'write {"means": [[3, 0], [0, 3]], "beta": 1}', source)
    for key in document:
        if key not in _KEYS:
            raise BadInput(one_line(str(key))[:60], "unknown key", f"the keys are {', '.join(_KEYS)}", source)
    if "means" not in document:
        raise BadInput("means", "missing", "give L lists of coordinates", source)
    means = document["means"]
    count = len(problem.proposal.weights)
    if not isinstance(means, Sequence) or isinstance(means, str) or len(means) != count:
        raise BadInput("means", f"not a list of {count} lists", "give one list of coordinates per component of the proposal", source)
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
            raise BadInput(f"means[{i}]", "is the origin, which has no sphere", "give a nonzero mean or flow.manifold = euclidean", source)
    for key in ("weights", "scales"):
        if isinstance(document.get(key), Sequence) and len(document[key]) != count:
            raise BadInput(key, f"{len(document[key])} entries", f"give {count}, as many as the proposal's components", source)
    try:
        proposal = Proposal(
            document.get("weights", problem.proposal.weights), document.get("scales", problem.proposal.scales), problem.proposal.radius
        )
    except BadInput as mistake:
        raise BadInput(mistake.key.removeprefix("proposal."), mistake.found, mistake.remedy, source) from None
    (beta,) = _numbers("beta", [document.get("beta", 1.0)], source)
    if beta < 0:
        raise BadInput("beta", f"{beta:g} is negative", "give an inverse temperature of at least 0", source)
    return State(rows, proposal.weights, proposal.scales, beta)


def velocity(problem: Problem, state: State) -> Velocity:
    """da_i/dt, dw_i/dt, dσ_i/dt and the overlaps' rates at the state, from the derived equations.

    Averages over one variable are accurate to 17 digits, those over two or three to 1e-13. BadInput where those over more are not
    accurate to LEAST_ACCURATE.
    """
    from kernels.lattice_reference import average_and_error

    def several(average: Expectation) -> float:
        value, error = average_and_error(average, {})
        if not error <= LEAST_ACCURATE:
            found = f"an average over {len(average.variables)} variables is known to {error:.1e} only"
            raise BadInput("problem", found, "use fewer modes and components, or ones closer together")
        return value

    proposal = Proposal(state.weights, state.scales, problem.proposal.radius)
    at_state = dataclasses.replace(problem, proposal=proposal)
    try:
        derivation = derive_problem(at_state)
    except ArithmeticError as error:  # a rule checked its own result and refused it
        raise BadInput("problem", f"the derivation stops ({error})", "please report it with this problem file") from error
    length = len(state.means[0])
    modes = [[*mean, *[0.0] * (length - len(mean))] for mean in problem.target.means]
    return velocity_at(derivation, state.means, modes, symbolise(at_state).values, state.beta, several)


def result(problem: Problem, state: State) -> dict[str, Any]:
    """The JSON of `annealvi rhs`: everything in it is a rate of change; weights and scales rest unless they are learned."""
    rates = velocity(problem, state)
    return {
        "means": rates.means,
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
            raise BadInput(key, f"{one_line(str(x))[:40]!r} is not a finite number below 1e100", "write plain numbers", source)
    return tuple(float(x) for x in row)
