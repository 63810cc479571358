"""The equations for any K and L against the derived rates, at random numbers for every symbol, to 30 digits."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator

import pytest
import sympy as sp
from derive.dynamics.parameter_steps import scale_steps, weight_steps
from derive.dynamics.vector_steps import flow_steps, gradient_steps
from derive.writing.indexed_equations import IndexedEquation, indexed_equations
from derive.writing.indexed_instances import instantiate

from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import derive_problem, symbolise
from derive.objects.expectation import Expectation
from derive.objects.mixtures import DIMENSION
from derive.objects.notation import indexed_name
from derive.objects.step import Equation, definitions
from derive.objects.vectors import Vector
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import Flow, Problem, Proposal, Space, Target
from derive.rules.flow import close
from derive.rules.geometry import overlaps_of

DIGITS = 40
BOUND = sp.Float("1e-30", DIGITS)
LEARN = {
    "means": ("means",),
    "weights": ("means", "weights"),
    "scales": ("means", "scales"),
    "all": ("means", "weights", "scales"),
}


def up_to_closure(problem: Problem) -> Derivation:
    """A derivation without the steps on averages, which take the most time and do not affect the rates."""
    symbolic = symbolise(problem)
    setting, overlaps = symbolic.setting, overlaps_of(symbolic.setting, symbolic.geometry)
    rules = {"means": gradient_steps, "weights": weight_steps, "scales": scale_steps}
    slopes = {learned: rule(setting) for learned, rule in rules.items() if learned in setting.learn}
    flow = flow_steps(setting, overlaps, {learned: steps[-1].after for learned, steps in slopes.items()})
    before = (step for steps in slopes.values() for step in steps)
    return Derivation(setting, symbolic.geometry, overlaps, (*before, *flow), None)


def derivation_of(modes: int, components: int, manifold: str, learn: str = "means", unequal: str = "") -> Derivation:
    """A derivation with modes in general position; `unequal` names the mixtures, `q` and `p`, whose scales differ."""
    rng = random.Random(f"{modes} {components}")
    means = tuple(tuple(rng.uniform(-2, 2) for _ in range(modes + 1)) for _ in range(modes))
    scales = {
        name: tuple(1 + 0.1 * n for n in range(size)) if name in unequal else (scale,) * size
        for name, size, scale in (("q", components, 1.0), ("p", modes, 1.5))
    }
    return up_to_closure(
        Problem(
            target=Target((1 / modes,) * modes, means, scales["p"]),
            proposal=Proposal((1 / components,) * components, scales["q"]),
            flow=Flow(manifold, learn=LEARN[learn]),
            space=Space(12),
        )
    )


def closure(derivation: Derivation) -> tuple[dict[str, Equation], dict[sp.Expr, sp.Symbol]]:
    """The closed equations and the vectors' velocities by label, and the symbols that name the averages."""
    closed = next(step for step in derivation.steps if step.rule == "closure")
    found = {e.label: e for e in closed.after}
    velocities = [
        e for step in derivation.steps if step.rule in ("projected flow", "gradient flow") for e in step.after
    ]
    averages = {e.value: e.symbol for e in definitions(closed.after) if isinstance(e.value, Expectation)}
    return {**found, **{e.label: e for e in velocities}}, averages


def numbers(symbols: set[sp.Symbol], derivation: Derivation, seed: int = 0) -> dict[sp.Symbol, sp.Float]:
    """Random positive numbers for the symbols, which obey the identities of the averages.

    The identities are Σ_j E_i[ρ_j] = 1 and Σ_j E_i[ρ_j ‖x − a_i‖²/σ_i²] = d, and the weights sum to one.
    """
    rng = random.Random(seed)

    def draw() -> sp.Float:
        return sp.Float(rng.getrandbits(130) / sp.Integer(2) ** 130 + sp.Rational(1, 2), DIGITS)

    setting = derivation.setting
    shares: dict[sp.Symbol, sp.Float] = {}
    at = {s: draw() for s in sorted(symbols | {DIMENSION}, key=lambda s: s.name)}
    for head, mixture in (("", setting.proposal), ("_star", setting.target)):
        for i in range(1, setting.proposal.size + 1):
            for letter, total in (("rho", sp.S.One), ("S", at[DIMENSION])):
                parts = [draw() for _ in range(mixture.size)]
                row = (
                    sp.Symbol(indexed_name(letter + head, (i, j), apart=setting.apart), real=True)
                    for j in range(1, mixture.size + 1)
                )
                shares.update({s: total * p / sum(parts) for s, p in zip(row, parts, strict=True)})
    weights = [draw() for _ in setting.proposal.weights]
    shares.update({w: x / sum(weights) for w, x in zip(setting.proposal.weights, weights, strict=True)})
    return {**at, **shares}


class Rates:
    """The closed rates of a derivation by label, as scalars in the symbols of overlaps and averages."""

    def __init__(self, derivation: Derivation):
        found, self.averages = closure(derivation)
        self.derivation, self.names = derivation, dict(derivation.overlaps.names)
        self.atoms = (*derivation.setting.proposal.means, *derivation.setting.target.means)
        rates = {label: e for label, e in found.items() if e.symbol is None or label.startswith("e_")}
        self.derived = {label: self.scalars(e.value) for label, e in rates.items()}

    def scalars(self, value: sp.Expr | Vector) -> list[sp.Expr]:
        parts = [value.coefficient(atom) for atom in self.atoms] if isinstance(value, Vector) else [value]
        return [close(part.xreplace(self.averages), self.names) for part in parts]

    def differing_from(self, indexed: tuple[IndexedEquation, ...]) -> Iterator[str]:
        """Yield the labels of the equations whose two forms differ at random numbers."""
        mine = instantiate(indexed, self.derivation)
        assert set(mine) == set(self.derived)
        for label, value in mine.items():
            if label == "e_1" and self.derivation.setting.proposal.size == 1:
                continue  # an energy is defined up to a constant that all components share, so a single one has none
            pairs = list(zip(self.scalars(value), self.derived[label], strict=True))
            at = numbers(set().union(*(side.free_symbols for pair in pairs for side in pair)), self.derivation)
            for general, derived in pairs:
                a, b = (sp.Float(side.xreplace(at).evalf(DIGITS), DIGITS) for side in (general, derived))
                if abs(a - b) > BOUND * max(1, abs(b)):
                    yield label
                    break


def disagreements(derivation: Derivation, indexed: tuple[IndexedEquation, ...]) -> list[str]:
    return list(Rates(derivation).differing_from(indexed))


@pytest.mark.parametrize("manifold", ["sphere", "euclidean"])
@pytest.mark.parametrize("components", [1, 2, 3, 4])
@pytest.mark.parametrize("modes", [1, 2, 3, 4])
def test_equal_scales(modes, components, manifold):
    derivation = derivation_of(modes, components, manifold)
    assert disagreements(derivation, indexed_equations(derivation.setting)) == []


@pytest.mark.parametrize("learn", ["means", "weights", "scales", "all"])
@pytest.mark.parametrize("components", [1, 2, 3])
@pytest.mark.parametrize("modes", [1, 2, 3])
def test_unequal_scales_and_learned_parameters(modes, components, learn):
    manifold = "sphere" if (modes + components) % 2 else "euclidean"
    derivation = derivation_of(modes, components, manifold, learn, "qp")
    assert disagreements(derivation, indexed_equations(derivation.setting)) == []


@pytest.mark.parametrize("manifold", ["sphere", "euclidean"])
@pytest.mark.parametrize("unequal", ["", "q", "p"])
@pytest.mark.parametrize("learn", ["weights", "scales"])
def test_one_mixture_of_unequal_scales(learn, unequal, manifold):
    derivation = derivation_of(3, 2, manifold, learn, unequal)
    assert disagreements(derivation, indexed_equations(derivation.setting)) == []


def test_more_than_nine_modes():
    derivation = derivation_of(10, 1, "sphere")
    assert disagreements(derivation, indexed_equations(derivation.setting)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("modes", "components", "learn", "unequal"), [(10, 1, "means", "p"), (1, 10, "weights", "")])
def test_more_than_nine_modes_of_unequal_scale_or_components_of_learned_weight(modes, components, learn, unequal):
    derivation = derivation_of(modes, components, "sphere", learn, unequal)
    assert disagreements(derivation, indexed_equations(derivation.setting)) == []


def test_means_that_rest():
    problem = Problem(flow=Flow(learn=("weights",)))
    derivation = up_to_closure(problem)
    indexed = indexed_equations(derivation.setting)
    assert disagreements(derivation, indexed) == []
    assert all(
        value == 0 for label, value in instantiate(indexed, derivation).items() if label.startswith(("dM", "dQ"))
    )


def test_the_built_in_modes_that_depend_on_each_other():
    for name in ("bimodal", "simplex", "two-scales", "learned-weights", "learned-scales"):
        derivation = derive_problem(BUILT_IN[name])
        assert disagreements(derivation, indexed_equations(derivation.setting)) == []


def mutants(indexed: tuple[IndexedEquation, ...]):
    """Each equation with one of its parts doubled, dropped or given the other sign."""
    for n, equation in enumerate(indexed):
        for k, (coefficient, part) in enumerate(equation.parts):
            for factor in (
                (2, 0) if equation.left.family in ("u", "u_star") else (2, 0, -1)
            ):  # the equations contain only the squares of u, so its sign does not matter
                parts = list(equation.parts)
                parts[k] = (factor * coefficient, part)
                wrong = dataclasses.replace(equation, parts=tuple(parts))
                yield f"{equation.left} part {k} times {factor}", (*indexed[:n], wrong, *indexed[n + 1 :])


@pytest.mark.parametrize("manifold", ["sphere", "euclidean"])
def test_every_mutant_is_caught(manifold):
    derivation = derivation_of(2, 2, manifold, "all", "qp")
    indexed, rates = indexed_equations(derivation.setting), Rates(derivation)
    survivors = [name for name, wrong in mutants(indexed) if not any(rates.differing_from(wrong))]
    assert survivors == []


def test_a_swapped_index_is_caught():
    """The two indices of an entry inside a sum are swapped, not only those of a coefficient."""
    derivation = derivation_of(3, 3, "sphere", "means", "qp")
    rates = Rates(derivation)
    for equation in (indexed := indexed_equations(derivation.setting)):
        n = indexed.index(equation)
        for k, (coefficient, part) in enumerate(equation.parts):
            entries = sorted(
                (e for e in part.atoms(type(equation.left)) if len(e.indices) == 2), key=sp.default_sort_key
            )
            for entry in entries:
                other = type(entry)(entry.family, *entry.indices[::-1])
                if entry.family in ("Q", "Gamma") or other == entry:
                    continue
                parts = [*equation.parts[:k], (coefficient, part.xreplace({entry: other})), *equation.parts[k + 1 :]]
                wrong = (*indexed[:n], dataclasses.replace(equation, parts=tuple(parts)), *indexed[n + 1 :])
                assert any(rates.differing_from(wrong)), f"{equation.left}: {entry} as {other}"
