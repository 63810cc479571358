"""The general equations at given K and L: sums are written out, and entries become a problem's own symbols."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import sympy as sp

from derive.dynamics.general import GeneralDerivation, closed_form
from derive.objects.expectation import Expectation
from derive.objects.indices import COMPONENTS, MODES, Entry, I, Sum
from derive.objects.mixtures import (
    DIMENSION,
    PROPOSAL,
    TARGET,
    Average,
    Deviation,
    IndexedMixture,
    LogDensity,
    Mixture,
    Responsibility,
    Sample,
)
from derive.objects.notation import indexed_name, symbol_tex
from derive.objects.objective import MixtureExpectation, Setting
from derive.objects.parameters import PARAMETERS
from derive.objects.step import DefinitionKind, Equation, Equations, Step, definitions, rates
from derive.objects.vectors import (
    ExpectedVector,
    GaussianVector,
    Gradient,
    Inner,
    RadialSlope,
    SquaredDeviation,
    Vector,
    VectorSymbol,
)
from derive.rules.coordinates import ParameterRate, Slope
from derive.rules.flow import Descent, OverlapRate
from derive.rules.gradient_rules import has_vectors, slopes_written_out

Point = dict[sp.Symbol, int]

_WRITTEN_OUT = ("share", "share_star", "D")
"""Families that only the general equations use."""


class Instance:
    """The equations of one setting, as instances of the general ones.

    setting: the mixtures of given components. general: the general derivation of its objective and flow.
    """

    def __init__(self, setting: Setting, general: GeneralDerivation) -> None:
        self.setting, self.general = setting, general
        self._sizes = {COMPONENTS: setting.proposal.size, MODES: setting.target.size}
        self._at_sizes = {symbol: sp.Integer(size) for symbol, size in self._sizes.items()}
        self._defined = {(e.symbol.family, len(e.indices)): e for e in definitions(general.closed) if e.symbol}
        self._known: dict[tuple[str, tuple[int, ...]], sp.Expr] = {}
        self._plans: dict[Sum, tuple[list[sp.Expr], list[sp.Expr]]] = {}
        self._averages: dict[sp.Symbol, Expectation] = {}

    def steps(self) -> tuple[Step, ...]:
        """The general steps at this K and L, and the step that gives the closed equations their final form.

        Each equation stands there once for each value of its free indices.
        """
        return (
            *(self._step(step) for step in self.general.steps),
            Step(
                "given numbers of modes and components",
                "Sums are written out. Where a mixture's scales coincide Σ_k ρ*_k = 1 and Σ_j ρ_j ‖x − a_i‖² = "
                "‖x − a_i‖² are used, and pairs of responsibilities leave the shares.",
                *self._given(self.closed()),
            ),
        )

    def _given(self, closed: Equations) -> tuple[Equations, Equations]:
        """The closed equations before and after they get their final form.

        A definition of which a common constant is dropped has another label before.
        """
        constants = {e.label for e in self._energies(closed)} | {"e_mean"}
        before = self._equations(self.general.closed, frozenset())
        return tuple(
            replace(e, label=f"{e.label} with constants") if e.label in constants else e for e in before
        ), closed

    def _step(self, step: Step) -> Step:
        vectors = frozenset(e.label for e in (*step.before, *step.after) if _is_vector(e.value))
        return replace(step, before=self._equations(step.before, vectors), after=self._equations(step.after, vectors))

    def _equations(self, equations: Equations, vectors: frozenset[str]) -> Equations:
        found: dict[str, Equation] = {}
        for equation in equations:
            for point in self._points(equation):
                label, left, symbol = self._named(equation, point)
                if label not in found:
                    value = self.value(equation.value, point, equation.label in vectors)
                    found[label] = Equation(label, left, value, symbol)
        return tuple(found.values())

    def velocities(self) -> Equations:
        """The velocity of each mean as a combination of means and modes, with named averages as coefficients."""

        def coefficient(factor: sp.Expr) -> sp.Expr:
            return self._written(closed_form(factor), {})

        found = []
        for equation in rates(self.general.velocities):
            for point in self._points(equation):
                label, left, _ = self._named(equation, point)
                vector = self._combined(slopes_written_out(equation.value.xreplace(_numbers(point))), coefficient)
                found.append(Equation(label, left, vector))
        return tuple(found)

    def closed(self) -> Equations:
        """The closed rates in the setting's symbols, and the definitions of the averages that they use.

        Names that only the general equations use are written out.
        """
        found: dict[str, Equation] = {}
        for equation in self.general.closed:
            if equation.symbol is not None and (equation.symbol.family in _WRITTEN_OUT or _is_average(equation)):
                continue
            for point in self._points(equation):
                label, left, symbol = self._named(equation, point)
                if label not in found:
                    found[label] = Equation(label, left, self._written(equation.value, point), symbol)
        closed = self._without_common_energies(tuple(found.values()))
        return (*closed, *self.definitions(closed))

    def definitions(self, equations: Equations) -> Equations:
        """The definitions of the averages that closed equations use."""

        def kind(average: Expectation) -> DefinitionKind:
            (x,), share = average.variables, average.integrand
            alone = isinstance(share, Responsibility) and not x.extra
            of_target = alone and share.mixture == self.setting.target
            return DefinitionKind.TARGET_SHARE if of_target else DefinitionKind.OTHER_AVERAGE

        used = set().union(*(e.value.free_symbols for e in equations))
        ordered = sorted(
            ((s, e) for s, e in self._averages.items() if s in used), key=lambda item: sp.default_sort_key(item[1])
        )
        return tuple(Equation(s.name, symbol_tex(s), average, s, kind(average)) for s, average in ordered)

    def _points(self, equation: Equation) -> Iterator[Point]:
        ranges = (range(1, self._sizes[index.size] + 1) for index in equation.indices)
        for values in itertools.product(*ranges):
            yield dict(zip(equation.indices, values, strict=True))

    def _named(self, equation: Equation, point: Point) -> tuple[str, str, sp.Symbol | None]:
        """The label, the left-hand side and the symbol of an equation at one value of its indices."""
        if equation.symbol is not None:
            symbol = self._symbol(equation.symbol.xreplace(_numbers(point)))
            return symbol.name, symbol_tex(symbol), symbol
        stem, values = equation.label.removesuffix("_" + "".join(map(str, point))), list(point.values())
        if stem == "dQ":
            values.sort()
        numbers = {str(index): str(value) for index, value in zip(point, values, strict=True)}

        def in_numbers(match: re.Match) -> str:
            found = [numbers.get(letter, letter) for letter in match[2]]
            return f"_{{{(',' if self.setting.apart else '').join(found)}}}"

        left = re.sub(r"_(\{)?([a-z]+)(?(1)\})", in_numbers, equation.left)
        return indexed_name(stem, values, apart=self.setting.apart) if values else stem, left, None

    # The closed equations: entries become symbols, and averages that are constants become numbers.

    def _written(self, expression: sp.Expr, at: Point) -> sp.Expr:
        """A closed value at given indices."""
        if isinstance(expression, Entry):
            return self._entry(expression.family, tuple(self._at(index, at) for index in expression.indices))
        if isinstance(expression, Sum):
            constants, parts = self._parts(expression)
            numbers = range(1, self._sizes[expression.index.size] + 1)
            terms = (self._written(part, {**at, expression.index: n}) for part in parts for n in numbers)
            return sp.Add(*(self._written(constant, at) for constant in constants), *terms)
        if not expression.args:
            return self._at_sizes.get(expression, expression)
        if expression.is_Mul:  # the entries last: an average with the factor 1/σ_j² − 1/σ_l² = 0 is not needed
            factors: list[sp.Expr] = []
            for factor in sorted(expression.args, key=lambda e: isinstance(e, Entry)):
                factors.append(self._written(factor, at))
                if factors[-1] == 0:
                    return sp.S.Zero
            return sp.Mul(*factors)
        return expression.func(*(self._written(argument, at) for argument in expression.args))

    def _at(self, index: sp.Expr, at: Point) -> int:
        return at[index] if index in at else int(self._at_sizes.get(index, index))

    def _parts(self, node: Sum) -> tuple[list[sp.Expr], list[sp.Expr]]:
        """What of a sum needs no writing out if scales coincide, and the terms that do.

        Σ_k ρ̄*_ik = 1 and Σ_j S_ij = d. The own mean's part in the shares of the proposal vanishes as it is.
        """
        if node not in self._plans:
            of_target = node.index.size == MODES
            mixture, general = (self.setting.target, TARGET) if of_target else (self.setting.proposal, PROPOSAL)
            whole = {"S_star": DIMENSION, "share_star": sp.S.One} if of_target else {"S": DIMENSION}
            alone = {e: whole[e.family] for e in node.term.atoms(Entry) if e.family in whole}
            constants, parts = [], [node.term]
            if alone and _coincide(mixture):
                term = sp.expand(node.term.xreplace({general.scale(node.index): mixture.scales[0]}))
                split = [part.as_independent(node.index, as_Add=False) for part in sp.Add.make_args(term)]
                constants = [constant * alone[rest] for constant, rest in split if rest in alone]
                parts = [constant * rest for constant, rest in split if rest not in alone]
            self._plans[node] = constants, parts
        return self._plans[node]

    def _entry(self, family: str, indices: tuple[int, ...]) -> sp.Expr:
        key = family, indices
        if key not in self._known:
            self._known[key] = self._meaning(Entry(family, *indices))
        return self._known[key]

    def _meaning(self, entry: Entry) -> sp.Expr:
        equation = self._defined.get((entry.family, len(entry.indices)))
        named = equation is None or not (_is_average(equation) or entry.family in _WRITTEN_OUT)
        if equation is None or equation.symbol is None or named:
            return self._symbol(entry)
        numbers = dict(zip(equation.symbol.indices, entry.indices, strict=True))
        if entry.family in _WRITTEN_OUT:
            return self._written(equation.value, {index: int(n) for index, n in numbers.items()})
        average = self.scalar(equation.value.xreplace(numbers))
        if not isinstance(average, Expectation):
            return average
        (x,) = average.variables
        if average.integrand == SquaredDeviation(x):
            return DIMENSION + x.extra
        if entry.family.startswith("rhoup") and not x.extra:
            entry = Entry(entry.family.replace("rhoup", "rho"), *entry.indices)
        symbol = self._symbol(entry)
        self._averages[symbol] = average
        return symbol

    def _without_common_energies(self, closed: Equations) -> Equations:
        """The equations without the energies' terms that all components share, which drop out of the rates."""
        energies = self._energies(closed)
        if len(energies) < 2:
            return closed
        terms = {e.label: dict.fromkeys(sp.Add.make_args(sp.expand(e.value))) for e in energies}
        common = set.intersection(*(set(found) for found in terms.values()))
        return tuple(
            replace(e, value=sp.Add(*(term for term in terms[e.label] if term not in common)))
            if e.label in terms
            else e
            for e in closed
        )

    def _energies(self, closed: Equations) -> Equations:
        return tuple(e for e in closed if re.fullmatch(r"e_\d+", e.label))

    # Any general value: the nodes keep their meaning, and get the setting's mixtures, vectors and samples.

    def value(self, value: Any, point: Point, vector: bool = False) -> Any:
        """A value at the given indices, in the nodes that the checks know."""
        at = _numbers(point)
        if isinstance(value, Descent):
            gradient = self._vector(value.gradient.xreplace(at))
            return Descent(gradient, self._vector_symbol(value.mean.xreplace(at)), value.manifold)
        if isinstance(value, OverlapRate):
            overlap = self.scalar(value.overlap.xreplace(at))
            moving = tuple(
                (a, self._vector(value.velocity.xreplace({I: sp.Integer(n)})))
                for n, a in enumerate(self.setting.proposal.means, 1)
                if value.velocity != 0
            )
            return OverlapRate(overlap, moving)
        if isinstance(value, ParameterRate):
            numbers = range(1, self.setting.proposal.size + 1)
            rates_of_all = tuple(self.scalar(value.rates.xreplace({I: sp.Integer(n)})) for n in numbers)
            component = int(value.component.xreplace(at)) - 1
            return ParameterRate(
                value.slope, component, rates_of_all, tuple(value.slope.symbols(self.setting.proposal))
            )
        expression = value.xreplace(at)
        return self._vector(expression) if vector else self.scalar(expression)

    def scalar(self, expression: sp.Expr) -> sp.Expr:
        if isinstance(expression, Entry):
            return self._symbol(expression)
        if isinstance(expression, Sum):
            numbers = range(1, self._sizes[expression.index.size] + 1)
            return sp.Add(*(self.scalar(expression.term.xreplace({expression.index: sp.Integer(n)})) for n in numbers))
        if isinstance(expression, Average):
            integrand, x = self._seen(expression)
            return Expectation(self.scalar(integrand), self._sample(x))
        if isinstance(expression, Inner):
            u, v = (self._vector(slopes_written_out(a)) for a in expression.args)
            return u.dot(v)
        if isinstance(expression, Responsibility):
            mixture, j, x = expression.args
            return Responsibility(self._mixture(mixture), self._number(j) - 1, self._sample(x))
        if isinstance(expression, LogDensity):
            mixture, x = expression.args
            return LogDensity(self._mixture(mixture), self._sample(x))
        if isinstance(expression, MixtureExpectation):
            integrand, x, mixture = expression.args
            return MixtureExpectation(self.scalar(integrand), x, self._mixture(mixture))
        if isinstance(expression, SquaredDeviation):
            return SquaredDeviation(self._sample(expression.args[0]))
        if isinstance(expression, RadialSlope):
            return RadialSlope(self.scalar(expression.args[0]), self._sample(expression.args[1]))
        if isinstance(expression, Slope):
            functional, mixture, i = expression.args
            return expression.func(self.scalar(functional), self._mixture(mixture), self._number(i) - 1)
        if not expression.args:
            return self._at_sizes.get(expression, expression)
        return expression.func(*(self.scalar(argument) for argument in expression.args))

    def _vector(self, expression: sp.Expr) -> Vector:
        return self._combined(slopes_written_out(expression), self.scalar)

    def _combined(self, expression: sp.Expr, scalar: Callable[[sp.Expr], sp.Expr]) -> Vector:
        """A vector in index notation as a combination of atoms, with its scalar factors by `scalar`."""
        if expression == 0:
            return Vector()
        if expression.is_Add:
            return sum((self._combined(term, scalar) for term in expression.args), Vector())
        if expression.is_Mul:
            (factor,) = (f for f in expression.args if has_vectors(f))
            return scalar(expression / factor) * self._combined(factor, scalar)
        if isinstance(expression, Sum):
            numbers = range(1, self._sizes[expression.index.size] + 1)
            terms = (expression.term.xreplace({expression.index: sp.Integer(n)}) for n in numbers)
            return sum((self._combined(term, scalar) for term in terms), Vector())
        if isinstance(expression, Average):
            integrand, x = self._seen(expression)
            return _expected(self._combined(integrand, scalar), self._sample(x))
        if isinstance(expression, Gradient):
            functional, v = expression.args
            return Vector({Gradient(self.scalar(functional), self._vector_symbol(v)): sp.S.One})
        if isinstance(expression, Deviation):
            x = self._sample(expression.args[0])
            return Vector({x: sp.S.One, x.mean: sp.S.NegativeOne})
        return Vector({self._vector_symbol(expression): sp.S.One})

    def _seen(self, average: Average) -> tuple[sp.Expr, Sample]:
        """The integrand and the sample, without further dimensions if equal scales keep the integrand from them."""
        f, x = average.args
        if x.extra and all(_coincide(self._mixture(rho.mixture)) for rho in f.atoms(Responsibility)):
            plain = Sample(x.mixture, x.component)
            return f.xreplace({x: plain}), plain
        return f, x

    def _mixture(self, general: IndexedMixture) -> Mixture:
        return self.setting.target if general.star else self.setting.proposal

    def _number(self, index: sp.Expr) -> int:
        return int(index.xreplace(self._at_sizes))

    def _sample(self, x: Any) -> GaussianVector | VectorSymbol:
        if not isinstance(x, Sample):
            return x
        samples = self.setting.target_samples if x.mixture == TARGET else self.setting.samples
        sample = samples[self._number(x.component) - 1]
        return sample.lifted() if x.extra else sample

    def _vector_symbol(self, atom: sp.Expr) -> VectorSymbol:
        if isinstance(atom, Sample | VectorSymbol):
            return self._sample(atom)
        mixture = self.setting.target if atom.family == "nu" else self.setting.proposal
        return mixture.means[self._number(atom.indices[0]) - 1]

    def _symbol(self, entry: Entry) -> sp.Symbol:
        numbers = [self._number(index) for index in entry.indices]
        mixture = self.setting.target if entry.family.endswith("_star") else self.setting.proposal
        for parameter in PARAMETERS:
            if entry.family.removesuffix("_star") == parameter.letter:
                return getattr(mixture, parameter.name)[numbers[0] - 1]
        return sp.Symbol(Entry(entry.family, *numbers).named(self.setting.apart), real=True)


def _numbers(point: Point) -> dict[sp.Symbol, sp.Integer]:
    return {index: sp.Integer(n) for index, n in point.items()}


def _is_vector(value: object) -> bool:
    return isinstance(value, Descent) or (isinstance(value, sp.Expr) and has_vectors(value))


def _is_average(equation: Equation) -> bool:
    return isinstance(equation.value, Average)


def _coincide(mixture: Mixture) -> bool:
    return len(set(mixture.scales)) == 1


def _expected(vector: Vector, x: GaussianVector) -> Vector:
    """E_x of a vector by linearity; atoms that do not depend on x leave the expectation."""
    total = Vector()
    for atom, coefficient in vector:
        if x not in atom.free_symbols:
            total += Vector({atom: Expectation(coefficient, x)})
        else:
            constant, factor = coefficient.as_independent(x, as_Add=False)
            total += Vector({ExpectedVector(factor, atom, x): constant})
    return total
