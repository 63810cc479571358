"""Hypothesis strategies for hostile input as bytes: problem files, `--set` overrides, states and initial states.

A document is a list of entries (section, key, value in TOML). It begins as a good document and is then spoilt at one
level or none: a value, a key, the layout or the bytes. About a third of the files stay good, so that accepted input is
tested as well as refused input. States and initial states are JSON.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Iterable

from hypothesis import strategies as st

Entry = tuple[str, str, str]
TOP = ""
KEYS = {
    "target": ("weights", "means", "scales", "reference_scale"),
    "proposal": ("weights", "scales", "radius"),
    "flow": ("manifold", "learn"),
    "schedule": ("kind", "T0", "t0", "points", "expression", "beta_expression", "tau", "level"),
    "space": ("dimension",),
    "init": ("law",),
    "objective": ("kind", "weight"),
}
PLACES = [(TOP, "name"), *((section, key) for section, keys in KEYS.items() for key in keys)]
FROM_INFINITY = ("beta-exponential", "beta-linear", "hold")
CLOSED_FORMS = ("constant", "exponential", "geometric", "linear", "beta-exponential", "beta-linear", "cosine", "hold")


def quoted(text: str) -> str:
    """A basic TOML string.

    Neither TOML nor UTF-8 has lone surrogates; they stay escapes, which the reader refuses.
    """
    return re.sub("[\x7f\ud800-\udfff]", lambda c: f"\\u{ord(c.group()):04x}", json.dumps(text, ensure_ascii=False))


# Numbers and mixtures


EXTREME_POSITIVES = ["1e100", "1e-100", "1e50", "1e-50", "1e9", "1e-9", "5", "+1.5", "1_000.0", "0x10", "1e0", "2E+0"]
positives = st.one_of(
    st.floats(0.25, 4).map(lambda x: f"{x:.3g}"), st.floats(1e-3, 1e3).map(repr), st.sampled_from(EXTREME_POSITIVES)
)
sizes = st.sampled_from([1, 2, 2, 2, 2, 2, 3, 3, 4, 9, 64])
ordinary = st.booleans() | st.just(True)


SCALES = [*EXTREME_POSITIVES, "1", "1.0", "0.9", "1.1", "2", "0.5", "1.25", "3e0"]
COORDINATES = ["0", "-0.0", "1e-300", "-1e99", "7", "0.0", "3.0", "-3.0", "0.5", "-1.25", "2", "1e1"]


def choices(count: int, among: list[str]) -> st.SearchStrategy[list[str]]:
    """`count` of the given texts. One draw of bytes chooses all of them, because a draw for each would take long."""
    return st.binary(min_size=count, max_size=count).map(lambda found: [among[byte % len(among)] for byte in found])


def weights(count: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=count, max_size=count).map(
        lambda found: array(repr((1 + byte) / (count + sum(found))) for byte in found)
    )


def scales(count: int) -> st.SearchStrategy[str]:
    return st.one_of(positives.map(lambda scale: array([scale] * count)), choices(count, SCALES).map(array))


def means(count: int, coordinates: int) -> st.SearchStrategy[str]:
    """Means that differ in their first coordinates; some have fewer coordinates than others."""

    def written(texts: list[str], unequal: bool) -> str:
        rows = [[f"{3 - 6 * k}.0", *texts[k::count]] for k in range(count)]
        return array(array(row[: 1 + k % coordinates] if unequal else row) for k, row in enumerate(rows))

    return st.builds(written, choices(count * (coordinates - 1), COORDINATES), st.booleans())


def array(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"


# Formulas of a schedule


numbers = st.one_of(
    st.integers(0, 400).map(str),
    st.floats(0, 50).map(lambda x: f"{x:.3g}"),
    st.sampled_from(["1e308", "2e-308", ".5", "3.", "0", "1e3"]),
)
atoms = st.one_of(numbers, st.sampled_from(["t", "t", "t", "T0", "t0", "pi"]))
FUNCTIONS = (
    "exp",
    "log",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "sech",
    "erf",
    "abs",
    "sigmoid",
    "floor",
)


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["+", "-", "*", "/", "**"]), inner),
        st.builds("{}({})".format, st.sampled_from([*FUNCTIONS, "", "", "-", "+"]), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max", "mod"]), inner, inner),
        st.builds("max({}, {}, {})".format, inner, inner, inner),
    )


formulas = st.recursive(atoms, compound, max_leaves=9)
coolings = st.one_of(
    st.builds("1 + {}*exp(-t/{})".format, st.integers(1, 10**6), st.integers(1, 10**6)),
    st.builds("max(1, T0 - {}*t/t0)".format, st.integers(1, 99)),
    st.builds(
        "1 + (T0 - 1)*exp(-t/t0)*{}({})**2".format,
        st.sampled_from(["cos", "sin", "tanh", "erf", "atan", "sech"]),
        formulas,
    ),
    st.builds("max(1, min(T0, {})*exp(-{}*t/t0))".format, formulas, st.integers(1, 9)),
    st.builds("1 + {}*sigmoid(({} - t)/{})".format, st.integers(1, 999), st.integers(1, 10**6), st.integers(1, 999)),
    st.builds("max(1, {} - {}*floor(t/{}))".format, st.integers(1, 999), st.integers(1, 99), st.integers(1, 10**6)),
    st.builds("max(1, 1 + (T0 - 1)*mod({}, {})*(1 - t/t0))".format, formulas, formulas),
    st.builds(
        "1 + {}/(1 + t**2/{})**{}".format,
        st.integers(1, 999),
        st.integers(1, 999),
        st.sampled_from(["1", "0.5", "2", "1.25"]),
    ),
    formulas,
)

PYTHON = [
    "__import__('os').system('touch owned')",
    "open('owned', 'w')",
    "().__class__.__bases__[0].__subclasses__()",
    "t.__class__.__init__.__globals__",
    "t.func",
    "(lambda: 1)()",
    "lambda x: x",
    "[x for x in (1, 2)]",
    "{x: 1 for x in ()}",
    "f'{t}'",
    "f\"{__import__('os')}\"",
    "(x := 3)",
    "t if t else 1",
    "exec('1')",
    "eval('t')",
    "Symbol('x')",
    "S(1).lambdify",
    "sympify('1')",
    "globals()['os']",
    "print(1)",
    "exit()",
    "1 and 2",
    "not t",
    "t < 1",
    "t == 1",
    "t % 2",
    "t // 2",
    "t @ t",
    "~t",
    "t ^ 2",
    "t; import os",
    "t\nimport os",
    "t # a comment",
    "*t",
    "**t",
    "t[0]",
    "{t}",
    "'t'",
    "1j",
    "0x10",
    "1_000",
    "None",
    "...",
    "t!",
    "`id`",
    "$(id)",
    "%s%n",
    "{{7*7}}",
]
HEAVY = [
    "9**9**9**9",
    "9**9**9**t",
    "t**9**9**9",
    "2**t**2**t",
    "factorial(10**9)",
    "gamma(t)",
    "(" * 900,
    "(" * 400 + "t" + ")" * 400,
    "(" * 40 + "t" + ")" * 40,
    "-" * 900 + "t",
    "+t" * 499,
    "*t" * 90,
    "t" + "+1" * 90,
    "t" + "**t" * 90,
    "t" + "**2" * 20,
    "t" + "/t" * 90,
    "exp(" * 45 + "t" + ")" * 45,
    "sin(" * 45 + "t" + ")" * 45,
    "sqrt(abs(" * 20 + "t" + "))" * 20,
    "max(t, " * 40 + "1" + ")" * 40,
    "max(1, " * 4 + "t" + ")" * 4,
    "(((t + 1)**100 + 1)**100 + 1)**100",
    "(t + T0 + t0 + pi)**100",
    "(sin(t) + cos(t) + tan(t) + exp(t) + log(t))**50",
    "1" * 5000,
    "9" * 900,
    "1e" + "9" * 400,
    "1." + "0" * 900,
    "0." + "0" * 900 + "1",
    "1e308*1e308",
    "1e-308/1e308",
    "exp(1e308)",
    "exp(exp(exp(exp(t))))",
    "sqrt(-1)",
    "sqrt(-t)",
    "log(0)",
    "log(-t)",
    "1/0",
    "0/0",
    "0**-1",
    "0**0",
    "t/(t - t)",
    "1/(t - 3)",
    "tan(t)",
    "log(t)",
    "t**t",
    "t**-t",
    "(-1)**t",
    "(-8)**(1/3)",
    "exp(-t)**exp(t)",
    "min(t)",
    "max()",
    "max(1, 2, 3, 4, 5)",
    "exp",
    "T0(t)",
    "t t",
    "2t",
    "t(",
    ")",
    ",",
    "",
    " ",
    "\n",
]
CONFUSED = [
    "ｔ",
    "π",
    "τ*t",
    "t²",
    "t × 2",
    "−t",
    "t\u202e",
    "\u200bt",
    "ехр(t)",
    "t\u0000",
    "t\u001b[31m",
    "𝑡",
    "t\u2028t",
    "½",
    "٣ + t",
    "∞",
    "t ÷ 2",
    "\ud800",
]
bad_formulas = st.one_of(
    st.sampled_from([*PYTHON, *HEAVY, *CONFUSED]),
    st.builds("1 + {}*exp(-t)".format, st.sampled_from([*PYTHON, *HEAVY, *CONFUSED])),
    st.builds(
        "{}{}{}".format,
        formulas,
        st.sampled_from(["**", "*", "/", "(", ", ", " "]),
        st.sampled_from([*HEAVY, *CONFUSED]),
    ),
    st.builds(lambda f, n: f[n % (len(f) + 1) :] + f[: n % (len(f) + 1)], formulas, st.integers(0, 99)),
    st.lists(st.sampled_from([*"t(((+-*/,)))01.e^", "**", "exp", "max", "T0"]), max_size=40).map("".join),
    st.builds(lambda f, n: "+".join([f] * n), formulas, st.integers(2, 60)),
    st.builds(lambda f, n: "exp(-" * n + f + ")" * n, formulas, st.integers(1, 30)),
)


# Good documents


@st.composite
def schedules(draw: st.DrawFn) -> list[Entry]:
    kind = draw(st.sampled_from([*CLOSED_FORMS, "table", "expression", "expression", "expression", "adaann", "ess"]))
    entries = [("schedule", "kind", quoted(kind))]
    if draw(ordinary):
        entries.append(
            (
                "schedule",
                "T0",
                draw(
                    st.one_of(
                        st.integers(1, 1000).map(str),
                        st.sampled_from(
                            ["1", "1.0", "1e12", "1e100", "30.5", "inf"]
                            if kind in FROM_INFINITY
                            else ["1", "1.0", "1e12", "1e100", "30.5"]
                        ),
                    )
                ),
            )
        )
    if draw(ordinary):
        entries.append(("schedule", "t0", draw(positives)))
    if kind == "table":
        entries.append(("schedule", "points", draw(tables())))
    elif kind == "expression":
        formula, quantity = draw(coolings), draw(st.sampled_from(["expression", "expression", "beta_expression"]))
        entries.append(
            (
                "schedule",
                quantity,
                quoted(f"1/({formula})" if quantity == "beta_expression" and draw(ordinary) else formula),
            )
        )
    elif kind == "adaann" and draw(ordinary):
        entries.append(("schedule", "tau", draw(positives)))
    elif kind == "ess" and draw(ordinary):
        entries.append(("schedule", "level", draw(st.sampled_from(["0.5", "0.9", "1e-9", "0.999999999"]))))
    return entries


@st.composite
def tables(draw: st.DrawFn) -> str:
    temperatures = draw(
        st.lists(
            st.sampled_from([1, 2, 300, 999, 0.5, 1e-9, 1e100]), min_size=1, max_size=draw(st.sampled_from([1, 3, 63]))
        )
    )
    step = draw(st.sampled_from([1, 0.1, 1000, 1e90, 5e-324]))
    places = [max(0, n // 2 if draw(ordinary) else n) for n in range(len(temperatures) + 1)]
    return array(f"[{n * step}, {T}]" for n, T in zip(sorted(places), [*temperatures, 1], strict=True))


any_character = st.characters(exclude_categories=["Cs"])
"""All characters of UTF-8, known by their category; Hypothesis's own strategy tries to encode a million first."""
odd_text = st.one_of(
    st.text(any_character, max_size=30),
    st.sampled_from(
        [
            "\u202eevil",
            "a/b",
            "..",
            ".hidden",
            "a\\b",
            "\n",
            "\t",
            "\x1b]0;owned\x07",
            "\x1b[2J",
            "\u2028",
            "\u200b",
            "\ufeff",
            "\x85",
            "\x9b31m",
            "%n" * 9,
        ]
    ),
    st.builds(lambda c, n: c * n, st.characters(), st.sampled_from([81, 400, 3000])),
)
names = ["mine", "a b", "β-case", "x" * 80, "-", "ﬀ", "раура1", "e\u0301", "漢字", "name"]
good_names = st.one_of(
    st.sampled_from(names), st.text(st.characters(categories=["L", "N", "Ps", "Sm"]), min_size=1, max_size=12)
)


@st.composite
def good_documents(draw: st.DrawFn) -> list[Entry]:
    """Documents that are mostly right; some names and formulas are wrong."""
    entries: list[Entry] = (
        [(TOP, "name", quoted(draw(good_names if draw(st.integers(0, 15)) else odd_text)))] if draw(ordinary) else []
    )
    coordinates = 1
    if draw(ordinary):
        count, coordinates = draw(sizes), draw(st.sampled_from([1, 1, 2, 3, 5]))
        entries += [("target", "weights", draw(weights(count))), ("target", "means", draw(means(count, coordinates)))]
        entries.append(("target", "scales", draw(scales(count))))
    if draw(ordinary):
        count = draw(sizes)
        entries += [("proposal", "weights", draw(weights(count))), ("proposal", "scales", draw(scales(count)))]
        entries.append(("proposal", "radius", draw(st.one_of(positives, scales(count)))))
    if draw(ordinary):
        entries.append(("flow", "manifold", quoted(draw(st.sampled_from(["sphere", "euclidean"])))))
        learned = draw(st.lists(st.sampled_from(["means", "weights", "scales"]), min_size=1, unique=True))
        entries.append(("flow", "learn", array(map(quoted, learned))))
    if draw(ordinary):
        entries += draw(schedules())
    if draw(ordinary):
        dimension = draw(st.sampled_from([coordinates, 5, 16, 128, 4096, 10**9]))
        entries.append(("space", "dimension", str(dimension)))
    if draw(st.booleans()):
        entries.append(("init", "law", quoted("uniform-sphere")))
    if not draw(st.integers(0, 7)):
        entries.append(("target", "reference_scale", draw(positives)))
    if not draw(st.integers(0, 7)):
        kind = draw(st.sampled_from(["reverse-kl", "forward-kl", "mixed"]))
        entries.append(("objective", "kind", quoted(kind)))
        if kind == "mixed":
            entries.append(("objective", "weight", draw(st.sampled_from(["0.5", "1e-9", "0.999", "1e-100"]))))
    return entries


# Wrong values


WRONG_VALUES = [
    "true", "false", "nan", "-nan", "inf", "-inf", "0", "-0.0", "-1", "1.5", "1e308", "1e309", "-1e400", "5e-324",
    "1e-400", "1e999999999",
    "0xffffffffffffffffffff", "0b1", "0o7", "1_0", "1__0", "01", ".5", "5.", "None", "null", "yes", "1,2", "1 2",
    "1e", "--1", "+-1", "_1",
    "1979-05-27", "1979-05-27T07:32:00Z", "1979-05-27 07:32:00.999999999999-07:00", "07:32:00", "9999-99-99",
    "0000-00-00", "25:61:61",
    '""', "''", '"a" "b"', '"', "'", '"""', "'''", '"""\n"""', "'''\r\n\x07'''", r'"\u0000"', r'"\ud800"',
    r'"\UFFFFFFFF"', r'"\x41"',
    r'"\e"', r'"\n"', "{}", "[]", "[[]]", "[{}]", "[[[]]]", "{a = 1}", "{a = {b = 1}}", "{a = 1, a = 2}",
    "{a.b.c = 1}", "{a = 1,}", "{,}",
    "[,]", "[1,,2]", "[1", "]", "}", "[1, 'a', nan]", "[nan]", "[[nan]]", "[[inf], [1.0]]", "[true, false]",
    "[[1.0], [true]]",
    "[[1.0], [1.0, 2.0]]", "[[3.0], [3.0]]", "[0.5, 0.6]", "[1.0]", "[0.5, 0.5,]", "[-0.2, 1.2]", "[1, 0]",
    "[1979-05-27]",
    "[[0, 1], [0, 1]]", "[[0, 300], [1, 1], [0.5, 1]]", "[[1, 2, 3]]", "[[0, 0.5], [1, 1]]", '"sphere"', '["means"]',
    '["means", "means"]',
    '["mean"]', '"means"', '[["means"]]', '"linear"', '"LINEAR"', '"linear "', '"table"', '"expression"', "9" * 4000,
    "9" * 5000,
    "-" + "9" * 4300, "0x" + "f" * 5000, "0b" + "1" * 9000, "0.1" + "0" * 5000 + "1", "1e-" + "9" * 999,
    "1" + "_1" * 3000,
    "[" * 60 + "]" * 60, "[" * 900 + "]" * 900, "[" * 5000 + "]" * 5000, "[" * 5000, "{a = " * 60 + "1" + "}" * 60,
    "{a = " * 900 + "1" + "}" * 900, "[" + "1.0, " * 5000 + "]", "[" + "[0.5], " * 100 + "]",
    "[" + "0.015625, " * 65 + "]",
    "[[" + "1, " * 3000 + "]]", '"' + "x" * 5000 + '"', "1 # comment", "1 \x00", "1 \x0b", "\u00a01", "１", "1\u2028",
    "#", "=", "a", "a.b",
    "\\", "1\r", "1; 2", "@", "$HOME", "../../etc/passwd", "!!python/object",
]  # fmt: skip
wrong_values = st.one_of(
    st.sampled_from(WRONG_VALUES),
    odd_text.map(quoted),
    odd_text,
    bad_formulas.map(quoted),
    st.integers().map(str),
    st.floats().map(repr),
    st.recursive(
        st.sampled_from(WRONG_VALUES[:70]), lambda inner: st.lists(inner, max_size=4).map(array), max_leaves=8
    ),
    st.integers(0, 70).map(lambda n: array(["0.5"] * n)),
    st.tuples(st.integers(0, 70), st.integers(0, 6)).map(
        lambda size: array(array(f"{k}{j}.0" for j in range(size[1])) for k in range(size[0]))
    ),
    st.lists(st.lists(st.sampled_from(["0", "1", "300", "nan", "-1", "0.5"]), max_size=3).map(array), max_size=5).map(
        array
    ),
)


@st.composite
def wrong_value(draw: st.DrawFn) -> list[Entry]:
    entries = draw(good_documents())
    if entries and draw(ordinary):
        n = draw(st.integers(0, len(entries) - 1))
        return [*entries[:n], (*entries[n][:2], draw(wrong_values)), *entries[n + 1 :]]
    place = draw(st.sampled_from(PLACES))
    return [*(entry for entry in entries if entry[:2] != place), (*place, draw(wrong_values))]


@st.composite
def wrong_formula(draw: st.DrawFn) -> list[Entry]:
    kept = [entry for entry in draw(good_documents()) if entry[0] != "schedule"]
    text = draw(bad_formulas)
    value = draw(st.sampled_from([quoted(text), quoted(text), f"'{text}'", f'"""\n{text}"""']))
    return [
        *kept,
        ("schedule", "kind", '"expression"'),
        ("schedule", "expression", value),
        ("schedule", "T0", "10"),
        ("schedule", "t0", "3"),
    ]


# Wrong keys


CONFUSABLE = str.maketrans("aeopcxtyiT", "аеорсхтуіТ")
KEY_CHANGES: list[Callable[[str], str]] = [
    lambda key: key[:-1],
    lambda key: key[1:],
    lambda key: key + "s",
    lambda key: key + key,
    lambda key: key[::-1],
    lambda key: key.upper(),
    lambda key: key.capitalize(),
    lambda key: quoted(key),
    lambda key: f"'{key}'",
    lambda key: quoted(key.translate(CONFUSABLE)),
    lambda key: key.translate(CONFUSABLE),
    lambda key: quoted("\u202e" + key),
    lambda key: quoted(key + "\u200b"),
    lambda key: quoted(key + "\n\x1b[31mannealvi: all is well"),
    lambda key: quoted(key + "\0"),
    lambda key: quoted(" " + key),
    lambda key: quoted(f"{key}.x"),
    lambda key: f"{key}.x",
    lambda key: f"x.{key}",
    lambda key: f"{key}.{key}",
    lambda key: f"{key} . 'x'",
    lambda key: f"{key}..x",
    lambda key: f".{key}",
    lambda key: f"{key}[0]",
    lambda key: f"{key} {key}",
    lambda key: key * 500,
    lambda key: quoted(key * 30_000),
    lambda key: ".".join([key] * 300),
    lambda key: ".".join([key] * 30),
    lambda key: "__class__",
    lambda key: "__init__",
    lambda key: "self",
    lambda key: "",
    lambda key: '""',
    lambda key: "1.5",
    lambda key: "-",
    lambda key: "=",
]


@st.composite
def wrong_key(draw: st.DrawFn) -> list[Entry]:
    entries = draw(good_documents()) or [("space", "dimension", "5")]
    n = draw(st.integers(0, len(entries) - 1))
    section, key, value = entries[n]
    change = draw(st.sampled_from(KEY_CHANGES))
    bad = draw(
        st.sampled_from(
            [
                [(section, change(key), value)],
                [(section, change(key), value)],
                [(change(section or "target"), key, value)],
                [(section, key, value), (section, change(key), value)],
                [(section, key, value), (section, key, value)],
                [(draw(st.sampled_from([*KEYS, TOP])), key, value)],
                [(TOP, section or key, value)],
                [(section, key, value), (f"{section}.{key}", key, value)],
            ]
        )
    )
    return [*entries[:n], *bad, *entries[n + 1 :]]


# Layout


@st.composite
def toml(draw: st.DrawFn, entries: list[Entry]) -> str:
    """The entries in one of TOML's ways to write them."""
    style = draw(st.sampled_from(["sections", "sections", "dotted", "dotted", "inline", "inline", "odd"]))
    sections: dict[str, list[tuple[str, str]]] = {}
    for section, key, value in entries:
        sections.setdefault(section, []).append((key, value))
    order = [TOP, *draw(st.permutations([name for name in sections if name != TOP]))]
    comment = draw(st.sampled_from(["", "", "  # β ∫", "\t#"]))
    lines = []
    for name in order:
        pairs = sections.get(name, [])
        if name == TOP or style == "sections":
            lines += [f"[{name}]"] if name else []
            lines += [f"{key} = {value}{comment}" for key, value in pairs]
        elif style == "dotted":
            lines[:0] = [f"{name}.{key} = {value}{comment}" for key, value in pairs]
        elif style == "inline":
            lines.insert(0, f"{name} = {{{', '.join(f'{key} = {value}' for key, value in pairs)}}}")
        else:
            lines += [
                draw(
                    st.sampled_from(
                        [
                            f"[ {name} ]",
                            f"[{name}] # x",
                            f"[{name}]\n",
                            f"[{name}]\n",
                            f"[[{name}]]",
                            f"['{name}']",
                            f"[{name}]\n[{name}]",
                        ]
                    )
                )
            ]
            lines += [f"\t{key}\t=\t{value}" for key, value in pairs]
    return "\n".join(lines) + draw(st.sampled_from(["\n", "", "\n\n"]))


PILES: list[Callable[[int], str]] = [
    lambda n: "a = " + "[" * n,
    lambda n: "a = " + "[" * n + "]" * n,
    lambda n: "a = " + "{b = " * n + "1" + "}" * n,
    lambda n: "a." * n + "a = 1",
    lambda n: "[" + "a." * n + "a]",
    lambda n: "a . " * n + "a = 1",
    lambda n: "\n".join(f"a{i} = 1" for i in range(n // 8)),
    lambda n: "\n".join(f"[a{i}]" for i in range(n // 8)),
    lambda n: "\n".join(["[[a]]"] * (n // 6)),
    lambda n: "\n".join(f"[a.b.c.d{i}]\nx.y{i} = 1" for i in range(n // 24)),
    lambda n: "\n".join("[" + "a." * 99 + f"b{i}]" for i in range(n // 200)),
    lambda n: "\n".join("[[" + "a." * 20 + f"b{i}]]" for i in range(n // 50)),
    lambda n: "a = {" + ", ".join(f"b{i} = 1" for i in range(n // 9)) + "}",
    lambda n: "a = [" + ", ".join(["{b.c = 1}"] * (n // 12)) + "]",
    lambda n: "target.means = [" + "[1.0], " * (n // 7) + "]",
    lambda n: "target.means = [[" + "1.0, " * (n // 10) + "], [" + "2.0, " * (n // 10) + "]]",
    lambda n: "schedule.points = [" + "[0, 1], " * (n // 8) + "]",
    lambda n: 'name = "' + "x" * n + '"',
    lambda n: 'name = "' + "\\u0041" * (n // 6) + '"',
    lambda n: 'name = """' + "\\\n" * (n // 2) + '"""',
    lambda n: 'name = """' + '"" ' * (n // 3),
    lambda n: "name = '''" + "'" * n,
    lambda n: "schedule.T0 = 1" + "0" * n,
    lambda n: "schedule.T0 = 1." + "0" * n,
    lambda n: "schedule.T0 = 1" + "_0" * (n // 2),
    lambda n: "schedule.T0 = 0x" + "f" * n,
    lambda n: "schedule.T0 = 0b" + "1" * n + "2",
    lambda n: "schedule.T0 = 1e" + "1" * n,
    lambda n: "space.dimension = -" + "9" * n,
    lambda n: "schedule.T0 = 1979-05-27T00:00:00." + "0" * n,
    lambda n: 'schedule.kind = "expression"\nschedule.expression = "' + "1+" * (n // 2) + '1"',
    lambda n: 'schedule.kind = "expression"\nschedule.expression = "' + " " * n + 'exp(-t)"',
    lambda n: '[schedule]\nkind = "' + "exponential" * (n // 11) + '"',
    lambda n: "flow.learn = [" + '"means", ' * (n // 9) + "]",
    lambda n: "#" * n,
    lambda n: "# " + "\t" * n,
    lambda n: "\n" * n,
    lambda n: "\r\n" * (n // 2),
    lambda n: " " * n + "a = 1",
    lambda n: "a" * n,
    lambda n: "a" * n + " = 1",
    lambda n: "=" * n,
    lambda n: '"' * n,
    lambda n: "\\" * n,
    lambda n: "é" * n,
    lambda n: "\0" * n,
]
piles = st.builds(
    lambda pile, n: pile(n),
    st.sampled_from(PILES),
    st.sampled_from([3, 9, 30, 90, 300, 900, 900, 3000, 3000, 9000, 30_000]),
)
enormous_piles = st.builds(
    lambda pile, n: pile(n), st.sampled_from(PILES), st.sampled_from([200_000, 1_000_000, 1_040_000])
)


# Bytes


HOSTILE_BYTES = [
    b"\0", b"\xff", b"\xfe\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc3", b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\x1b[31m", b"\x1b]0;owned\x07", b"\x07", b"\x08", b"\x7f", b"\x0b", b"\x0c",
    b"\r", b"\r\n", b"\n",
    b"\t", b"\x1a", b'"', b"'", b"\\", b'"""', b"#", b"=", b"[", b"]", b"[[", b"{", b"}", b".", b",",
    b"\n[target]\n", b"\n[[target]]\n",
    b"\nname = 1\n", b"\n[schedule.points]\n", b"<<<<<<<", b"%", b"\xe2\x88\x9e",
]  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, content: bytes) -> bytes:
    """The content truncated, flipped, stuffed, doubled or recoded, as happens to files."""
    start, end = sorted(draw(st.integers(0, len(content))) for _ in range(2))
    how = draw(st.integers(0, 7))
    if how == 0:
        return content[:end]
    if how == 1:
        flips = draw(
            st.lists(st.tuples(st.integers(0, max(0, len(content) - 1)), st.integers(1, 255)), min_size=1, max_size=4)
        )
        found = bytearray(content)
        for place, flip in flips:
            found[place : place + 1] = bytes(byte ^ flip for byte in found[place : place + 1])
        return bytes(found)
    if how in (2, 3):
        return (
            content[:start]
            + draw(st.sampled_from(HOSTILE_BYTES)) * draw(st.sampled_from([1, 1, 1, 2, 50]))
            + content[start:]
        )
    if how == 4:
        return content[:end] + content[start:]
    if how == 5:
        return content[:start] + content[end:]
    if how == 6:
        lines = content.split(b"\n")
        return b"\n".join(draw(st.permutations(lines[:20])))
    ending = draw(st.sampled_from([b"\r\n", b"\r", b"\n\r", b"\n\n", b" \\\n", b"\0"]))
    return content.replace(b"\n", ending)


@st.composite
def recoded(draw: st.DrawFn, text: str) -> bytes:
    prefix, encoding = draw(
        st.sampled_from(
            [
                (codecs.BOM_UTF8, "utf-8"),
                (b"", "utf-16"),
                (b"", "utf-32"),
                (b"", "latin-1"),
                (codecs.BOM_UTF8 * 2, "utf-8"),
            ]
        )
    )
    return prefix + text.encode(encoding, "replace")


def written(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@st.composite
def problem_files(draw: st.DrawFn) -> bytes:
    """A problem file, good or bad."""
    level = draw(st.integers(0, 199))
    if level < 62:
        return written(draw(toml(draw(good_documents()))))
    if level < 98:
        return written(draw(toml(draw(wrong_value()))))
    if level < 124:
        return written(draw(toml(draw(wrong_formula()))))
    if level < 148:
        return written(draw(toml(draw(wrong_key()))))
    if level < 178:
        return draw(spoilt(written(draw(toml(draw(good_documents()))))))
    if level < 182:
        return draw(recoded(draw(toml(draw(good_documents())))))
    if level < 188:
        one, other = (written(draw(toml(draw(good_documents())))) for _ in range(2))
        return one[: draw(st.integers(0, len(one)))] + other[draw(st.integers(0, len(other))) :]
    if level < 191:
        return draw(st.binary(max_size=200))
    if level < 194:
        return written(draw(st.text(any_character, max_size=200)))
    if level < 199 or draw(st.integers(0, 3)):
        return written(draw(piles))
    return written(draw(enormous_piles))


@st.composite
def override_sets(draw: st.DrawFn) -> bytes:
    """The arguments that follow `--set`, each ended by a zero byte, which no argument can contain."""
    entries = draw(st.one_of(good_documents(), good_documents(), wrong_value(), wrong_formula(), wrong_key()))
    equals = draw(st.sampled_from(["=", "=", " = ", "=\t", " "]))
    texts = [f"{section}.{key}".lstrip(".") + equals + value for section, key, value in entries]
    if not draw(st.integers(0, 3)):
        texts.append(draw(st.one_of(odd_text, piles)))
    overrides = [written(text).replace(b"\0", b"") for text in texts]
    if overrides and not draw(st.integers(0, 3)):
        n = draw(st.integers(0, len(overrides) - 1))
        overrides[n] = draw(spoilt(overrides[n])).replace(b"\0", b"")
    return b"".join(override + b"\0" for override in overrides)


def as_overrides(content: bytes) -> list[str]:
    return [os.fsdecode(override) for override in content.split(b"\0")[:-1]]


# JSON


WRONG_JSON = [
    "null", "true", "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e101", "0", "-1", '"1"', "[]", "{}", "[[]]",
    "[null]",
    "[[1], [2, 3]]", "9" * 400, "9" * 5000, "-" + "9" * 400, "1" + "0" * 308 + ".5", "[" * 5000 + "]" * 5000,
    "[" * 90_000, '{"a":' * 5000,
    "[0, 0]", "[1e-320]", "01", "1.", ".5", "+1", "'a'", "nan", "None", '"\\ud800"', '"\x00"', '"\n"',
    '"' + "x" * 5000 + '"', "[1,]",
    "[,1]", "{1: 2}", "//", "1 2", "[[0.1, 0.2]]",
]  # fmt: skip


@st.composite
def json_files(draw: st.DrawFn, good: dict[str, st.SearchStrategy[str]], wrap: str) -> bytes:
    """A JSON object with the keys of `good`, whose values are JSON texts; `wrap` has %s in the object's place."""
    pairs = [(key, draw(value)) for key, value in good.items()]
    level = draw(st.integers(0, 9))
    if level in (3, 4, 5, 6):
        n = draw(st.integers(0, len(pairs) - 1))
        key, value = pairs[n]
        wrong = st.one_of(
            st.sampled_from(WRONG_JSON), st.lists(st.sampled_from(WRONG_JSON[:20]), max_size=4).map(array)
        )
        keys = st.sampled_from([key[:-1], key.upper(), key + "\u202e", "\x1b[31m\n", key * 999, "", "\ud800"])
        changes = [
            [(key, draw(wrong))],
            [(key, draw(wrong))],
            [],
            [(draw(keys), value)],
            [(key, value), (draw(keys), value)],
            [(key, value)] * 2,
        ]
        pairs[n : n + 1] = draw(st.sampled_from(changes))
    content = (wrap % ("{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in pairs) + "}")).encode()
    if level in (7, 8):
        return draw(spoilt(content))
    return (
        draw(st.one_of(st.sampled_from(WRONG_JSON).map(str.encode), st.binary(max_size=99))) if level == 9 else content
    )


_vectors = st.lists(
    st.sampled_from(["[3, 0]", "[0.5, -2.5]", "[1e100, 1]", "[-1e-300, 0]", "[0.0, 1]"]), min_size=2, max_size=2
).map(array)
_numbers = st.lists(st.sampled_from(["1", "0.5", "2.25", "1e-100", "1e100"]), min_size=2, max_size=2).map(array)
state_files = json_files(
    {
        "means": _vectors,
        "weights": st.sampled_from(["[0.5, 0.5]", "[0.25, 0.75]"]),
        "scales": _numbers,
        "beta": st.sampled_from(["1", "0.5", "1e-9"]),
    },
    "%s",
)
_overlaps = st.sampled_from(["[0.1]", "[-0.5]", "[0]", "[0.25]", "[1e-300]"])
initial_files = json_files({"m_1": _overlaps, "m_2": _overlaps, "s": _overlaps}, '{"states": %s}')
INPUTS: dict[str, st.SearchStrategy[bytes]] = {
    "problem": problem_files(),
    "set": override_sets(),
    "state": state_files,
    "initial": initial_files,
}
