"""The names of all scalar symbols, their LaTeX and their meaning. Vector symbols carry LaTeX of their own.

A name consists of a head, `_star` if the symbol belongs to the target, and at most two groups of indices. In a problem
of at most nine modes and nine components the indices of a group stand together: `M_12`, or `rho_star_1_23`, which is
the average under component 1 of the product of the target's responsibilities 2 and 3. In a larger problem every index
stands by itself: `M_1_2`, `M_10_2`, `rho_star_1_2_13`. `indexed_name` writes names and `read_name` reads them; no other
code depends on the digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sympy as sp
from sympy.core.function import AppliedUndef
from sympy.printing.latex import LatexPrinter

from derive.objects.parameters import PARAMETERS, Parameter

_HEADS = {
    **{parameter.letter: parameter.tex for parameter in PARAMETERS},
    "rho": r"\bar{\rho}",
    "ell": r"\ell",
    "Gamma": r"\Gamma",
    "lambda_q": r"\eta",
    "log_Z": r"\log Z(\beta)",
    "e_mean": r"\bar{e}",
    "ellsq": r"\overline{\ell^2}",
    "ellS": r"\overline{\ell S}",
    "rhoup": r"\bar{\varrho}",
    "rhoat": r"\tilde{\rho}",
    "Sat": r"\tilde{S}",
    "Cat": r"\tilde{C}",
    "Sigma": r"\Sigma",
    "Lambda": r"\Lambda",
    "logdet": r"\log\det\Sigma",
    "mu": r"\mu",
    "rhoy": r"\overline{\rho y}",
    "rhoyy": r"\overline{\rho y^2}",
    "sigma_ref": r"\sigma_0",
    "T0": r"T_0",
    "t0": r"t_0",
}
MOST_TOGETHER = 9
"""The largest number of modes or components for which every index has one digit."""
_NAME = re.compile(r"(?P<head>[A-Za-z]+)(?P<star>_star)?(?P<groups>(?:_[0-9]+){0,4})(?P<lifted>\+)?")
_SEPARATED = re.compile(r"_[0-9]_[0-9]$|_[0-9]{2}_[0-9]|_[0-9]+_[0-9]+_[0-9]")
_WITH_A_GROUP = {"rho", "rhoat", "C", "Cat", "Sigma", "Lambda", "A", "B", "rhoy", "rhoyy"}
"""The heads of names with a component's index in front of a group of indices."""
_ONE_INDEX = {"m", "r", "e", "ell", "ellsq", "ellS", "F", "U", "V", "N", "z", "a", "nu", "x", "R", "mu", "logdet"}
_ONE_INDEX |= {parameter.letter for parameter in PARAMETERS}


def indices_apart(*sizes: int) -> bool:
    """Whether the indices in names stand apart in a problem with these numbers of modes and components."""
    return max(sizes) > MOST_TOGETHER


def indexed_name(head: str, *groups: Sequence[object], apart: bool = False) -> str:
    """The name made of a head (with its `_star`) and groups of indices."""
    if apart:
        return "_".join([head, *(str(index) for group in groups for index in group)])
    return "_".join([head, *("".join(map(str, group)) for group in groups if group)])


@dataclass(frozen=True)
class Name:
    """The parts of a name.

    Attributes
    ----------
    head : str
        The letters before the indices.
    star : bool
        Whether the symbol belongs to the target.
    groups : tuple of tuples of str
        The groups of indices, as written.
    apart : bool
        Whether the indices of a group stand apart, as in M_10_2.
    lifted : bool
        Whether a plus marks an average over a sample in two dimensions more.
    """

    head: str
    star: bool
    groups: tuple[tuple[str, ...], ...]
    apart: bool
    lifted: bool


def read_name(name: str) -> Name | None:
    """The parts of a name, or None for a name that does not follow the rule.

    `rho_1_23` is read as the average of a product of two responsibilities. In a large problem it is the average of
    responsibility 23 alone. `apart_in` tells which by the other names of the problem; LaTeX is the same for both.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    found = match["groups"].split("_")[1:]
    apart = bool(_SEPARATED.search(match["groups"])) or (len(found) > 1 and match["head"] not in _WITH_A_GROUP)
    groups: tuple[tuple[str, ...], ...] = tuple(tuple(group) for group in found)
    if len(found) == 1 and (match["head"] in _ONE_INDEX or len(found[0]) > 2):
        groups = ((found[0],),)
    elif match["head"] in _WITH_A_GROUP and len(found) > 1 and not (match["head"] == "C" and apart and len(found) == 2):
        groups = ((found[0],), tuple(found[1:]) if apart else tuple(found[1]))
    elif len(found) > 1:
        groups = (tuple(found),)
    return Name(match["head"], bool(match["star"]), groups, apart, bool(match["lifted"]))


def first_index(name: str) -> str:
    """The first index in a name, which in an average's name is the component's. Raises ValueError without an index."""
    found = read_name(name)
    if found is None or not found.groups:
        raise ValueError(f"{name} has no index")
    return found.groups[0][0]


def apart_in(names: Iterable[str]) -> bool:
    """Whether the names belong to a problem whose indices stand apart."""
    return any(found.apart for found in map(read_name, names) if found is not None)


def name_tex(head: str, star: bool = False, *groups: str, lifted: bool = False) -> str:
    """LaTeX of a name: head, the target's star, groups of indices, and a plus for a sample in two dimensions more."""
    index = ";".join(group for group in groups if group)
    raised = (r"\star" if star else "") + ("+" if lifted else "")
    return _HEADS.get(head, head) + (f"^{{{raised}}}" if raised else "") + (f"_{{{index}}}" if index else "")


def symbol_tex(symbol: sp.Symbol) -> str:
    """LaTeX of a scalar symbol, by the rule for names or, for a name that does not follow the rule, SymPy's own."""
    if symbol.name in _HEADS:
        return _HEADS[symbol.name]
    name = read_name(symbol.name)
    if name is None or not (name.star or name.groups):
        return sp.latex(symbol)
    return name_tex(
        name.head, name.star, *((("," if name.apart else "").join(g)) for g in name.groups), lifted=name.lifted
    )


def ordered_terms(expression: sp.Expr) -> list[sp.Expr]:
    """The terms of a sum as they are printed: sums over indices behind the others, and a positive term first."""
    terms = sorted(expression.as_ordered_terms(), key=lambda term: any(map(_is_sum, sp.Mul.make_args(term))))
    first = next((n for n, term in enumerate(terms) if not term.as_coeff_Mul()[0].is_negative), 0)
    return [terms[first], *terms[:first], *terms[first + 1 :]]


def _is_sum(factor: sp.Expr) -> bool:
    return getattr(factor, "print_rank", 0) == LAST


LAST = 4
"""The `print_rank` of a sum over an index, behind which no factor stands."""


def _rank(factor: sp.Expr) -> int:
    """How far behind a factor stands in a product in index notation; its nodes have a `print_rank`.

    Scalars are in front in one fraction, then come brackets, averages, vectors and sums.
    """
    if factor.is_Add:
        return int(any(hasattr(node, "print_rank") for node in sp.preorder_traversal(factor)))
    return getattr(factor, "print_rank", 0)


class _Printer(LatexPrinter):
    """SymPy's LaTeX printer with the order of terms and factors in which one writes by hand.

    An exponent stands beside the star of a target's symbol, and primes are derivatives of an unknown function of one
    variable, as in F'(0).
    """

    def _as_ordered_terms(self, expr: sp.Expr, order: str | None = None) -> list[sp.Expr]:
        return ordered_terms(expr)

    def _print_Mul(self, expr: sp.Mul) -> str:
        behind = sorted(filter(_rank, expr.args), key=_rank)
        if not behind:
            return super()._print_Mul(expr)
        front = sp.Mul(*(factor for factor in expr.args if not _rank(factor)))
        head = {sp.S.One: "", sp.S.NegativeOne: "-"}.get(front)
        written = [self._print(front) if head is None else head]
        written += [self._add_parens(self._print(f)) if f.is_Add else self._print(f) for f in behind]
        return " ".join(filter(None, written))

    def _helper_print_standard_power(self, expr: sp.Pow, template: str) -> str:
        base = self._print(expr.base) if expr.base.is_Symbol or hasattr(expr.base, "print_rank") else ""
        if r"^{\star}" not in base:
            return super()._helper_print_standard_power(expr, template)
        whole = base[1:-1] if base.startswith("{") else base
        return whole.replace(r"^{\star}", rf"^{{\star {self._print(expr.exp)}}}")

    def _print_Derivative(self, expr: sp.Derivative) -> str:
        primed = _primed(expr, expr.args[0])
        return primed or super()._print_Derivative(expr)

    def _print_Subs(self, expr: sp.Subs) -> str:
        derivative, (old,), (new,) = expr.args
        primed = (
            _primed(derivative, new)
            if isinstance(derivative, sp.Derivative) and derivative.expr.args == (old,)
            else None
        )
        return primed or super()._print_Subs(expr)


def _primed(derivative: sp.Derivative, at: sp.Expr) -> str | None:
    function = derivative.expr
    if (
        not isinstance(function, AppliedUndef)
        or len(function.args) != 1
        or set(derivative.variables) != set(function.args)
    ):
        return None
    point = function.args[0] if at == function else at
    return function.func.__name__ + "'" * len(derivative.variables) + rf"{{\left({tex(point)}\right)}}"


def tex(expression: sp.Basic, extra: Mapping[sp.Symbol, str] | None = None, **settings: object) -> str:
    """LaTeX of an expression in this package's notation.

    extra: LaTeX for some symbols of the expression. settings: options of SymPy's LaTeX printer.
    """
    names = {s: symbol_tex(s) for s in expression.atoms(sp.Symbol) if type(s) is sp.Symbol}
    return _Printer({"symbol_names": {**names, **(extra or {})}, **settings}).doprint(expression)


def dotted(name: str) -> str:
    """LaTeX of the time derivative of a symbol, with the dot on the letter and not on its indices."""
    return re.sub(r"^(\\?[A-Za-z]+)", r"\\dot{\1}", name)


@dataclass(frozen=True)
class Family:
    """A family of symbols, and its meaning for a reader.

    Attributes
    ----------
    pattern : str
        A regular expression of the symbols' names, with # for an index.
    plain, tex : str
        The symbols' meaning, for a terminal and in LaTeX.
    """

    pattern: str
    plain: str
    tex: str


def _families_of(parameter: Parameter) -> Iterator[Family]:
    """The families of a parameter's symbols, of the proposal and of the target."""
    many, one = parameter.name, parameter.name[:-1]
    for owner, star, raised, index in (("proposal", "", "", "i"), ("target", "_star", r"^\star", "k")):
        head, written = parameter.letter + star, parameter.tex + raised
        if parameter.shared:
            plain = f"{head} ({head}_{index}): the {owner}'s {one} ({many})"
            yield Family(f"{head}(_#)?", plain, f"${written}$ (${written}_{index}$), the {owner}'s {one} ({many})")
        else:
            plain = f"{head}_{index}: the {owner}'s {many}"
            yield Family(f"{head}_#", plain, f"${written}_{index}$, the {owner}'s {many}")


FAMILIES = (
    Family(r"beta", "beta = 1/T, the inverse temperature", r"$\beta = 1/T$, the inverse temperature"),
    Family(r"d", "d: the dimension of space", r"$d$, the dimension of space"),
    Family(
        r"m_#",
        "m_i: the cosine between component i's mean a_i and the first mode nu_1",
        r"$m_i$, the cosine between $a_i$ and $\nu_1$",
    ),
    Family(r"s", "s: the cosine between the means a_1 and a_2", r"$s$, the cosine between $a_1$ and $a_2$"),
    Family(r"s_##", "s_ij: the cosine between the means a_i and a_j", r"$s_{ij}$, the cosine between $a_i$ and $a_j$"),
    Family(
        r"M_##",
        "M_ik = a_i·nu_k, overlap of component i's mean and the target's mode k",
        r"$M_{ik} = a_i\cdot\nu_k$, overlap of a mean and a mode",
    ),
    Family(r"Q_##", "Q_ij = a_i·a_j, overlap of two means", r"$Q_{ij} = a_i\cdot a_j$, overlap of two means"),
    Family(
        r"Gamma_##",
        "Gamma_kl = nu_k·nu_l, overlap of two modes",
        r"$\Gamma_{kl} = \nu_k\cdot\nu_l$, overlap of two modes",
    ),
    Family(
        r"c_##",
        "c_kl: nu_k = sum_l c_kl nu_l for a mode that depends on the others",
        r"$c_{kl}$, with $\nu_k = \sum_l c_{kl}\,\nu_l$ for a mode that depends on the others",
    ),
    Family(
        r"R(_#)?",
        "R: the length of the two modes, on the sphere also of the means unless that is r; with covariances R (R_i) is "
        "that of the means (of a_i)",
        r"$R$, the length of the two modes, on the sphere also of the means unless that is $r$; with covariances $R$ "
        r"($R_i$) is that of the means (of $a_i$)",
    ),
    Family(r"r(_#)?", "r (r_i): the length of the means (of a_i)", r"$r$ ($r_i$), the length of the means (of $a_i$)"),
    *(family for parameter in PARAMETERS for family in _families_of(parameter)),
    Family(
        r"rho_##",
        "rho_ij = E_i[rho_j], the proposal's responsibility j averaged over component i",
        r"$\bar\rho_{ij} = \mathbb E_i[\rho_j]$, the proposal's responsibility $j$ averaged over component $i$",
    ),
    Family(
        r"rho_star_##",
        "rho_star_ik = E_i[rho*_k], likewise of the target",
        r"$\bar\rho^\star_{ik} = \mathbb E_i[\rho^\star_k]$, likewise of the target",
    ),
    Family(
        r"rho_#_##",
        "rho_i_jl = E_i[rho_j rho_l], where unequal scales put the sample in two dimensions more",
        r"$\bar\rho_{i;jl} = \mathbb E_i[\rho_j\rho_l]$, where unequal scales put the sample in two dimensions more",
    ),
    Family(
        r"rho_star_#_##",
        "rho_star_i_kl = E_i[rho*_k rho*_l], likewise of the target",
        r"$\bar\rho^\star_{i;kl} = \mathbb E_i[\rho^\star_k\rho^\star_l]$, likewise of the target",
    ),
    Family(
        r"rhoat_##",
        "rhoat_kj = E_{nu_k}[rho_j], the proposal's responsibility j averaged over mode k",
        r"$\tilde\rho_{kj} = \mathbb E_{y_k}[\rho_j]$, the proposal's responsibility $j$ averaged over mode $k$",
    ),
    Family(
        r"rhoat_#_##",
        "rhoat_k_jl = E_{nu_k}[rho_j rho_l], where unequal scales put the sample in two dimensions more",
        r"$\tilde\rho_{k;jl} = \mathbb E_{y_k}[\rho_j\rho_l]$, where unequal scales put the sample in two dimensions "
        r"more",
    ),
    Family(
        r"Sat_##",
        "Sat_kj = E_{nu_k}[rho_j |y - nu_k|^2/sigma_star_k^2]",
        r"$\tilde S_{kj} = \mathbb E_{y_k}[\rho_j\,\|y - \nu_k\|^2/\sigma_k^{\star 2}]$",
    ),
    Family(
        r"sigma_ref",
        "sigma_ref: the scale of the reference q0 = N(0, sigma_ref^2 I)",
        r"$\sigma_0$, the scale of the reference $q_0 = N(0, \sigma_0^2 I)$",
    ),
    Family(r"v", "v: the forward KL's share of the objective", r"$v$, the forward KL's share of the objective"),
    Family(
        r"S_##",
        "S_ij = E_i[rho_j |x - a_i|^2/sigma_i^2]",
        r"$S_{ij} = \mathbb E_i[\rho_j\,\|x - a_i\|^2/\sigma_i^2]$",
    ),
    Family(
        r"S_star_##",
        "S_star_ik = E_i[rho*_k |x - a_i|^2/sigma_i^2]",
        r"$S^\star_{ik} = \mathbb E_i[\rho^\star_k\,\|x - a_i\|^2/\sigma_i^2]$",
    ),
    Family(r"ell_#", "ell_i = E_i[log rho_i]", r"$\ell_i = \mathbb E_i[\log\rho_i]$"),
    Family(
        r"ell_star_#",
        "ell_star_i = E_i[log rho*_K], of the last mode",
        r"$\ell^\star_i = \mathbb E_i[\log\rho^\star_K]$, of the last mode",
    ),
    Family(
        r"ellsq_star_#",
        "ellsq_star_i = E_i[(log rho*_K)^2]",
        r"$\overline{\ell^2}^\star_i = \mathbb E_i[(\log\rho^\star_K)^2]$",
    ),
    Family(
        r"ellS_star_#",
        "ellS_star_i = E_i[log rho*_K |x - a_i|^2/sigma_i^2]",
        r"$\overline{\ell S}^\star_i = \mathbb E_i[\log\rho^\star_K\,\|x - a_i\|^2/\sigma_i^2]$",
    ),
    Family(
        r"rhoup_star_##",
        "rhoup_star_ik: rho_star_ik with the sample in two dimensions more",
        r"$\bar\varrho^\star_{ik}$: $\bar\rho^\star_{ik}$ with the sample in two dimensions more",
    ),
    Family(
        r"[UV]_#",
        "U_i, V_i: average and variance of -log p* under component i, up to a constant in U_i",
        r"$U_i$, $V_i$: average and variance of $-\log p^\star$ under component $i$, up to a constant in $U_i$",
    ),
    Family(r"V", "V = Var_q[log p*]", r"$V = \operatorname{Var}_q[\log p^\star]$"),
    Family(
        r"b", "b: beta as a state, beta = min(b, 1)", r"$b$, the inverse temperature as a state: $\beta = \min(b, 1)$"
    ),
    Family(
        r"tau|t0",
        "tau, t0: the rule raises beta by tau/sqrt(V) at intervals t0",
        r"$\tau$, $t_0$: the rule raises $\beta$ by $\tau/\sqrt V$ at intervals $t_0$",
    ),
    Family(
        r"e_(#|mean)",
        "e_i = E_i[log q - beta log p*] up to a constant that all components share, e_mean = sum_j w_j e_j",
        r"$e_i = \mathbb E_i[\log q - \beta\log p^\star]$ up to a constant that all components "
        r"share, $\bar e = \sum_j w_j e_j$",
    ),
    Family(
        r"F_#",
        "F_i = E_i[rho*_1 - rho*_2], the pull of the target's two modes",
        r"$F_i = \mathbb E_i[\rho^\star_1 - \rho^\star_2]$",
    ),
    Family(r"g", "g = w_1 E_1[rho_2] = w_2 E_2[rho_1]", r"$g = w_1\mathbb E_1[\rho_2] = w_2\mathbb E_2[\rho_1]$"),
    Family(
        r"C_star_##|C_(star_)?#_##|Cat_#_##",
        "C_..: Cholesky entries of the Gram matrix of the logits' linear forms (C_star: the "
        "target's; C_i: component i's; Cat_k: at mode k)",
        r"$C$, Cholesky entries of the Gram matrix of the logits' linear forms ($C^\star$: the target's; "
        r"$C_{i;\cdot}$: component $i$'s)",
    ),
    Family(
        r"X_(star_)?##",
        "X_in (X_star_kn): coordinate n of a_i (nu_k) in the axes of the covariances or, without these, in orthonormal "
        "directions, first those of the modes",
        r"$X_{in}$ ($X^\star_{kn}$), coordinate $n$ of $a_i$ ($\nu_k$) in the axes of the covariances or, without "
        r"these, in orthonormal directions, first those of the modes",
    ),
    Family(
        r"Sigma_(star_)?#_##",
        "Sigma_i_nm (Sigma_star_k_nm): entries of the covariance of component i (mode k)",
        r"$\Sigma_{i;nm}$ ($\Sigma^\star_{k;nm}$), entries of the covariance of component $i$ (mode $k$)",
    ),
    Family(
        r"Lambda_(star_)?#_##",
        "Lambda_i_nm (Lambda_star_k_nm): entries of the inverse of that covariance",
        r"$\Lambda_{i;nm}$ ($\Lambda^\star_{k;nm}$), entries of the inverse of that covariance",
    ),
    Family(
        r"A_(star_)?#_##",
        "A_i_nm (A_star_k_nm): entries of its lower triangular Cholesky factor, A A^T = Sigma",
        r"$A_{i;nm}$ ($A^\star_{k;nm}$), entries of its lower triangular Cholesky factor, $A A^{\mathsf T} = \Sigma$",
    ),
    Family(
        r"logdet_(star_)?#",
        "logdet_i (logdet_star_k): the logarithm of its determinant",
        r"$\log\det\Sigma_i$ ($\log\det\Sigma^\star_k$), the logarithm of its determinant",
    ),
    Family(
        r"rhoy_(star_)?#_##",
        "rhoy_i_jn = E_i[rho_j (x - X_i)_n] (rhoy_star_i_kn: of rho*_k), n a coordinate",
        r"$\overline{\rho y}_{i;jn} = \mathbb E_i[\rho_j\,(x - X_i)_n]$ ($\overline{\rho y}^\star_{i;kn}$: of "
        r"$\rho^\star_k$), $n$ a coordinate",
    ),
    Family(
        r"rhoyy_(star_)?#_(###|#_##)",
        "rhoyy_i_jnm = E_i[rho_j (x - X_i)_n (x - X_i)_m] (rhoyy_star_i_knm: of rho*_k)",
        r"$\overline{\rho y^2}_{i;jnm} = \mathbb E_i[\rho_j\,(x - X_i)_n\,(x - X_i)_m]$ "
        r"($\overline{\rho y^2}^\star_{i;knm}$: of $\rho^\star_k$)",
    ),
    Family(
        r"f_##",
        "f_in = E_i[d_n (log q - beta log p*)], d_n the derivative by coordinate n",
        r"$f_{in} = \mathbb E_i[\partial_n(\log q - \beta\log p^\star)]$, $\partial_n$ the derivative by "
        r"coordinate $n$",
    ),
    Family(
        r"B_#_##",
        "B_i_nm = E_i[(x - X_i)_n d_m (log q - beta log p*)]",
        r"$B_{i;nm} = \mathbb E_i[(x - X_i)_n\,\partial_m(\log q - \beta\log p^\star)]$",
    ),
    Family(
        r"mu_#",
        "mu_i: the normal part of component i's flow, which keeps |a_i|",
        r"$\mu_i$, the normal part of component $i$'s flow, which keeps $\|a_i\|$",
    ),
    Family(
        r"P_##",
        "P_in: what of |a_i|^2 the first n - 1 coordinates leave; N_n: root of the largest; pick(p_1, "
        "...; v_1, ...): v of the largest p",
        r"$P_{in}$, what of $\|a_i\|^2$ the first $n - 1$ coordinates leave; "
        r"$\operatorname{pick}(p_1,\dots;\ v_1,\dots)$, the $v$ at the "
        r"largest $p$; $N_n$, the largest's root",
    ),
    Family(
        r"z(_#)?",
        "z (z_1, z_2, ...): independent N(0, 1) variables",
        r"$z$ ($z_1, z_2, \dots$), independent $N(0,1)$ variables",
    ),
    Family(
        r"c",
        "c: an independent chi-squared variable, its degrees of freedom stand with the average",
        r"$c$, an independent $\chi^2$ variable, its degrees of freedom stand with the average",
    ),
)


def families_of(names: Iterable[str]) -> tuple[Family, ...]:
    """The families that occur among the names of one problem, in the order of FAMILIES."""
    present = set(names)
    together = "[0-9]+_[0-9]+" if apart_in(present) else "[0-9][0-9]"
    patterns = [re.compile(family.pattern.replace("##", together).replace("#", "[0-9]+")) for family in FAMILIES]
    return tuple(
        family for family, pattern in zip(FAMILIES, patterns, strict=True) if any(map(pattern.fullmatch, present))
    )
