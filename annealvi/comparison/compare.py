"""The verdict on somebody's equations: equal, equal up to a unit of time, equal in a limit, or different and where."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import sympy as sp

from annealvi.comparison.evidence.digits import agreeing_digits
from annealvi.comparison.evidence.identity import is_identity
from annealvi.comparison.evidence.limits import limit_of_agreement
from annealvi.comparison.evidence.rates import Rates
from annealvi.comparison.evidence.samples import random_samples
from annealvi.comparison.location.repairs import Repair, Search, derived_definitions, splittings
from annealvi.comparison.reading.theirs import (
    OwnDefinition,
    Theirs,
    given_equations,
    in_order,
    read_equations,
    read_toml,
)
from annealvi.comparison.reading.variables import in_variables
from annealvi.session.session import Session, open_session
from derive.objects.parameters import WEIGHTS
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA, OdeSystem
from derive.problem.objective_scope import require_isotropic
from derive.problem.specification import BadInput, Problem

if TYPE_CHECKING:
    from annealvi.comparison.claims.fixed_points import FixedPointVerdict
    from annealvi.comparison.claims.verdicts import ClaimVerdict

EQUAL, TIME_UNIT, IN_LIMIT, DIFFERENT = "equal", "equal-up-to-time-unit", "equal-in-limit", "different"


@dataclass(frozen=True)
class EquationVerdict:
    """What was found about one equation.

    Attributes
    ----------
    state : sympy.Symbol
        The state whose rate it is, or in whose place a variable of their own has a rate.
    verdict : str
        "equal" (in the common unit of time), "factor" (equal up to a factor of its own), "different" or "missing".
    factor : sympy.Expr or None
        Theirs divided by the derived rate, where this is one factor.
    worst : dict of str to float
        The state and inverse temperature, in their names, at which the two differ most, and both values there.
    repairs : tuple of Repair
        The changes that would each make it right.
    """

    state: sp.Symbol
    verdict: str
    factor: sp.Expr | None = None
    worst: Mapping[str, float] | None = None
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Somebody's equations beside the derived ones.

    Attributes
    ----------
    verdict : str
        "equal", "equal-up-to-time-unit", "equal-in-limit" or "different"; of the claims where no equation is given.
    time_unit : sympy.Expr or None
        What their rates are multiples of the derived ones by, where it is not one.
    limit : str
        The limit in which the two are equal; empty for any other verdict.
    equations : tuple of EquationVerdict
        One for each state; none where claims alone were given.
    points : int
        At how many points the two were compared.
    seed : int
        The seed of the points.
    theirs : Theirs
        The equations as they were read.
    repaired : Theirs or None
        Their equations with the first repair of each wrong one, where that makes all of them right.
    digits : int or None
        To how many digits, at most 30, equal rates agree at three points; None where averages are over several
        variables.
    identical : bool
        Whether SymPy finds equal rates identical by rearrangement.
    claims : tuple
        What was found about each claim.
    """

    verdict: str
    time_unit: sp.Expr | None
    limit: str
    equations: tuple[EquationVerdict, ...]
    points: int
    seed: int
    theirs: Theirs
    repaired: Theirs | None = None
    digits: int | None = None
    identical: bool = False
    claims: tuple[ClaimVerdict | FixedPointVerdict, ...] = ()

    SHOWN = ("verdict", "time_unit", "limit")
    __repr__ = short_repr

    def __str__(self) -> str:
        """The verdict in words: what is wrong, where, and what makes it right."""
        from annealvi.comparison.writing.words import in_words

        return in_words(self)

    def repaired_toml(self) -> str | None:
        """Write the repaired equations as TOML.

        Returns
        -------
        str or None
            The text of a file that can be compared again; None where they were not repaired or have no such text.
        """
        from annealvi.comparison.writing.words import repaired_toml

        return repaired_toml(self)

    def repaired_latex(self) -> str | None:
        """Write the repaired equations as a LaTeX display.

        Returns
        -------
        str or None
            The text of a file that can be compared again; None where they were not repaired.
        """
        from annealvi.comparison.writing.latex import tex_of

        return None if self.repaired is None else tex_of(self.repaired)

    @property
    def agrees(self) -> bool:
        """Whether the equations are right, in their unit of time or not, and every claim holds."""
        return self.verdict in (EQUAL, TIME_UNIT) and all(claim.agrees for claim in self.claims)


def compare(
    problem: Problem | Session,
    equations: Mapping[Any, Any] | str | os.PathLike[str],
    seed: int = 0,
    *,
    claims: Mapping[str, Any] | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    device: str = "auto",
) -> Comparison:
    """Compare somebody's equations and claims with what is derived and computed for a problem.

    Both sides are evaluated at random states, inverse temperatures, weights and lengths. Averages have an error of
    1e-12, and rates count as equal within 1e-8 of their largest value.

    Parameters
    ----------
    problem : Problem or Session
    equations : mapping or path
        The rate of each state as a SymPy expression, by symbol or name; or a TOML file with the tables `names`,
        `definitions`, `equations`, `claims` and `ranges`, or a LaTeX file (.tex) with displayed equations.
    seed : int, optional
        Seed of the points and of ensembles.
    claims : mapping, optional
        A formula for each result such as "T_c", as text or as a SymPy expression, or the states of a fixed point;
        beside equations in SymPy, which may be none.
    ranges : mapping, optional
        The two ends of the range of each parameter over which the claims are compared.
    device : {"auto", "cpu", "cuda"}
        Where ensembles run.

    Returns
    -------
    Comparison

    Raises
    ------
    BadInput
        For equations and claims that cannot be read, and for claims about what the problem does not have.

    Examples
    --------
    >>> import annealvi
    >>> problem = annealvi.load_problem("bimodal")
    >>> rates = annealvi.equations(problem)
    >>> annealvi.compare(problem, {s: 2 * rate for s, rate in rates.items()}).time_unit
    2
    """
    own = problem.problem if isinstance(problem, Session) else problem
    require_isotropic(
        own, "equations are compared for", "evaluate yours beside `annealvi rhs`, which takes covariances"
    )
    session = problem if isinstance(problem, Session) else open_session(problem)
    system, values = session.derivation.system, session.symbolic.values
    of_file: Mapping[str, Any] = {}
    if isinstance(equations, Mapping):
        theirs = given_equations(equations, system, values)
    else:
        source = os.fsdecode(equations)
        of_file = {} if source.endswith(".tex") else read_toml(source)
        of_claims = "claims" in of_file and "equations" not in of_file
        no_equations = Theirs(source, {}, (), {})
        theirs = no_equations if of_claims else read_equations(equations, system, values)
    if claims is None and ranges is not None:
        raise BadInput("ranges", "given without claims", "give claims too, or write both in the file", "ranges")
    if claims is not None and ("claims" in of_file or theirs.claimed):
        raise BadInput("claims", "given twice, in the file and beside it", "give them once", "claims")
    if claims is None and not theirs.claimed and "claims" not in of_file and "ranges" not in of_file:
        return compared(session, _completed(theirs, system), seed)
    return _with_claims(session, theirs, of_file, claims, ranges, seed, device)


def _with_claims(
    session: Session,
    theirs: Theirs,
    of_file: Mapping[str, Any],
    claims: Mapping[str, Any] | None,
    ranges: Mapping[str, Any] | None,
    seed: int,
    device: str,
) -> Comparison:
    """The comparison of claims, and of the equations beside them where there are any."""
    from annealvi.comparison.claims.comparing import compared_claims
    from annealvi.comparison.claims.reading import claims_of_file, claims_of_latex, given_claims
    from annealvi.comparison.claims.results import Effort

    if claims is not None:
        read = given_claims(claims, ranges, session)
    elif theirs.claimed:
        read, left_aside = claims_of_latex(theirs, session)
        theirs = replace(theirs, left_aside=(*theirs.left_aside, *left_aside))
    else:
        read = claims_of_file(of_file, session, theirs.source)
    found = Comparison(EQUAL, None, "", (), 0, seed, theirs)
    if theirs.rates:
        found = compared(session, _completed(theirs, session.derivation.system), seed)
    verdicts = compared_claims(read, session, Effort(device, seed), theirs.source if claims is None else "claims")
    if theirs.rates or all(v.agrees for v in verdicts):
        return replace(found, claims=verdicts)
    return replace(found, verdict=DIFFERENT, claims=verdicts)


def compared(session: Session, theirs: Theirs, seed: int) -> Comparison:
    """The comparison with equations that are read already."""
    system = in_variables(session.derivation.system, theirs.variables)
    found = Rates(system, theirs, random_samples(session, seed))
    unit = found.common_unit()
    verdicts = tuple(_verdict(found, state, unit) for state in system.states)
    comparison = Comparison(DIFFERENT, None if unit == 1 else unit, "", verdicts, found.samples.size, seed, theirs)
    if all(v.verdict == "equal" for v in verdicts):
        verdict = EQUAL if unit == 1 else TIME_UNIT
        identical = is_identity(system, theirs, unit)
        return replace(comparison, verdict=verdict, digits=agreeing_digits(found, unit), identical=identical)
    missing = any(v.verdict == "missing" for v in verdicts)
    limit = "" if missing else limit_of_agreement(session, theirs, seed)
    if limit:
        return replace(comparison, verdict=IN_LIMIT, limit=limit)
    return _located(comparison, found, unit)


def _verdict(found: Rates, state: sp.Symbol, unit: sp.Expr) -> EquationVerdict:
    """What holds for one equation in a unit of time."""
    if state not in found.own:
        return EquationVerdict(state, "missing")
    factor = found.factor(state)
    if factor == unit:
        return EquationVerdict(state, "equal", factor)
    away = np.abs(found.own[state] - found.wanted(state, unit))
    n = int(np.argmax(np.where(np.isfinite(away), away, np.inf)))
    symbols = (*found.system.states, BETA, *found.system.parameters)
    place = {found.theirs.written(s): float(found.samples.numbers[s][n]) for s in symbols}
    worst = {**place, "theirs": float(found.own[state][n]), "ours": float(found.wanted(state, unit)[n])}
    return EquationVerdict(state, "different" if factor is None else "factor", factor, worst)


def _located(comparison: Comparison, found: Rates, unit: sp.Expr) -> Comparison:
    """The comparison with repairs of the wrong equations, and with the repaired equations."""
    theirs, system = comparison.theirs, found.system
    wrong = tuple(v.state for v in comparison.equations if v.verdict in ("different", "factor"))
    wanted = {s: found.wanted(s, unit) for s in theirs.rates}
    repairs = Search(system, theirs, found.samples, wanted, wrong).repairs()
    verdicts = tuple(replace(v, repairs=repairs.get(v.state, ())) for v in comparison.equations)
    repaired = theirs
    for v in verdicts:
        if v.repairs:
            repaired = with_repair(repaired, v.state, v.repairs[0], system)
    if wrong and all(repairs[s] for s in wrong):
        again = Rates(system, repaired, found.samples)
        if all(again.factor(s) == unit for s in theirs.rates):
            return replace(comparison, equations=verdicts, repaired=repaired)
    return replace(comparison, equations=verdicts)


def with_repair(theirs: Theirs, state: sp.Symbol, repair: Repair, system: OdeSystem) -> Theirs:
    """The equations with one repair made, and with the derived definitions that a missing term brings along."""
    if repair.place == "definition":
        definitions = [replace(d, formula=repair.new) if d.name == repair.name else d for d in theirs.definitions]
        (new,) = (d for d in definitions if d.name == repair.name)
        changed = new.applied(new.formula)
        named = in_order((s, changed.get(s, e)) for s, e in theirs.subexpressions)
        return replace(theirs, subexpressions=named, definitions=tuple(definitions))
    rates = {**theirs.rates, state: _exchanged(theirs, state, repair)}
    needed, brought = set(repair.new.free_symbols) if repair.place == "missing term" else set(), []
    for symbol, definition in reversed(derived_definitions(system, theirs)):
        if symbol in needed:
            needed |= definition.free_symbols
            brought.append((symbol, definition))
    more = tuple(OwnDefinition(s.name, (), e, {s: ()}) for s, e in brought[::-1])
    named = (*theirs.subexpressions, *brought[::-1])
    return replace(theirs, rates=rates, subexpressions=named, definitions=(*theirs.definitions, *more))


def _exchanged(theirs: Theirs, state: sp.Symbol, repair: Repair) -> sp.Expr:
    """The right-hand side with the new terms in the places of the old ones."""
    rate = theirs.rates[state]
    new = {part.old: part.new for part in repair.parts or (repair,)}
    for terms in splittings(theirs, rate):
        if set(new) <= set(terms):
            return sp.Add(*(new.get(term, term) for term in terms))
    return rate + repair.new


def _completed(theirs: Theirs, system: OdeSystem) -> Theirs:
    """The equations with the one rate of learned weights that is left out: the weights sum to one."""
    weights = [v.symbol for v in system.variables if v.kind == WEIGHTS]
    missing = [s for s in system.states if s not in theirs.rates]
    if len(missing) != 1 or missing[0] not in weights or theirs.variables:
        return theirs
    others = sp.Add(*(theirs.rates[s] for s in weights if s != missing[0]))
    return replace(theirs, rates={**theirs.rates, missing[0]: -others})
