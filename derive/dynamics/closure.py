"""The closure of the equations in index notation: names for the inner products and the averages that are left."""

from __future__ import annotations

import sympy as sp

from derive.objects.indices import COORDINATES, MODES, Entry, I, Index, Sum, fresh
from derive.objects.mixtures import PROPOSAL, TARGET, Average, Responsibility
from derive.objects.notation import tex
from derive.objects.spans import SpanDeviation
from derive.objects.step import Equation, Equations
from derive.objects.vectors import Inner, SquaredDeviation
from derive.rules.flow import close
from derive.rules.gradient_rules import slopes_written_out


def closed_form(value: sp.Expr, spanned: bool = False) -> sp.Expr:
    """The value with names for inner products and averages; raises RuleDoesNotApplyError if a vector is left.

    spanned: the vectors are the parts outside a span.
    """
    written = slopes_written_out(value)
    named = {node: average_entry(node) for node in written.atoms(Average)}
    overlap = overlap_outside if spanned else overlap_entry
    overlaps = {node: overlap(node) for node in written.atoms(Inner)}
    return close(written.xreplace(named).xreplace(overlaps), {})


def overlap_outside(node: Inner) -> sp.Expr:
    """An inner product outside a span: Q_ij − Σ_o X_io X_jo for two means, zero for a mode."""
    if any(v.family == "nu" for v in node.args):
        return sp.S.Zero
    i, j = (v.indices[0] for v in node.args)
    o = fresh(COORDINATES)
    return overlap_entry(node) - Sum(Entry("X", i, o) * Entry("X", j, o), o)


def overlap_entry(node: Inner) -> Entry:
    """The name of an inner product: M_ik = a_i·ν_k, Q_ij = a_i·a_j, Γ_kl = ν_k·ν_l."""
    means = [v for v in node.args if v.family == "a"]
    modes = [v for v in node.args if v.family == "nu"]
    family = {2: "Q", 1: "M", 0: "Gamma"}[len(means)]
    return Entry(family, *(index for v in (*means, *modes) for index in v.indices))


def average_entry(average: Average) -> Entry:
    """The name of an average over component i; the family ends in `_star` for the target's responsibilities.

    The names of averages of the proposal's responsibilities are

        rho_ij = E_i[ρ_j],    rho_i_jl = E_i[ρ_j ρ_l],    S_ij = E_i[ρ_j ‖x − a_i‖²/σ_i²],
        ell_i = E_i[log ρ_i],    ellsq_i = E_i[(log ρ_i)²],    ellS_i = E_i[log ρ_i ‖x − a_i‖²/σ_i²],

    and rhoup_ij is rho_ij for a sample in two dimensions more. In a span with the coordinates n and m,

        rhoy_i_jn = E_i[ρ_j (x − X_i)_n],    rhoyy_i_jnm = E_i[ρ_j (x − X_i)_n (x − X_i)_m].

    Over a sample of mode k they are rhoat_kj, rhoat_k_jl and Sat_kj. Raises TypeError for any other average.
    """
    x, f = average.sample, average.integrand
    at = "at" if x.mixture == TARGET else ""
    shares = sorted(f.atoms(Responsibility), key=sp.default_sort_key)
    rest = f.xreplace({rho: sp.S.One for rho in shares if not f.has(sp.log(rho))})
    indices = [rho.component for rho in shares]
    star = shares[0].mixture.star
    logs = [sp.log(rho) for rho in shares]
    within = [base.args[1] for base, power in _powers(rest) for _ in range(power) if isinstance(base, SpanDeviation)]
    if within and rest == sp.Mul(*(SpanDeviation(x, n) for n in within)):
        return Entry("rho" + "y" * len(within) + star, x.component, *indices, *within)
    by_rest = {
        sp.S.One: ("rhoup" if x.extra and len(shares) == 1 else "rho", indices),
        SquaredDeviation(x): ("S", indices),
        logs[0]: ("ell", []),
        logs[0] ** 2: ("ellsq", []),
        logs[0] * SquaredDeviation(x): ("ellS", []),
    }
    if rest not in by_rest:
        raise TypeError(f"no name for the average of {f}")
    family, own = by_rest[rest]
    return Entry(family + at + star, x.component, *own)


def _powers(product: sp.Expr) -> list[tuple[sp.Expr, int]]:
    powers = (factor.as_base_exp() for factor in sp.Mul.make_args(product))
    return [(base, int(power)) for base, power in powers if power.is_Integer and power > 0]


def averages_named(equations: Equations) -> Equations:
    """The definitions of the averages that occur, each once, with the indices of its name free."""
    found: dict[str, Equation] = {}
    for node in sorted(set().union(*(e.value.atoms(Average) for e in equations)), key=sp.default_sort_key):
        free = _with_free_indices(node)
        name = average_entry(free)
        indices = tuple(index for index in name.indices if isinstance(index, Index))
        found.setdefault(name.name, Equation(name.name, tex(name), free, name, indices=indices))
    return tuple(found.values())


def _with_free_indices(average: Average) -> Average:
    """The average with its sample's index as i or k, and its responsibilities' as the next names of their range."""
    x = average.sample
    names: dict[Index, Index] = {x.component: I if x.mixture == PROPOSAL else fresh(MODES)}
    for index in sorted(average.atoms(Index) - {x.component}, key=sp.default_sort_key):
        names[index] = fresh(index.size, *names.values())
    apart = {old: sp.Dummy() for old in names}
    return average.xreplace(apart).xreplace({apart[old]: new for old, new in names.items()})
