"""The text of the functions that sum the moments of a group over a lattice, for the CPU and for CUDA.

Where the logits are separable, e^{ℓ_l} = e^{a_l} e^{φ_l(x)}, where a_l comes from the outer variables and x is the
innermost variable. A function tabulates the factors e^{φ_l(x)} once per call. The innermost loop then multiplies, adds
and divides once per node, without branches. Where logits contain products of normal variables, the outer variables also
change the slope in x. Along a row this is a factor in geometric progression, by which the row's factors are multiplied
before the innermost loop.

No exponential overflows, however far apart the components are. The innermost axis is cut into blocks of at most BLOCK
nodes. The table of a block holds the differences of the exponents from the middle of the block and from the first
component. The step follows from the slopes, so logits differ by a few units at most from node to node, and the factors
stay within e^{±600}. The logits at the middle of the block are shifted by the largest of them before they are
exponentiated. A component that underflows there is smaller than the largest by more than its factors can compensate
within the block. With products of normal variables the blocks are as short as the steepest slope asks for, and the
geometric progression, which starts with its part of the logit at the first node, stays within the same bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

from kernels.generate.template_source import copied_text
from kernels.lower.lattice import MOST_TENSOR_VARIABLES, Pattern

BLOCK = 128
LANES = 8
"""The length of a row is a multiple of this number, so that no remainder is left to scalar instructions."""
WIDEST = 600.0
"""The largest difference of exponents across a block of a pattern with products of normal variables."""
MOST_NODES = 1.0e10
"""The most nodes of an average, minutes of work. An average that asks for more is nan: its state makes no sense."""
COUNTER = 0
"""The place in the scratch array where the number of visited nodes is added up."""
INVERSE_ROOT = "0.3989422804014327"  # 1/√(2π)


class RowSum(NamedTuple):
    """A weighted sum over a row of nodes.

    power: the power of the innermost variable in the summand. shares, logs: the powers of the shares and of their
    logarithms.
    """

    power: int
    shares: tuple[int, ...]
    logs: tuple[int, ...]


class Layout:
    """The places of a pattern's arrays in the scratch array: coefficients, moments, then the tables of a block.

    Of the coefficients, the first `forms` are those of normal variables. A pattern with products of normal variables
    also has tables of a row, and room for the powers of a ratio and for the densities of the axes.
    """

    def __init__(self, pattern: Pattern) -> None:
        c, r = pattern.components, pattern.normals
        self.normals = r
        self.coefficients = COUNTER + 1
        self.forms = c * (1 + r * (1 + pattern.curved) + len(pattern.pairs))
        self.moments = self.coefficients + self.forms + c * pattern.chi_squared
        self.nodes = self.moments + len(pattern.moments)
        self.weights = self.nodes + BLOCK
        self.factors = self.weights + BLOCK
        self.exponents = self.factors + (c - 1) * BLOCK
        self.tilted_factors = self.exponents + (c - 1) * BLOCK * bool(pattern.logged)
        self.tilted_exponents = self.tilted_factors + (c - 1) * BLOCK * pattern.crossed
        self.powers = self.tilted_exponents + (c - 1) * BLOCK * (pattern.crossed and bool(pattern.logged))
        self.densities = self.powers + LANES * pattern.crossed
        self.size = self.densities + r * pattern.crossed


def scratch_size(patterns: Sequence[Pattern]) -> int:
    """The size of a scratch array that suffices for every pattern."""
    return max((Layout(p).size for p in patterns), default=1)


FUSED = {
    "cpu": "fused = njit(error_model='numpy', fastmath={'contract', 'reassoc'}, "
    "no_cpython_wrapper=True, no_cfunc_wrapper=True)\n",
    "cuda": "fused = device\n",
}
"""The decorator of the innermost loops of lattice averages, by target. The loops sum many terms of similar size, and
the compiler can only vectorise them if it may add the terms in any order."""

CHI_HEAD = ("degrees", "normaliser", "lowest", "highest", "own_density", "steepest", "peak")
"""The numbers of a χ² law that follow the nats at the head of a group's table; see `chi_law.ChiLaw`."""


def pattern_blocks(patterns: Sequence[Pattern], target: str) -> list[str]:
    """The texts of all functions of some patterns, those of the n-th with the number n, and of what they call."""
    crossed = [copied_text("crossed")] if any(pattern.crossed for pattern in patterns) else []
    functions = [text for n, pattern in enumerate(patterns) for text in lattice_functions(n, pattern)]
    return [FUSED[target], copied_text("lattice"), *crossed, *functions]


def lattice_functions(n: int, pattern: Pattern) -> list[str]:
    """The texts of the functions of pattern n: `row_n` and `moments_n`.

    `row_n` is the innermost loop. `moments_n` writes the moments of the pattern to the scratch array.
    """
    sums = sorted({_row_sum(pattern, m) for m in range(len(pattern.moments))})
    return [_row_function(n, pattern, sums), _moments_function(n, pattern, sums)]


def outer_variables(pattern: Pattern) -> list[str]:
    """All variables but the innermost.

    The innermost variable is the last normal variable, or the χ² variable where there is no other.
    """
    if pattern.normals == 0:
        return []
    return [*(["c"] if pattern.chi_squared else []), *(f"z_{n}" for n in range(pattern.normals - 1))]


def _row_sum(pattern: Pattern, m: int) -> RowSum:
    moment = pattern.moments[m]
    return RowSum(moment.variables[max(pattern.normals - 1, 0)], moment.shares, moment.logs)


class _Text:
    """The lines of a function under construction.

    The open loops indent a line, and a product gets a name once per loop body.
    """

    def __init__(self, head: str) -> None:
        self.lines = [head]
        self.depth = 1
        self.products: dict[tuple[str, ...], str] = {}

    def __call__(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    def open(self, head: str) -> None:
        self(head)
        self.depth += 1

    def close(self) -> None:
        self.depth -= 1

    def product(self, factors: tuple[str, ...]) -> str:
        """The name of a product. Products with the same first factors share the product of these factors."""
        if len(factors) == 1:
            return factors[0]
        if factors not in self.products:
            before = self.product(factors[:-1])
            self.products[factors] = f"product_{len(self.products)}"
            self(f"{self.products[factors]} = {before} * {factors[-1]}")
        return self.products[factors]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def _row_arguments(pattern: Pattern) -> list[str]:
    c = range(pattern.components)
    return [
        "nodes",
        "weights",
        *(f"e_{l}" for l in c),
        *(f"t_{l}" for l in c if l),
        *(f"f_{l}" for l in pattern.logged),
        *(f"x_{l}" for l in pattern.logged if l),
    ]


def _row_function(n: int, pattern: Pattern, sums: list[RowSum]) -> str:
    """The text of `row_n`.

    Sums with logarithms and sums without logarithms have separate loops, so that the latter do not wait for a
    logarithm.
    """
    text = _Text(f"@fused\ndef row_{n}({', '.join(_row_arguments(pattern))}):")
    for logarithms in (False, True):
        kept = [(k, s) for k, s in enumerate(sums) if any(s.logs) == logarithms]
        if not kept:
            continue
        text(*(f"sum_{k} = 0.0" for k, _ in kept))
        text.open("for i in range(weights.shape[0]):")
        _row_body(text, pattern, kept)
        text.close()
        text.products.clear()
    text(f"return ({', '.join(f'sum_{k}' for k in range(len(sums)))},)")
    return str(text)


def _row_body(text: _Text, pattern: Pattern, kept: list[tuple[int, RowSum]]) -> None:
    components = range(pattern.components)
    text("weight = weights[i]")
    if any(s.power for _, s in kept):
        text("x = nodes[i]")
    shared = [l for l in components if any(s.shares[l] for _, s in kept)]
    logged = [l for l in components if any(s.logs[l] for _, s in kept)]
    if shared or logged:
        text(*(f"p_{l} = e_{l} * t_{l}[i]" if l else "p_0 = e_0" for l in components))
        text(f"total = {' + '.join(f'p_{l}' for l in components)}")
    if shared:
        text("inverse = 1.0 / total", *(f"share_{l} = p_{l} * inverse" for l in shared))
    if logged:
        text("log_total = log(total)")
        text(*(f"log_{l} = f_{l} + x_{l}[i] - log_total" if l else "log_0 = f_0 - log_total" for l in logged))
    for k, (power, shares, logs) in kept:
        factors = [f"share_{l}" for l in components for _ in range(shares[l])]
        factors += [f"log_{l}" for l in components for _ in range(logs[l])]
        text(f"sum_{k} += {text.product(('weight', *factors, *['x'] * power))}")


def _moments_function(n: int, pattern: Pattern, sums: list[RowSum]) -> str:
    text = _Text(f"@device\ndef moments_{n}(tables, start, points, scratch, flag):")
    layout = Layout(pattern)
    _read_coefficients(text, pattern, layout)
    _choose_steps(text, pattern, layout)
    text(*(f"total_{m} = 0.0" for m in range(len(pattern.moments))), "visited = 0")
    if pattern.crossed:
        of_lanes = f"int({WIDEST} / ({LANES} * max(1.0, steepest_slope * step)))"
        text(f"longest = {LANES} * max(1, min({BLOCK // LANES}, {of_lanes}))")
        text("blocks = (count + longest - 1) // longest")
    else:
        text(f"blocks = (count + {BLOCK - 1}) // {BLOCK}")
    text(f"length = {LANES} * ((count + {LANES} * blocks - 1) // ({LANES} * blocks))")
    text.open("for block in range(blocks):")
    _return_when_halted(text)
    _tabulate_block(text, pattern, layout)
    outer = outer_variables(pattern)
    if pattern.sampled:
        _open_points(text, pattern, outer)
    else:
        _open_axes(text, pattern, outer)
    _sum_row(text, n, pattern, sums, outer)
    text.depth = 1
    text(*(f"scratch[{layout.moments + m}] = total_{m}" for m in range(len(pattern.moments))))
    text(f"scratch[{COUNTER}] += visited")
    return str(text)


def seeks_poles(normals: int, chi_squared: bool) -> bool:
    """Whether axes are as fine as the poles of shares ask for; see `templates.crossed`.

    A χ² variable would move the poles, and there are rays for two or three normal variables.
    """
    return not chi_squared and normals <= MOST_TENSOR_VARIABLES


def _return_when_halted(text: _Text) -> None:
    """Lines that return when the flag is set.

    The lines run once per row, which costs nothing beside the nodes of the row. The number of nodes visited so far,
    which they leave in the scratch array, tells how long the rest would take.
    """
    text("if halted(flag):", f"    scratch[{COUNTER}] += visited", "    return")


def _read_coefficients(text: _Text, pattern: Pattern, layout: Layout) -> None:
    components, normals = range(pattern.components), range(pattern.normals)
    names = [f"offset_{l}" for l in components]
    names += [f"slope_{l}_{v}" for l in components for v in normals]
    names += [f"curve_{l}_{v}" for l in components for v in normals] if pattern.curved else []
    names += [f"cross_{l}_{v}_{w}" for l in components for v, w in pattern.pairs]
    names += [f"chi_{l}" for l in components] if pattern.chi_squared else []
    text(*(f"{name} = scratch[{layout.coefficients + k}]" for k, name in enumerate(names)))
    head = ("nats", *(CHI_HEAD if pattern.chi_squared else ()))
    text(*(f"{name} = tables[start + {k}]" for k, name in enumerate(head)))


def _spread(names: list[str]) -> str:
    """The text of the largest difference among numbers."""
    if len(names) == 1:
        return "0.0"
    largest = reduce(lambda a, b: f"max({a}, {b})", names)
    return f"{largest} - {largest.replace('max(', 'min(')}"


def _choose_steps(text: _Text, pattern: Pattern, layout: Layout) -> None:
    """Lines that choose the steps of the axes along which the trapezoidal rule sums.

    The lines also compute the number of nodes of the innermost axis.
    """
    components = range(pattern.components)
    inner = pattern.normals - 1
    text("radius = math.sqrt(2.0 * nats)")
    sizes = []
    if pattern.crossed:
        forms = f"scratch[{layout.coefficients} : {layout.coefficients + layout.forms}]"
        densities = f"scratch[{layout.densities} : {layout.densities + pattern.normals}]"
        sizes_of_pattern = (
            f"{pattern.components}, {pattern.normals}, nats, {seeks_poles(pattern.normals, pattern.chi_squared)}"
        )
        text(f"steepest_slope = crossed_densities({forms}, {sizes_of_pattern}, {densities})")
    for v in [inner] if pattern.sampled else range(pattern.normals):
        if pattern.crossed:
            text(f"density_{v} = scratch[{layout.densities + v}]", f"step_{v} = 1.0 / density_{v}")
            sizes.append(f"2.0 * radius * density_{v}")
            continue
        quadratic = f"2.0 * ({_spread([f'curve_{l}_{v}' for l in components])})" if pattern.curved else "0.0"
        text(f"density_{v} = normal_density({_spread([f'slope_{l}_{v}' for l in components])}, {quadratic}, nats)")
        text(f"step_{v} = 1.0 / density_{v}")
        sizes.append(f"2.0 * radius * density_{v}")
    if pattern.chi_squared and not pattern.sampled:
        text(f"density_c = chi_density({_spread([f'chi_{l}' for l in components])}, own_density, steepest)")
        text("step_c = 1.0 / density_c")
        sizes.append("(highest - lowest) * density_c")
    sizes += ["points"] if pattern.sampled else []
    text.open(f"if not {' * '.join(sizes)} < {MOST_NODES}:")
    text(*(f"scratch[{layout.moments + m}] = math.nan" for m in range(len(pattern.moments))), "return")
    text.close()
    width = f"2.0 * radius * density_{inner}" if pattern.normals else "(highest - lowest) * density_c"
    text(f"count = {LANES} * (int({width}) // {LANES} + 1)")
    step, middle = (f"step_{inner}", "") if pattern.normals else ("step_c", "0.5 * (lowest + highest) ")
    text(f"step, leftmost = {step}, {middle}- 0.5 * (count - 1) * {step}")


def _tabulate_block(text: _Text, pattern: Pattern, layout: Layout) -> None:
    components, inner = range(pattern.components), pattern.normals - 1
    text("begin = leftmost + block * length * step", "at_middle = begin + 0.5 * (length - 1) * step")
    text("middle = at_middle" if pattern.normals else "middle = degrees * exp(chi_log_ratio(at_middle, degrees))")
    text.open("for i in range(length):")
    if pattern.normals:
        text("x = begin + i * step", f"scratch[{layout.weights} + i] = {INVERSE_ROOT} * step * exp(-0.5 * x * x)")
    else:
        text("tau = begin + i * step", "x = degrees * exp(chi_log_ratio(tau, degrees))")
        text(f"scratch[{layout.weights} + i] = step * exp(chi_log_weight(tau, degrees, normaliser))")
    text(f"scratch[{layout.nodes} + i] = x", "away = x - middle")
    text(*(["squared_away = away * (x + middle)"] if pattern.curved else []))
    for l in components[1:]:
        slope, curve = (f"slope_{{}}_{inner}", f"curve_{{}}_{inner}") if pattern.normals else ("chi_{}", "")
        exponent = f"({slope.format(l)} - {slope.format(0)}) * away"
        exponent += f" + ({curve.format(l)} - {curve.format(0)}) * squared_away" if pattern.curved else ""
        text(f"exponent = {exponent}", f"scratch[{layout.factors + (l - 1) * BLOCK} + i] = exp(exponent)")
        if l in pattern.logged:
            text(f"scratch[{layout.exponents + (l - 1) * BLOCK} + i] = exponent")
    text.close()
    for l in components:
        text(f"level_{l} = offset_{l} + {_logit_part(pattern, l, f'z_{inner}' if pattern.normals else 'c', 'middle')}")


def _logit_part(pattern: Pattern, l: int, variable: str, value: str) -> str:
    """The text of the terms that one variable adds to a logit, the innermost one first.

    The terms contain the products with the variables before it, among which the innermost one is at the middle of a
    block.
    """
    if variable == "c":
        return f"chi_{l} * {value}"
    v = variable.removeprefix("z_")
    inner = pattern.normals - 1
    if pattern.crossed and int(v) != inner:
        earlier = "".join(f" + cross_{l}_{u}_{v} * z_{u}" for u in range(int(v)))
        slope = f"slope_{l}_{v} + curve_{l}_{v} * {value}{earlier} + cross_{l}_{v}_{inner} * middle"
        return f"({slope}) * {value}"
    return f"(slope_{l}_{v} + curve_{l}_{v} * {value}) * {value}" if pattern.curved else f"slope_{l}_{v} * {value}"


def _open_points(text: _Text, pattern: Pattern, outer: list[str]) -> None:
    first = 1 + len(CHI_HEAD) * pattern.chi_squared
    text("first, last = 0, length", "outer_weight = 1.0 / points")
    text.open("for point in range(points):")
    _return_when_halted(text)
    text(
        f"place = start + {first} + {len(outer)} * point", *(f"{v} = tables[place + {k}]" for k, v in enumerate(outer))
    )
    for l in range(pattern.components):
        text(f"a_{l} = level_{l} + " + " + ".join(_logit_part(pattern, l, v, v) for v in outer))


def _open_axes(text: _Text, pattern: Pattern, outer: list[str]) -> None:
    """Lines that open the loops over the outer axes, and find the part of each row that lies within the ball.

    Within the ball the Gaussian weights are not negligible.
    """
    components = range(pattern.components)
    budget, weight, level = "nats", "1.0", "level_{}"
    for k, v in enumerate(outer):
        if v == "c":
            text("reach_c = int((highest - lowest) * density_c) + 1")
            text.open("for index_c in range(reach_c):")
            text("tau = lowest + index_c * step_c", "log_weight = chi_log_weight(tau, degrees, normaliser)")
            text("c = degrees * exp(chi_log_ratio(tau, degrees))")
            text("weight_c = step_c * exp(log_weight)", "budget_c = min(nats, nats + log_weight - peak)")
        else:
            n = v.removeprefix("z_")
            text(f"reach_{n} = int(math.sqrt(2.0 * max(0.0, {budget})) * density_{n})")
            text.open(f"for index_{n} in range(-reach_{n}, reach_{n} + 1):")
            text(f"{v} = index_{n} * step_{n}", f"budget_{n} = {budget} - 0.5 * {v} * {v}")
            text(f"weight_{n} = {weight} * {INVERSE_ROOT} * step_{n} * exp(-0.5 * {v} * {v})")
        _return_when_halted(text)
        suffix = v.removeprefix("z_")
        budget, weight = f"budget_{suffix}", f"weight_{suffix}"
        new = "a_{}" if k == len(outer) - 1 else f"level_{suffix}_{{}}"
        text(*(f"{new.format(l)} = {level.format(l)} + {_logit_part(pattern, l, v, v)}" for l in components))
        level = new
    if not outer:
        text("first, last, outer_weight = 0, length, 1.0", *(f"a_{l} = level_{l}" for l in components))
        return
    text(f"outer_weight = {weight}", f"half = math.sqrt(2.0 * max(0.0, {budget}))")
    text(f"first = {LANES} * max(0, int(math.floor((-half - begin) / (step * {LANES}))))")
    text(f"last = min(length, {LANES} * (int(math.floor((half - begin) / (step * {LANES}))) + 1))")
    text.open("if last > first:")


def _sum_row(text: _Text, n: int, pattern: Pattern, sums: list[RowSum], outer: list[str]) -> None:
    components, layout = range(pattern.components), Layout(pattern)
    text(f"peak_logit = {reduce(lambda a, b: f'max({a}, {b})', [f'a_{l}' for l in components])}")
    text(*(f"f_{l} = a_{l} - peak_logit" for l in components))

    def section(offset: int) -> str:
        return f"scratch[{offset} + first : {offset} + last]"

    row_factors, row_exponents = layout.factors, layout.exponents
    at_first = {l: f"exp(f_{l})" for l in components}
    if pattern.crossed:
        row_factors, row_exponents = layout.tilted_factors, layout.tilted_exponents
        at_first |= {l: f"exp(f_{l} + tilt_{l} * first_away)" for l in components[1:]}
        _tilt_row(text, pattern, section)
    arguments = [section(layout.nodes), section(layout.weights), *at_first.values()]
    arguments += [section(row_factors + (l - 1) * BLOCK) for l in components[1:]]
    arguments += [f"f_{l}" for l in pattern.logged]
    arguments += [section(row_exponents + (l - 1) * BLOCK) for l in pattern.logged if l]
    text(f"({', '.join(f'part_{k}' for k in range(len(sums)))},) = row_{n}({', '.join(arguments)})")
    for m, moment in enumerate(pattern.moments):
        powers = {f"z_{v}": moment.variables[v] for v in range(pattern.normals)}
        powers |= {"c": moment.variables[-1]} if pattern.chi_squared else {}
        factors = ("outer_weight", *(v for v in outer for _ in range(powers[v])))
        text(f"total_{m} += {text.product(factors)} * part_{sums.index(_row_sum(pattern, m))}")
    text("visited += last - first")


def _tilt_row(text: _Text, pattern: Pattern, section: Callable[[int], str]) -> None:
    """Lines that change the factors of a row by the products of the innermost variable and the outer ones."""
    inner, layout = pattern.normals - 1, Layout(pattern)
    powers = f"scratch[{layout.powers} : {layout.powers + LANES}]"
    text("first_away = begin + first * step - middle")
    for l in range(1, pattern.components):
        place = (l - 1) * BLOCK
        products = (f"(cross_{l}_{v}_{inner} - cross_0_{v}_{inner}) * z_{v}" for v in range(inner))
        text(f"tilt_{l} = {' + '.join(products)}")
        changed = section(layout.tilted_factors + place)
        text(f"tilt({section(layout.factors + place)}, exp(tilt_{l} * step), {powers}, {changed})")
        if l in pattern.logged:
            changed = section(layout.tilted_exponents + place)
            given = f"{section(layout.exponents + place)}, {section(layout.nodes)}"
            text(f"tilt_exponents({given}, tilt_{l}, middle, {changed})")
