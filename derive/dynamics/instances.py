"""The general equations at given K and L, as steps to check and as the closed equations of a setting."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

import sympy as sp

from derive.dynamics.closure import overlap_entry, overlap_outside
from derive.dynamics.general import GeneralDerivation
from derive.dynamics.given_components import GivenComponents, Numbers, alike, coincide
from derive.objects.expectation import Expectation
from derive.objects.indices import COORDINATES, MODES, Entry, Sum, multiplied_out
from derive.objects.mixtures import DIMENSION, PROPOSAL, TARGET, Average, Responsibility
from derive.objects.notation import indexed_name, symbol_tex
from derive.objects.objective import Setting
from derive.objects.step import DefinitionKind, Equation, Equations, Step
from derive.objects.vectors import Inner, SquaredDeviation
from derive.rules.flow import Descent, SpannedDescent
from derive.rules.gradient_rules import has_vectors

_WRITTEN_OUT = ("share", "share_star", "D")
"""Families that only the general equations use."""


class Instance:
    """The equations of one setting, as instances of the general ones.

    setting: the mixtures of given components. general: the general derivation of its objective and flow.
    """

    def __init__(self, setting: Setting, general: GeneralDerivation) -> None:
        self.setting, self.general = setting, general
        self._given, self._closed = GivenComponents(setting), _ClosedForm(setting, general.closed)

    def steps(self) -> tuple[Step, ...]:
        """The general steps at this K and L, and the step that gives the closed equations their final form.

        Each equation stands there once for each value of its free indices.
        """
        closed = self.closed()
        # A definition of which a common constant is dropped is another one before.
        constants = {e.label for e in _energies(closed)} | {"e_mean"}
        before = (
            replace(e, label=f"{e.label} with constants") if e.label in constants else e
            for e in self._equations(self.general.closed)
        )
        return (
            *(self._step(step) for step in self.general.steps),
            Step(
                "given numbers of modes and components",
                "Sums are written out. Where a mixture's scales coincide ∑_k ρ*_k = 1 and ∑_j ρ_j ‖x − a_i‖² = "
                "‖x − a_i‖² are used, and pairs of responsibilities leave the shares.",
                tuple(before),
                closed,
            ),
        )

    def velocities(self) -> Equations:
        """The velocity of each mean as a combination of means and modes, with named averages as coefficients."""
        found = []
        for equation in self.general.velocities:
            for at in self._points(equation):
                label, left, _ = self._named(equation, at)
                found.append(Equation(label, left, self._closed.vector(equation.value, at)))
        return tuple(found)

    def closed(self) -> Equations:
        """The closed rates in the setting's symbols, and the definitions of the averages that they use.

        Names that only the general equations use are written out.
        """
        found: dict[str, Equation] = {}
        for equation in self.general.closed:
            if not _is_average(equation) and not (equation.symbol and equation.symbol.family in _WRITTEN_OUT):
                for at in self._points(equation):
                    label, left, symbol = self._named(equation, at)
                    if label not in found:
                        found[label] = Equation(label, left, self._closed.scalar(equation.value, at), symbol)
        closed = _without_common_energies(tuple(found.values()))
        return (*closed, *self.definitions(closed))

    def definitions(self, equations: Equations) -> Equations:
        """The definitions of the averages that closed equations use."""

        def kind(average: Expectation) -> DefinitionKind:
            (x,), share = average.variables, average.integrand
            alone = isinstance(share, Responsibility) and not x.extra
            of_target = alone and share.mixture == self.setting.target
            return DefinitionKind.TARGET_SHARE if of_target else DefinitionKind.OTHER_AVERAGE

        used = set().union(*(e.value.free_symbols for e in equations))
        named = [(s, average) for s, average in self._closed.averages.items() if s in used]
        ordered = sorted(named, key=lambda item: sp.default_sort_key(item[1]))
        return tuple(Equation(s.name, symbol_tex(s), average, s, kind(average)) for s, average in ordered)

    def _step(self, step: Step) -> Step:
        vectors = {e.label for e in (*step.before, *step.after) if _is_vector(e.value)}
        return replace(step, before=self._equations(step.before, vectors), after=self._equations(step.after, vectors))

    def _equations(self, equations: Equations, vectors: Iterable[str] = ()) -> Equations:
        found: dict[str, Equation] = {}
        for equation in equations:
            for at in self._points(equation):
                label, left, symbol = self._named(equation, at)
                if label not in found:
                    value = self._given.value(equation.value, at, equation.label in vectors)
                    found[label] = Equation(label, left, value, symbol)
        return tuple(found.values())

    def _points(self, equation: Equation) -> Iterator[Numbers]:
        ranges = (range(1, self._given.sizes[index.size] + 1) for index in equation.indices)
        for values in itertools.product(*ranges):
            yield dict(zip(equation.indices, values, strict=True))

    def _named(self, equation: Equation, at: Numbers) -> tuple[str, str, sp.Symbol | None]:
        """The label, the left-hand side and the symbol of an equation at one value of its indices."""
        if equation.symbol is not None:
            symbol = self._given.scalar(equation.symbol, at)
            return symbol.name, symbol_tex(symbol), symbol
        stem, values = equation.label.removesuffix("_" + "".join(map(str, at))), list(at.values())
        if stem == "dQ" or stem == "dSigma":
            values = [*values[:-2], *sorted(values[-2:])]
        numbers = {str(index): str(value) for index, value in zip(at, values, strict=True)}

        def in_numbers(match: re.Match) -> str:
            groups = ([numbers.get(letter, letter) for letter in group] for group in match[2].split(";"))
            return f"_{{{';'.join((',' if self.setting.apart else '').join(group) for group in groups)}}}"

        left = re.sub(r"_(\{)?([a-z;]+)(?(1)\})", in_numbers, equation.left)
        grouped = (values[:1], values[1:]) if len(values) > 2 else (values,)
        return indexed_name(stem, *grouped, apart=self.setting.apart) if values else stem, left, None


class _ClosedForm(GivenComponents):
    """The translation of closed equations, in which averages that are constants become numbers.

    averages: the averages that have been used, by their symbols.
    """

    def __init__(self, setting: Setting, closed: Equations) -> None:
        super().__init__(setting)
        self.averages: dict[sp.Symbol, Expectation] = {}
        self._given = GivenComponents(setting)
        self._defined = {(e.symbol.family, len(e.indices)): e for e in closed if e.symbol is not None}
        self._known: dict[tuple, sp.Expr] = {}
        self._parts: dict[Sum, tuple[sp.Expr, sp.Expr]] = {}

    def scalar(self, expression: sp.Expr, at: Numbers) -> sp.Expr:
        if isinstance(expression, Inner):
            expression = overlap_outside(expression) if self.setting.spanned else overlap_entry(expression)
        return super().scalar(expression, at)

    def terms(self, node: Sum, at: Numbers) -> Iterable[tuple[sp.Expr, Numbers]]:
        """The terms of a sum, of which those that a complete sum leaves stand first.

        Where scales coincide, Σ_k ρ̄*_ik = 1 and Σ_j S_ij = d. The own mean's part in the shares of the proposal
        vanishes as it is.
        """
        if node not in self._parts:
            self._parts[node] = self._without_complete_sums(node)
        constant, term = self._parts[node]
        yield constant, at
        if term != 0:
            yield from ((term, {**at, node.index: n}) for n in range(1, self.sizes[node.index.size] + 1))

    def _without_complete_sums(self, node: Sum) -> tuple[sp.Expr, sp.Expr]:
        if node.index.size == COORDINATES:
            return sp.S.Zero, node.term
        of_target = node.index.size == MODES
        mixture, general = (self.setting.target, TARGET) if of_target else (self.setting.proposal, PROPOSAL)
        if any(e.family == f"Lambda{general.star}" for e in node.term.atoms(Entry)):
            return _complete_in_span(node, general.star) if alike(mixture) else (sp.S.Zero, node.term)
        dimension = DIMENSION - self.setting.coordinates
        whole = {"S_star": dimension, "share_star": sp.S.One} if of_target else {"S": dimension}
        alone = {e: whole[e.family] for e in node.term.atoms(Entry) if e.family in whole}
        if not alone or not coincide(mixture):
            return sp.S.Zero, node.term
        term = multiplied_out(node.term.xreplace({general.scale(node.index): mixture.scales[0]}))
        split = [part.as_independent(node.index, as_Add=False) for part in sp.Add.make_args(term)]
        constants = (constant * alone[rest] for constant, rest in split if rest in alone)
        return sp.Add(*constants), sp.Add(*(constant * rest for constant, rest in split if rest not in alone))

    def entry(self, family: str, numbers: tuple[int, ...]) -> sp.Expr:
        key = family, numbers
        if key not in self._known:
            self._known[key] = self._meaning(Entry(family, *numbers))
        return self._known[key]

    def _meaning(self, entry: Entry) -> sp.Expr:
        if entry.family in ("rhoy", "rhoy_star") and alike(self._given.mixture_of(entry)):
            return self._by_stein(entry)
        equation = self._defined.get((entry.family, len(entry.indices)))
        if equation is None or not (_is_average(equation) or entry.family in _WRITTEN_OUT):
            return self.symbol(entry)
        at = {index: int(n) for index, n in zip(equation.indices, entry.indices, strict=True)}
        if entry.family in _WRITTEN_OUT:
            return self.scalar(equation.value, at)
        average = self._given.scalar(equation.value, at)
        if not isinstance(average, Expectation):
            return average
        (x,) = average.variables
        if average.integrand == SquaredDeviation(x):
            return DIMENSION - self.setting.coordinates + x.extra
        if entry.family.startswith("rhoup") and not x.extra:
            entry = Entry(entry.family.replace("rhoup", "rho"), *entry.indices)
        symbol = self.symbol(entry)
        self.averages[symbol] = average
        return symbol

    def _by_stein(self, entry: Entry) -> sp.Expr:
        """E_i[ρ_j (x − X_i)_n] = Σ_mlo Σ_inm E_i[ρ_j ρ_l] Λ_mo (X_jo − X_lo) for a common Λ."""
        mixture = self._given.mixture_of(entry)
        i, j, n = (int(index) for index in entry.indices)
        x = self.setting.samples[i - 1]
        own = mixture.span[j - 1]
        places = range(own.size)
        total = sp.S.Zero
        for l, other in enumerate(mixture.span, 1):
            apart = (own.mean[o] - other.mean[o] for o in places)
            pull = own.precision * sp.Matrix(list(apart))
            slope = sp.Add(*(x.span.covariance[n - 1, m] * pull[m] for m in places))
            if slope != 0:
                star = "_star" if entry.family.endswith("_star") else ""
                average = Expectation(Responsibility(mixture, j - 1, x) * Responsibility(mixture, l - 1, x), x)
                symbol = self.symbol(Entry(f"rho{star}", i, j, l))
                self.averages[symbol] = average
                total += slope * symbol
        return sp.expand(total)


def _complete_in_span(node: Sum, star: str) -> tuple[sp.Expr, sp.Expr]:
    """The part of a sum over components that Σ_j ρ_j = 1 makes a constant, and the term of the rest.

    All components have the precision of the first one. Then Σ_j rhoy_i_jn = 0 and Σ_j rhoyy_i_jnm = Σ_inm, too.
    """
    index, lambdas = node.index, f"Lambda{star}"
    common = {e: Entry(lambdas, 1, *e.indices[1:]) for e in node.term.atoms(Entry) if e.family == lambdas}
    constant = rest = sp.S.Zero
    for part in sp.Add.make_args(multiplied_out(node.term.xreplace(common))):
        moments = [e for e in part.atoms(Entry) if e.family in {family + star for family in ("rho", "rhoy", "rhoyy")}]
        (moment,) = moments
        family = moment.family.removesuffix("_star")
        whole = {"rho": sp.S.One, "rhoy": sp.S.Zero}.get(family, Entry("Sigma", moment.indices[0], *moment.indices[2:]))
        completed = part.xreplace({moment: whole})
        own = family == "rho" and not star  # in a sum of differences X_i − X_j, in which component i has no part
        if own or index in part.xreplace({moment: sp.Dummy()}).free_symbols:
            rest += part
        else:
            constant += completed
    return constant, rest


def _energies(closed: Equations) -> Equations:
    return tuple(e for e in closed if re.fullmatch(r"e_\d+", e.label))


def _without_common_energies(closed: Equations) -> Equations:
    """The equations without the energies' terms that all components share, which drop out of the rates."""
    energies = _energies(closed)
    if len(energies) < 2:
        return closed
    terms = {e.label: dict.fromkeys(sp.Add.make_args(multiplied_out(e.value))) for e in energies}
    common = set.intersection(*map(set, terms.values()))
    own = {label: sp.Add(*(term for term in found if term not in common)) for label, found in terms.items()}
    return tuple(replace(e, value=own.get(e.label, e.value)) for e in closed)


def _is_vector(value: object) -> bool:
    if isinstance(value, SpannedDescent):
        return value.coordinate is None
    return isinstance(value, Descent) or (isinstance(value, sp.Expr) and has_vectors(value))


def _is_average(equation: Equation) -> bool:
    return isinstance(equation.value, Average)
