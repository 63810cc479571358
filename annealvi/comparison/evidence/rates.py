"""Somebody's rates and the derived ones at the same points, and the factors between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import sympy as sp

from annealvi.comparison.evidence.evaluation import evaluated
from annealvi.comparison.evidence.factors import named_factor, same
from annealvi.comparison.evidence.samples import Samples
from annealvi.comparison.reading.theirs import Theirs
from derive.objects.lambdified import NotAveragedError
from derive.objects.system import OdeSystem
from derive.problem.specification import BadInput


class Rates:
    """The rates of both sides at all points.

    Raises BadInput for averages that do not settle.
    """

    def __init__(self, system: OdeSystem, theirs: Theirs, samples: Samples) -> None:
        self.system, self.theirs, self.samples = system, theirs, samples
        try:
            ours = samples.values(system.subexpressions)
            if not all(np.isfinite(v).all() for v in ours.values()):
                raise NotAveragedError("some of them at some states")
        except NotAveragedError:
            found = "the averages of its derived equations do not settle"
            raise BadInput("problem", found, "compare a problem with averages over fewer variables") from None
        own = _their_values(theirs, samples)
        self.ours = {s: evaluated(e, ours) for s, e in zip(system.states, system.rhs, strict=True)}
        self.own = {s: _their_rate(theirs, s, own) for s in theirs.rates}
        self.parameters = {s: samples.numbers[s] for s in system.parameters}
        self._factors: dict[sp.Symbol, sp.Expr | None] = {}

    def size(self, state: sp.Symbol) -> float:
        return float(np.abs(self.ours[state]).max())

    def factor(self, state: sp.Symbol) -> sp.Expr | None:
        """Their rate divided by the derived one, where this is a factor made of numbers and parameters."""
        if state not in self._factors:
            self._factors[state] = self._factor(state)
        return self._factors[state]

    def _factor(self, state: sp.Symbol) -> sp.Expr | None:
        if same(self.ours[state], self.own[state], self.size(state)):
            return sp.S.One
        ratios = np.empty(self.samples.size)
        for n in np.unique(self.samples.sets):
            here = self.samples.sets == n
            a, b = self.ours[state][here], self.own[state][here]
            ratio = float(a @ b / (a @ a))
            if not np.isfinite(ratio) or ratio == 0 or not same(ratio * a, b, abs(ratio) * np.abs(a).max()):
                return None
            ratios[here] = ratio
        return named_factor(ratios, self.parameters)

    def common_unit(self) -> sp.Expr:
        """The factor that most equations have in common, one where there is none."""
        factors = [f for f in map(self.factor, self.own) if f is not None and self._is_positive(f)]
        counts = {f: factors.count(f) for f in factors}
        return max(counts, key=lambda f: (counts[f], f == 1)) if counts else sp.S.One

    def _is_positive(self, factor: sp.Expr) -> bool:
        return bool((evaluated(factor, self.parameters) > 0).all()) if self.parameters else factor > 0

    def wanted(self, state: sp.Symbol, unit: sp.Expr) -> np.ndarray:
        """The derived rate (n,) in their unit of time."""
        return self.ours[state] * evaluated(unit, self.parameters)


@contextmanager
def _told(key: str, source: str) -> Iterator[None]:
    """A context in which an average that does not settle is bad input."""
    try:
        yield
    except NotAveragedError as error:
        reason = str(error).partition(";")[0]
        remedy = "write it over at most three variables, smooth, and growing more slowly than exp(z**2/2)"
        raise BadInput(key, f"an average does not settle ({reason})", remedy, source) from None


def _their_values(theirs: Theirs, samples: Samples) -> dict[sp.Symbol, np.ndarray]:
    with _told("definitions", theirs.source):
        return samples.values(theirs.subexpressions)


def _their_rate(theirs: Theirs, state: sp.Symbol, values: Mapping[sp.Symbol, np.ndarray]) -> np.ndarray:
    key = f"equations.d{theirs.written(state)}/dt"
    with _told(key, theirs.source):
        return evaluated(theirs.rates[state], values)
