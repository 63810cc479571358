"""A derivation for people: plain text, Markdown and LaTeX.

Each prints the steps, the equations for any K and L, and the closed system. Logits are named where softmaxes share them; what a step
leaves as it was is not printed again.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence

import sympy as sp
from sympy.printing.str import StrPrinter

from derive.derivation import Derivation
from derive.expectation import ChiSquared, Expectation
from derive.indexed_equations import Entry, IndexedEquation, indexed_equations
from derive.notation import Family, families_of, symbol_tex, tex
from derive.objective import Setting
from derive.softmax import Softmax
from derive.step import Equation, Equations, Step
from derive.vectors import Vector


def final_equations(derivation: Derivation) -> tuple[Equation, ...]:
    """Definitions first, then the rates of the states, in the system's order; a duplicate label is an error."""
    equations = derivation.steps[-1].after
    labels = [e.label for e in equations]
    if len(set(labels)) < len(labels):
        raise ValueError(f"an equation's label occurs twice: {sorted(labels)}")
    return tuple(sorted(equations, key=lambda e: e.symbol is None))


def as_text(derivation: Derivation) -> str:
    """The derivation for a terminal: rules, statements and equations in SymPy's plain notation."""

    def block(step: Step, number: int) -> str:
        changed, remark = _changed(step, derivation)
        lines = [f"     {_plain(e)}" for e in with_named_logits(changed)] + ([f"   {remark}"] if remark else [])
        return "\n".join([f"{number}. {step.rule}", _filled(step.statement, "   "), *lines])

    general = indexed_equations(derivation.setting)
    system = final_equations(derivation)
    legend = "\n".join(_filled(line, "     ", "  ") for line in [*_softmax_in_words(system), *(f.plain for f in _families(system))])
    words = [*_general_in_words(derivation.setting), *(f.plain for f in _of_general(general))]
    about = "\n".join(_filled(line, "     ", "  ") for line in words)
    parts = [
        _headline(derivation),
        *_numbered(derivation, block),
        "For any K and L",
        about,
        "\n".join(f"     {e.plain()}" for e in general),
        "The closed system",
        legend,
        "\n".join(f"     {_plain(e)}" for e in with_named_logits(system)),
    ]
    return "\n\n".join(parts) + "\n"


def as_markdown(derivation: Derivation) -> str:
    """The derivation as Markdown with display mathematics."""

    def block(step: Step, number: int) -> str:
        changed, remark = _changed(step, derivation)
        displays = [_markdown_display(e.left, _terms(e)) for e in with_named_logits(changed)]
        return "\n\n".join([f"## {number}. {step.rule}", step.statement, *displays, *([remark] if remark else [])])

    general = indexed_equations(derivation.setting)
    system = final_equations(derivation)
    parts = [
        f"# {_headline(derivation)}",
        *_numbered(derivation, block),
        "## For any K and L",
        _general_in_tex(derivation.setting),
        "\n".join(f"- {f.tex}" for f in _of_general(general)),
        *(_markdown_display(e.latex_left(), e.latex_terms()) for e in general),
        "## The closed system",
        "\n".join(f"- {line}" for line in [*_softmax_in_tex(system), *(f.tex for f in _families(system))]),
        *(_markdown_display(e.left, _terms(e)) for e in with_named_logits(system)),
    ]
    return "\n\n".join(parts) + "\n"


def as_latex(derivation: Derivation) -> str:
    """The derivation as a LaTeX fragment: one paragraph and one aligned display per step, every final equation labelled."""

    def block(step: Step, number: int) -> str:
        changed, remark = _changed(step, derivation)
        display = [_align([_broken(e.left, _terms(e)) for e in with_named_logits(changed)])] if changed else []
        heading = f"\\paragraph{{{number}. {_in_tex(step.rule)}.}} {_in_tex(step.statement)}"
        return "\n".join([heading, *display, *([f"\\noindent {remark}"] if remark else [])])

    parts = [f"% {_headline(derivation)}", *_numbered(derivation, block), general_as_latex(derivation), closed_system_as_latex(derivation)]
    return "\n\n".join(parts) + "\n"


def general_as_latex(derivation: Derivation) -> str:
    """The equations for any K and L as a LaTeX fragment with its legend."""
    general = indexed_equations(derivation.setting)
    legend = "; ".join(f.tex for f in _of_general(general))
    rows = [_broken(e.latex_left(), e.latex_terms()) for e in general]
    return f"\\paragraph{{For any $K$ and $L$.}} {_general_in_tex(derivation.setting)} Here {legend}.\n{_align(rows)}"


def closed_system_as_latex(derivation: Derivation) -> str:
    """The closed system as a LaTeX fragment with its legend; the labels are `eq:PROBLEM:LABEL`."""
    system = final_equations(derivation)
    rows = []
    for equation in with_named_logits(system):
        lines = _broken(equation.left, _terms(equation))
        label = re.sub(r"\(.*", "", equation.label)
        rows.append([*(rf"{line} \nonumber" for line in lines[:-1]), rf"{lines[-1]} \label{{eq:{derivation.system.label}:{label}}}"])
    legend = "; ".join([*_softmax_in_tex(system), *(f.tex for f in _families(system))])
    return f"\\paragraph{{The closed system.}} Here {legend}.\n{_align(rows, 'align')}"


RENDERERS: dict[str, Callable[[Derivation], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex}


def with_named_logits(equations: Sequence[Equation]) -> tuple[Equation, ...]:
    """The equations with every softmax's logits by name, and the names' definitions before the first equation that uses one.

    y_ij is the logit of component j at a sample of component i, y_star_ik that of mode k, as a function of the average's variables. Two
    averages whose samples differ in their dimension share it unless the logit itself differs, as where the normal variables fill the space;
    then the one of more variables has a plus.
    """
    values: dict[sp.Symbol, sp.Expr] = {}
    definitions: list[Equation] = []
    shortened = list(equations)
    for n in sorted(range(len(equations)), key=lambda n: _most_variables(equations[n])):
        shortened[n] = _shortened(equations[n], values, definitions)
    first = next((n for n, (old, new) in enumerate(zip(equations, shortened, strict=True)) if old != new), 0)
    return (*shortened[:first], *sorted(definitions, key=lambda e: e.label), *shortened[first:])


_AVERAGED = re.compile(r"[A-Za-z]+(?P<star>_star)?_(?P<component>\d).*")


def _most_variables(equation: Equation) -> int:
    averages = equation.value.atoms(Expectation) if isinstance(equation.value, sp.Expr) else ()
    return max((len(average.variables) for average in averages), default=0)


def _shortened(equation: Equation, values: dict[sp.Symbol, sp.Expr], definitions: list[Equation]) -> Equation:
    if not _most_variables(equation):
        return equation
    match = _AVERAGED.fullmatch(equation.label)
    prefix = f"y{match['star'] or ''}_{match['component']}" if match else f"y_{equation.label}_"

    def name(logit: sp.Expr, number: int, variables: Sequence[sp.Symbol]) -> sp.Expr:
        if logit == 0:
            return logit
        chi_squared = {v: sp.Symbol(v.name, nonnegative=True) for v in variables if isinstance(v, ChiSquared)}
        value = logit.xreplace(chi_squared)
        candidates = (sp.Symbol(f"{prefix}{number}{lifted}", real=True) for lifted in ("", "+"))
        symbol = next(c for c in candidates if values.get(c, value) == value)
        if symbol not in values:
            values[symbol] = value
            used = [v for v in variables if logit.has(v)]
            plain = f"{symbol.name}({', '.join(v.name for v in used)})" if used else symbol.name
            left = symbol_tex(symbol) + (f"({','.join(sp.latex(v) for v in used)})" if used else "")
            definitions.append(Equation(plain, left, value, symbol))
        return symbol

    def renamed(average: Expectation) -> sp.Expr:
        shares = {
            share: Softmax(share.component, *(name(logit, n, average.variables) for n, logit in enumerate(share.logits, 1)))
            for share in sorted(average.integrand.atoms(Softmax), key=sp.default_sort_key)
        }
        return _NamedAverage(average.integrand.xreplace(shares), *average.variables) if shares else average

    averages = {average: renamed(average) for average in sorted(equation.value.atoms(Expectation), key=sp.default_sort_key)}
    if all(old == new for old, new in averages.items()):
        return equation
    return Equation(equation.label, equation.left, equation.value.xreplace(averages), equation.symbol)


class _NamedAverage(sp.Expr):
    """An expectation whose integrand contains its variables through named functions of them; for print only."""

    is_commutative = True
    is_real = True

    def _latex(self, printer) -> str:
        laws = ",".join(_law(v, printer.doprint, r"\sim\chi^2_{", "}") for v in self.args[1:])
        return rf"\mathbb{{E}}_{{{laws}}}\left[{printer.doprint(self.args[0])}\right]"

    def _sympystr(self, printer: StrPrinter) -> str:
        laws = ", ".join(_law(v, printer.doprint, "~chi2(", ")") for v in self.args[1:])
        return f"E_{{{laws}}}[{printer.doprint(self.args[0])}]"


def _law(variable: sp.Symbol, write: Callable[[sp.Expr], str], opening: str, closing: str) -> str:
    return f"{write(variable)}{opening}{write(variable.degrees)}{closing}" if isinstance(variable, ChiSquared) else write(variable)


def _changed(step: Step, derivation: Derivation) -> tuple[Equations, str]:
    """The equations to print, and what is said of the others."""
    if step is derivation.steps[-1]:
        return (), "This is the closed system below."
    before = {e.label: e.value for e in step.before}
    changed = tuple(e for e in step.after if not _same(before.get(e.label), e.value))
    if not changed:
        return (), "No equation changes."
    return changed, "" if len(changed) == len(step.after) else "The other equations stay as they are."


def _same(old: object, new: object) -> bool:
    return list(old) == list(new) if isinstance(old, Vector) and isinstance(new, Vector) else old == new


def _numbered(derivation: Derivation, block: Callable[[Step, int], str]) -> list[str]:
    return [block(step, number) for number, step in enumerate(derivation.steps, 1)]


def _headline(derivation: Derivation) -> str:
    setting = derivation.setting
    flow = "spherical" if setting.manifold == "sphere" else "Euclidean"
    modes, components = setting.target.size, setting.proposal.size
    return f"{derivation.system.label}: {flow} gradient flow, target modes K = {modes}, proposal components L = {components}"


def _filled(text: str, indent: str, hanging: str = "") -> str:
    return textwrap.fill(text, 110, initial_indent=indent, subsequent_indent=indent + hanging)


def _families(system: Sequence[Equation]) -> tuple[Family, ...]:
    symbols = [s for e in system for s in e.value.atoms(sp.Symbol)]
    symbols += [s for e in system for a in e.value.atoms(Expectation) for v in a.variables for s in _of_law(v)]
    return families_of({s.name for s in symbols} | {e.symbol.name for e in system if e.symbol is not None})


def _of_law(variable: sp.Symbol) -> set[sp.Symbol]:
    return variable.degrees.free_symbols if isinstance(variable, ChiSquared) else set()


def _of_general(general: Sequence[IndexedEquation]) -> tuple[Family, ...]:
    entries = {entry for e in general for entry in (e.left, *e.value.atoms(Entry))}
    ones = {Entry(entry.family, *(1 for _ in entry.indices)).name for entry in entries}
    scalars = {s.name for e in general for s in e.value.atoms(sp.Symbol)} & {"beta", "d", "sigma", "sigma_star"}
    return families_of(ones | scalars)


def _softmax_in_words(system: Sequence[Equation]) -> list[str]:
    if not any(e.value.has(Softmax) for e in system):
        return []
    return [
        "softmax_j(l_1, ..., l_C) = exp(l_j)/(exp(l_1) + ... + exp(l_C))",
        "y_ij: the logit of component j at a sample of component i (y_star_ij: of mode j) relative to a reference, whose logit is the zero",
    ]


def _softmax_in_tex(system: Sequence[Equation]) -> list[str]:
    if not any(e.value.has(Softmax) for e in system):
        return []
    return [
        r"$\operatorname{softmax}_j(l_1,\dots,l_C) = e^{l_j}/\sum_{c=1}^C e^{l_c}$",
        r"$y_{ij}$, the logit of component $j$ at a sample of component $i$ ($y^\star_{ij}$: of mode $j$) relative to a reference, "
        "whose logit is the zero",
    ]


def _general_in_words(setting: Setting) -> list[str]:
    tangent = ["P_i = I - a_i a_i^T/|a_i|^2, the projection on the tangent space of the sphere at a_i"] if _projects(setting) else []
    return [
        "sum_j and sum_l are over components 1, ..., L, sum_k (and sum_l beside k) over modes 1, ..., K",
        "n: a mode in M_in, a component in D_in = a_n·da_i/dt and Q_in",
        "E_i: the average over x ~ N(a_i, sigma_i^2 I)",
        "rho_j(x) = w_j N(x; a_j, sigma_j^2 I)/q(x) and rho*_k(x) = w_star_k N(x; nu_k, sigma_star_k^2 I)/p*(x), the responsibilities",
        *tangent,
    ]


def _general_in_tex(setting: Setting) -> str:
    words = (
        r"Components are $i, j, l = 1,\dots,L$ and modes $k, l = 1,\dots,K$; $n$ is a mode in $M_{in}$ and a component in "
        r"$D_{in} = a_n\cdot da_i/dt$ and in $Q_{in}$. $\mathbb E_i$ averages over $x \sim N(a_i, \sigma_i^2 I)$. The responsibilities are "
        r"$\rho_j(x) = w_j N(x; a_j, \sigma_j^2 I)/q(x)$ and $\rho^\star_k(x) = w^\star_k N(x; \nu_k, \sigma_k^{\star 2} I)/p^\star(x)$."
    )
    tangent = r" $P_i = I - a_i a_i^{\mathsf T}/\|a_i\|^2$ projects on the tangent space of the sphere at $a_i$."
    return words + tangent if _projects(setting) else words


def _projects(setting: Setting) -> bool:
    return setting.manifold == "sphere" and "means" in setting.learn


def _plain(equation: Equation) -> str:
    left = equation.label
    if equation.symbol is None and left.startswith("d"):
        left = f"d{left[1:]}/dt"
    value = equation.value
    if isinstance(value, sp.Basic):
        return f"{left} = {value}"
    return f"{left} = {value!r}"


LINE = 105
"""Symbols that fit on one line of a landscape page in footnote size."""


def _terms(equation: Equation) -> list[str]:
    """The right-hand side's terms; of a wide one the fraction is taken apart, so that what is long stands on the line."""
    value = equation.value
    if isinstance(value, sp.Expr):
        written = [tex(term) for term in value.as_ordered_terms()]
        wide = [tex(term, long_frac_ratio=2) for term in value.as_ordered_terms()]
        return _with_signs([w if _symbols(t) > LINE else t for t, w in zip(written, wide, strict=True)])
    if isinstance(value, Vector) and len(value):
        units = [(sp.Dummy("unit", commutative=True), atom, coefficient) for atom, coefficient in value]
        return _with_signs([tex(coefficient * unit, {unit: tex(atom)}) for unit, atom, coefficient in units])
    return equation.right_terms()


def _with_signs(terms: Sequence[str]) -> list[str]:
    return [term if term.startswith("-") or not n else f"+ {term}" for n, term in enumerate(terms)]


def _align(rows: Sequence[Sequence[str]], environment: str = "align*") -> str:
    return f"\\begin{{{environment}}}\n" + " \\\\\n".join(f"  {line}" for row in rows for line in row) + f"\n\\end{{{environment}}}"


def _markdown_display(left: str, terms: Sequence[str]) -> str:
    lines = _broken(left, terms)
    if len(lines) == 1:
        return f"$${lines[0].replace('&=', '=')}$$"
    return "$$\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}$$"


def _broken(left: str, terms: Sequence[str]) -> list[str]:
    """The lines of an aligned equation, broken between terms, and within those wider than LINE, where it would be wider than that."""
    lines, width = [f"{left} &="], _symbols(left)
    for piece in (p for term in terms for p in _pieces(term)):
        width += _symbols(piece)
        if width > LINE and not lines[-1].endswith(("&=", r"&\quad")):
            lines.append(r"&\quad")
            width = _symbols(piece)
        lines[-1] += f" {piece}"
    return lines


_TOKEN = re.compile(r"\\(?:left|right)\\?.|\\[a-zA-Z]+|\\.| [+-] |.", re.DOTALL)


def _pieces(term: str) -> list[str]:
    """A term wider than LINE cut before every sign in its brackets, whose size then no longer follows what they hold."""
    if _symbols(term) <= LINE:
        return [term]
    pieces, depth = [""], 0
    for token in _TOKEN.findall(term):
        depth += (token == "{") - (token == "}")
        if depth == 0 and token.startswith((r"\left", r"\right")) and len(token) <= 8:
            token = token.replace(r"\left", r"\Bigl").replace(r"\right", r"\Bigr")
        if depth == 0 and token in (" + ", " - "):
            pieces.append("")
        pieces[-1] += token.lstrip() if not pieces[-1] else token
    return pieces


def _symbols(latex: str) -> int:
    """About how many symbols a piece of LaTeX prints on its main line."""
    without_layout = re.sub(r"\\(left|right|Bigl|Bigr|biggl|biggr|frac|mathbb|bar|dot|hat|operatorname|quad)|[{}_^\s]", "", latex)
    return len(re.sub(r"\\[a-zA-Z]+", "x", without_layout))


_MATH = {"σ": r"\sigma", "β": r"\beta", "ρ": r"\rho", "Σ": r"\sum", "∇": r"\nabla", "½": r"\tfrac12", "²": "^2", "→": r"\to"}
_MATH |= {"−": "-", "·": r"\cdot", "u̇": r"\dot u", "v̇": r"\dot v", "⋆": r"\star", "𝓛": r"\mathcal L", "∞": r"\infty", "⁺": "^+"}
_MATH |= {"τ": r"\tau", "θ": r"\theta", "δ": r"\delta", "∂": r"\partial", "χ": r"\chi", "‖": r"\|", "~": r"\sim"}


def _in_tex(statement: str) -> str:
    """A statement with its mathematical characters as LaTeX; `_1` and `^y` become subscripts and superscripts."""
    marked = re.sub(r"(?:(?<![A-Za-z])([A-Za-z]))?([_^])([^\W_]+|\{[^}]*\}|\+)", r"\\ensuremath{\1\2{\3}}", statement)
    for character, macro in sorted(_MATH.items(), key=lambda item: -len(item[0])):
        marked = marked.replace(character, rf"\ensuremath{{{macro}}}")
    return marked
