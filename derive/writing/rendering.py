"""A derivation for people: plain text, Markdown and LaTeX.

Each form prints the steps for any K and L, those for the problem's own, and the closed system. Logits get names where
softmaxes share them. A step prints only the equations that it changes.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence

import sympy as sp

from derive.dynamics.derivation import Derivation
from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.indices import Entry
from derive.objects.line_breaking import LINE, align, broken, markdown_display, terms_tex
from derive.objects.notation import Family, families_of
from derive.objects.softmax import Softmax
from derive.objects.step import Equation, Equations, Step
from derive.objects.vectors import Vector
from derive.writing.named_logits import with_named_logits
from derive.writing.slug import slug


def final_equations(derivation: Derivation) -> tuple[Equation, ...]:
    """Return the closed system of a derivation.

    Parameters
    ----------
    derivation : Derivation
        A complete derivation.

    Returns
    -------
    tuple of Equation
        Definitions first, then the rates of the states, in the system's order.

    Raises
    ------
    ValueError
        For a label that occurs twice.

    References
    ----------
    Fogliani, Loureiro and Gabrié, arXiv:2602.12923, study the bimodal case of these equations.

    Examples
    --------
    >>> import annealvi
    >>> derivation = annealvi.derive_problem(annealvi.Problem())
    >>> [equation.label for equation in annealvi.final_equations(derivation)][-3:]
    ['dm_1', 'dm_2', 'ds']
    """
    equations = derivation.steps[-1].after
    labels = [e.label for e in equations]
    if len(set(labels)) < len(labels):
        raise ValueError(f"an equation's label occurs twice: {sorted(labels)}")
    return tuple(sorted(equations, key=lambda e: e.symbol is None))


def as_text(derivation: Derivation) -> str:
    """Write the derivation for a terminal: rules, statements and equations in SymPy's plain notation."""

    def block(step: Step, number: int) -> str:
        changed, remark = changed_equations(step, derivation)
        lines = [f"     {_plain(e)}" for e in with_named_logits(changed)] + ([f"   {remark}"] if remark else [])
        return "\n".join([f"{number}. {step.rule}", _filled(step.statement, "   "), *lines])

    general, own = _numbered(derivation, block)
    system = final_equations(derivation)
    legend = "\n".join(
        _filled(line, "     ", "  ") for line in [*_softmax_in_words(system), *(f.plain for f in _families(system))]
    )
    words = [*_general_in_words(derivation), *(f.plain for f in _of_general(derivation))]
    about = "\n".join(_filled(line, "     ", "  ") for line in words)
    parts = [
        headline(derivation),
        "For any K and L",
        about,
        *general,
        _numbers(derivation),
        *own,
        "The closed system",
        legend,
        "\n".join(f"     {_plain(e)}" for e in with_named_logits(system)),
    ]
    return "\n\n".join(parts) + "\n"


def as_markdown(derivation: Derivation) -> str:
    """Write the derivation as Markdown with display mathematics."""

    def block(step: Step, number: int) -> str:
        changed, remark = changed_equations(step, derivation)
        displays = [markdown_display(e.left, terms_tex(e)) for e in with_named_logits(changed)]
        return "\n\n".join(
            [f"### {number}. {step.rule}", with_formulas(step.statement), *displays, *([remark] if remark else [])]
        )

    general, own = _numbered(derivation, block)
    system = final_equations(derivation)
    parts = [
        f"# {headline(derivation)}",
        "## For any K and L",
        _general_in_tex(derivation),
        "\n".join(f"- {f.tex}" for f in _of_general(derivation)),
        *general,
        f"## {_numbers(derivation)}",
        *own,
        "## The closed system",
        "\n".join(f"- {line}" for line in [*_softmax_in_tex(system), *(f.tex for f in _families(system))]),
        *(markdown_display(e.left, terms_tex(e)) for e in with_named_logits(system)),
    ]
    return "\n\n".join(parts) + "\n"


def as_latex(derivation: Derivation) -> str:
    """Write the derivation as a LaTeX fragment.

    Each step is one paragraph with one aligned display, and every final equation has a label.
    """
    parts = [
        f"% {headline(derivation)}",
        general_as_latex(derivation),
        own_steps_as_latex(derivation),
        closed_system_as_latex(derivation),
    ]
    return "\n\n".join(parts) + "\n"


def general_as_latex(derivation: Derivation, line: int = LINE) -> str:
    """Write the derivation for any K and L as a LaTeX fragment with its legend, with `line` symbols on a line."""
    legend = "; ".join(f.tex for f in _of_general(derivation))
    about = f"\\paragraph{{For any $K$ and $L$.}} {_general_in_tex(derivation)} Here {legend}."
    return "\n\n".join([about, *_numbered(derivation, _block_in_latex(derivation, line))[0]])


def own_steps_as_latex(derivation: Derivation) -> str:
    """Write the steps from the general equations to the closed system as a LaTeX fragment."""
    heading = f"\\paragraph{{{with_formulas(_numbers(derivation))}.}}"
    return "\n\n".join([heading, *_numbered(derivation, _block_in_latex(derivation))[1]])


def _block_in_latex(derivation: Derivation, line: int = LINE) -> Callable[[Step, int], str]:
    def block(step: Step, number: int) -> str:
        changed, remark = changed_equations(step, derivation)
        rows = [broken(e.left, terms_tex(e, line), line) for e in with_named_logits(changed)]
        display = [align(rows)] if rows else []
        heading = f"\\paragraph{{{number}. {with_formulas(step.rule)}.}} {with_formulas(step.statement)}"
        return "\n".join([heading, *display, *([f"\\noindent {remark}"] if remark else [])])

    return block


def closed_system_as_latex(derivation: Derivation) -> str:
    """Write the closed system as a LaTeX fragment with its legend; the labels are `eq:PROBLEM:LABEL`."""
    system = final_equations(derivation)
    problem = slug(derivation.system.label)
    rows = []
    for equation in with_named_logits(system):
        lines = broken(equation.left, terms_tex(equation))
        label = re.sub(r"\(.*", "", equation.label)
        rows.append([*(rf"{line} \nonumber" for line in lines[:-1]), rf"{lines[-1]} \label{{eq:{problem}:{label}}}"])
    legend = "; ".join([*_softmax_in_tex(system), *(f.tex for f in _families(system))])
    return f"\\paragraph{{The closed system.}} Here {legend}.\n{align(rows, 'align')}"


def general_legend(derivation: Derivation) -> tuple[str, ...]:
    """Explain the symbols of the equations for any K and L, with $mathematics$."""
    return _general_in_tex(derivation), *(f.tex for f in _of_general(derivation))


def closed_legend(derivation: Derivation) -> tuple[str, ...]:
    """Explain the symbols of the closed system, with $mathematics$."""
    system = final_equations(derivation)
    return *_softmax_in_tex(system), *(f.tex for f in _families(system))


RENDERERS: dict[str, Callable[[Derivation], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex}


def changed_equations(step: Step, derivation: Derivation) -> tuple[Equations, str]:
    """Return the equations to print, and a remark about the others."""
    if step is derivation.steps[-1]:
        return (), "This is the closed system below."
    before = {e.label: e.value for e in step.before}
    changed = tuple(e for e in step.after if not same_value(before.get(e.label), e.value))
    if not changed:
        return (), "No equation changes."
    return changed, "" if len(changed) == len(step.after) else "The other equations stay as they are."


def same_value(old: object, new: object) -> bool:
    """Return whether a step left a value unchanged."""
    return list(old) == list(new) if isinstance(old, Vector) and isinstance(new, Vector) else old == new


def _numbered(derivation: Derivation, block: Callable[[Step, int], str]) -> tuple[list[str], list[str]]:
    """The blocks of the general steps and those of the steps that follow them, numbered on."""
    general, own = derivation.general.steps, own_steps(derivation)
    return (
        [block(step, number) for number, step in enumerate(general, 1)],
        [block(step, number) for number, step in enumerate(own, len(general) + 1)],
    )


def own_steps(derivation: Derivation) -> tuple[Step, ...]:
    """Return the steps from the general equations to the closed system, the first of which gives numbers to indices."""
    return derivation.written_out[len(derivation.general.steps) :]


def _numbers(derivation: Derivation) -> str:
    setting = derivation.setting
    return f"For K = {setting.target.size} and L = {setting.proposal.size}"


def headline(derivation: Derivation) -> str:
    """Describe the setting in one line."""
    setting = derivation.setting
    flow = "spherical" if setting.manifold == "sphere" else "Euclidean"
    modes, components = setting.target.size, setting.proposal.size
    return (
        f"{derivation.system.label}: {flow} gradient flow, target modes K = {modes}, proposal "
        f"components L = {components}"
    )


def _filled(text: str, indent: str, hanging: str = "") -> str:
    return textwrap.fill(text, 110, initial_indent=indent, subsequent_indent=indent + hanging)


def _families(system: Sequence[Equation]) -> tuple[Family, ...]:
    symbols = [s for e in system for s in e.value.atoms(sp.Symbol)]
    symbols += [s for e in system for a in e.value.atoms(Expectation) for v in a.variables for s in _of_law(v)]
    return families_of({s.name for s in symbols} | {e.symbol.name for e in system if e.symbol is not None})


def _of_law(variable: sp.Symbol) -> set[sp.Symbol]:
    return variable.degrees.free_symbols if isinstance(variable, ChiSquared) else set()


def _of_general(derivation: Derivation) -> tuple[Family, ...]:
    closed = derivation.general.closed
    values = [e.value for e in closed]
    entries = {e for value in values for e in value.atoms(Entry)} | {e.symbol for e in closed if e.symbol}
    ones = {Entry(entry.family, *(1 for _ in entry.indices)).name for entry in entries}
    scalars = {s.name for value in values for s in value.atoms(sp.Symbol)} & {"beta", "d"}
    return families_of(ones | scalars)


def _softmax_in_words(system: Sequence[Equation]) -> list[str]:
    if not any(e.value.has(Softmax) for e in system):
        return []
    return [
        "softmax_j(l_1, ..., l_C) = exp(l_j)/(exp(l_1) + ... + exp(l_C))",
        "y_ij: the logit of component j at a sample of component i (y_star_ij: of mode j) relative to a "
        "reference, whose logit is the zero",
    ]


def _softmax_in_tex(system: Sequence[Equation]) -> list[str]:
    if not any(e.value.has(Softmax) for e in system):
        return []
    return [
        r"$\operatorname{softmax}_j(l_1,\dots,l_C) = e^{l_j}/\sum_{c=1}^C e^{l_c}$",
        r"$y_{ij}$, the logit of component $j$ at a sample of component $i$ ($y^\star_{ij}$: of mode "
        r"$j$) relative to a reference, "
        "whose logit is the zero",
    ]


def _general_in_words(derivation: Derivation) -> list[str]:
    return [*_GENERAL_IN_WORDS, *(_SPAN_IN_WORDS if derivation.setting.spanned else ())]


def _general_in_tex(derivation: Derivation) -> str:
    return f"{_GENERAL_IN_TEX} {_SPAN_IN_TEX}" if derivation.setting.spanned else _GENERAL_IN_TEX


_GENERAL_IN_WORDS = (
    "sum_j and sum_l are over components 1, ..., L, sum_k and sum_m over modes 1, ..., K",
    "n: a mode in M_in, a component in D_in = a_n·da_i/dt and Q_in",
    "E_x_i: the average over x_i ~ N(a_i, sigma_i^2 I); x_i+: the same with two coordinates more",
    "u_ij = (a_j - a_i)/sigma_j^2 and u_star_ik = (nu_k - a_i)/sigma_star_k^2: slopes of the logits at a_i",
    "rho_j(x): responsibilities, in proportion to w_j sigma_j^-d exp(-|x - a_j|^2/(2 sigma_j^2)) also at x_i+, "
    "where the further coordinates of a_j are zero; rho*_k(x): likewise of mode k",
)
_SPAN_IN_WORDS = (
    "with covariances, a_i, nu_k, x_i, norms and inner products <u, v> are those outside the coordinates 1, ..., r of "
    "the target, where nu_k = 0; within, x_i ~ N(X_i, Sigma_i), and rho_j has the further factor "
    "N(x; X_j, Sigma_j), and d - r for d",
    "Q_in is still the product of whole means; n and m in X_in, f_in, Sigma_i_nm, B_i_nm and s_i_n, and the o and p of "
    "sums are coordinates",
    "s_i_n(x) = d_n log N(x; X_i, Sigma_i) and s*_k_n: scores, d_n the derivative by coordinate n; (x_i - X_i)_n: a "
    "coordinate of the deviation",
)


_GENERAL_IN_TEX = (
    r"Components are $i, j, l = 1,\dots,L$ and modes $k, m = 1,\dots,K$; $n$ is a mode in $M_{in}$ and a component in "
    r"$Q_{in}$ and $D_{in} = a_n\cdot\dot a_i$. The average $\mathbb E_i$ is over $x_i \sim \mathcal N(a_i, \sigma_i^2 "
    r"I)$; $x_i^+$ is such a sample with two coordinates more, in which the means are zero. The slopes of the logits "
    r"at $a_i$ are $u_{ij} = (a_j - a_i)/\sigma_j^2$ and $u^\star_{ik} = (\nu_k - a_i)/\sigma_k^{\star 2}$. The "
    r"responsibilities $\rho_j(x)$ are in proportion to $w_j\,\sigma_j^{-d}\,e^{-\|x - a_j\|^2/2\sigma_j^2}$, also at "
    r"$x_i^+$, and $\rho^\star_k(x)$ likewise of the modes."
)
_SPAN_IN_TEX = (
    r"With covariances, $a_i$, $\nu_k$, $x_i$, norms and inner products are those outside the coordinates "
    r"$1, \dots, r$ of the target, where $\nu_k = 0$; within, $x_i \sim \mathcal N(X_i, \Sigma_i)$, and $\rho_j$ has "
    r"the further factor $N(x; X_j, \Sigma_j)$ and $d - r$ for $d$. $Q_{in}$ is still the product of whole means; "
    r"$n$ and $m$ in $X_{in}$, $f_{in}$, $\Sigma_{i;nm}$, $B_{i;nm}$ and $s_{i;n}$, and the $o$ and $p$ of sums are "
    r"coordinates. $s_{i;n}(x) = \partial_n\log N(x; X_i, \Sigma_i)$ and $s^\star_{k;n}$ are scores, and "
    r"$\partial_n$ is the derivative by coordinate $n$."
)


def _plain(equation: Equation) -> str:
    left = equation.label
    if equation.symbol is None and left.startswith("d"):
        left = f"d{left[1:]}/dt"
    value = equation.value
    if isinstance(value, sp.Basic):
        return f"{left} = {value}"
    return f"{left} = {value!r}"


_MATH = {
    "σ": r"\sigma ",
    "β": r"\beta ",
    "ρ": r"\rho ",
    "τ": r"\tau ",
    "θ": r"\theta ",
    "δ": r"\delta ",
    "χ": r"\chi ",
    "∑": r"\sum ",
    "Σ": r"\Sigma ",
    "Λ": r"\Lambda ",
    "μ": r"\mu ",
    "ᵀ": r"^{\mathsf T}",
    "⁻¹": "^{-1}",
    "∂": r"\partial ",
    "∇": r"\nabla ",
    "𝓛": r"\mathcal L",
    "u̇": r"\dot u",
    "v̇": r"\dot v",
    "½": r"\tfrac12",
    "²": "^2",
    "⁺": "^+",
    "*": r"^\star ",
    "⋆": r"\star ",
    "‖": r"\|",
    "·": r"\cdot ",
    "~": r"\sim ",
    "−": "-",
    "→": r"\to ",
    "∞": r"\infty ",
}
"""LaTeX of the mathematical characters in statements."""

_CHARACTERS = "".join(characters for characters in _MATH if len(characters) == 1)
_IN_FORMULA = re.compile(
    rf"[{re.escape(_CHARACTERS)}\u0307_^=+]|^\(?[b-zB-Z]'?[)\]]*$|^a[)\]]+$|^[A-Z][(\[]|^\d+/\(?\d+$"
)
"""What makes a word of a statement part of a formula."""


def with_formulas(statement: str) -> str:
    """Write a rule's statement with $mathematics$ in place of the words that contain mathematical characters."""
    parts: list[str] = []
    formula: list[str] = []
    for word, stop in re.findall(r"((?:log )?\S+?)([.,;:]?)(?:\s+|$)", statement):
        is_text = not (_IN_FORMULA.search(word.removeprefix("log ")) or _is_open(formula))
        if not is_text:
            formula.append(word)
        if is_text or (stop and not _is_open(formula)):
            parts += [_formula(formula), word] if is_text else [_formula(formula)]
            parts[-1] += stop
            formula = []
        elif stop:
            formula[-1] += stop
    return " ".join(filter(None, [*parts, _formula(formula)]))


def _is_open(words: Sequence[str]) -> bool:
    """Whether a formula goes on, as behind a sign or within the arguments of N(…)."""
    return re.search(r"(?<!\S)[=+−]$|N\([^)]*$", " ".join(words)) is not None


def _formula(words: Sequence[str]) -> str:
    """Words as one formula, in text or in mathematics; `_1` and `^y` are subscripts and superscripts."""
    joined = " ".join(words)
    if not re.search(r"\w", joined):
        return joined
    before, _, behind = joined.rpartition(" (")
    if before and ")" not in behind:  # what stands in brackets is a remark, which begins with a formula
        return f"{_formula([before])} {_formula(['(' + behind])}"
    opened = "(" * (joined.startswith("(") and joined.count("(") > joined.count(")"))
    closed = ")" * (joined.endswith(")") and joined.count(")") > joined.count("("))
    body = joined[len(opened) : len(joined) - len(closed)]
    body = re.sub(r"([_^])([^\W_²⁺ᵀ]+)", r"\1{\2}", body)
    body = re.sub(r"\b(log|tanh|exp)\b", r"\\\1 ", body)
    body = re.sub(r"\bE(?=[\[_])", r"\\mathbb E", body)
    for characters, macro in _MATH.items():
        body = body.replace(characters, macro)
    body = re.sub(r"\b(softmax)\b", r"\\operatorname{\1}", body)
    return f"{opened}${body.strip()}${closed}"
