"""The documentation agrees with the program: commands parse, names exist, links lead somewhere, Python compiles."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from places import ROOT

import annealvi
from annealvi.cli.program import build_parser, main

README = ROOT / "README.md"
COMMANDS = ROOT / "docs" / "commands.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "notebooks" / "annealing_a_flow_of_your_own.md",
]
GENERATED = {"benchmarks.md", "reference/cli.md", "reference/problem.md", "reference/python.md", "notebooks/index.md"}
GENERATED |= {"notebooks/annealing_a_flow_of_your_own.md"}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page):
    """The arguments of every command line of the program on a page, without comments."""
    for block in (*blocks(page, "sh"), *blocks(page, "text")):
        for line in block.splitlines():
            match = re.match(r"(?:\$ )?(?:.*?(?:uv run(?: --extra \w+)?|&&|\w+=\S+) )?annealvi (.*)", line)
            if match and (language_is_shell(block) or line.startswith("$ ")):
                yield shlex.split(match[1], comments=True)


def language_is_shell(block):
    return not block.lstrip().startswith(("annealvi:", "│", "$"))


PARSED = [(page, arguments) for page in PAGES for arguments in commands(page)]


def test_there_are_commands_to_check():
    assert len(PARSED) > 25


@pytest.mark.quick
@pytest.mark.parametrize(
    ("page", "arguments"), PARSED, ids=lambda value: value.name if isinstance(value, Path) else " ".join(value)
)
def test_a_command_that_is_printed_parses(page, arguments):
    build_parser().parse_args(arguments)


@pytest.mark.quick
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles_and_its_names_exist(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
        for name in re.findall(r"\bannealvi\.(\w+)", block):
            assert hasattr(annealvi, name) or (ROOT / "annealvi" / name).is_dir(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_figures_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
        inside = (page.parent / target).resolve()
        made = (ROOT / "docs") in inside.parents and (
            inside.relative_to(ROOT / "docs").as_posix() in GENERATED
            or (ROOT / "paper" / "figures" / inside.name).is_file()
            or (ROOT / "tests" / "benchmarks" / inside.relative_to(ROOT / "docs")).is_file()
        )
        assert inside.exists() or made, target


def test_problem_files_in_the_pages_load(tmp_path):
    for page in PAGES:
        for n, block in enumerate(blocks(page, "toml")):
            tomllib.loads(block)
            path = tmp_path / f"{page.stem}-{n}.toml"
            path.write_text(block, encoding="utf-8")
            annealvi.load_problem(str(path))


def transcript(page, beginning):
    """The text before a command in a block of a page, and the output printed after the command.

    The output is split into runs of lines at the lines that hold only dots.
    """
    block = next(b for b in blocks(page, "text") if f"$ annealvi {beginning}\n" in b)
    before, _, printed = block.partition(f"$ annealvi {beginning}\n")
    return before, [
        run.strip("\n").splitlines() for run in re.split(r"^\.\.\.$", printed, flags=re.MULTILINE) if run.strip()
    ]


NUMBER = re.compile(r"[-+]?\d+(?:\.(\d*))?")


def says_the_same(printed, line):
    """Whether both lines have the same words, and numbers that differ by at most one in the last digit."""
    if " ".join(NUMBER.sub("#", printed).split()) != " ".join(NUMBER.sub("#", line).split()):
        return False
    pairs = zip(NUMBER.finditer(printed), NUMBER.finditer(line), strict=True)
    return all(
        abs(float(a[0]) - float(b[0])) < 1.01 * 10.0 ** -len(a[1] or "") if a[1] else a[0] == b[0] for a, b in pairs
    )


def test_other_numbers_do_not_say_the_same():
    assert says_the_same("T0 = 0.25, 3 of  them", "T0 = 0.26, 3 of them")
    for other in ("T0 = 0.27, 3 of them", "T0 = 0.25, 4 of them", "T1 = 0.25, 3 of them", "T0 = 0.25, 3 of us"):
        assert not says_the_same("T0 = 0.25, 3 of them", other)


TRANSCRIPTS = [
    (README, "derive"),
    *((COMMANDS, line) for line in ("derive", "rhs --state state.json", "fixed-points", "derive --set schedule.T1=3")),
]


@pytest.mark.parametrize(("page", "beginning"), TRANSCRIPTS, ids=lambda value: getattr(value, "name", value))
def test_a_transcript_is_what_the_command_prints(page, beginning, tmp_path, monkeypatch, capsys):
    before, runs = transcript(page, beginning)
    monkeypatch.chdir(tmp_path)
    if before:
        content, file = re.fullmatch(r"\$ echo '(.*)' > (\S+)\n", before).groups()
        (tmp_path / file).write_text(content, encoding="utf-8")
    status = main(shlex.split(beginning))
    captured = capsys.readouterr()
    lines = (captured.out if status == 0 else captured.err).splitlines()
    assert runs
    for run in runs:
        windows = (lines[n : n + len(run)] for n in range(len(lines) - len(run) + 1))
        assert any(all(map(says_the_same, run, window)) for window in windows), run


def formula(*overrides):
    return annealvi.collapse_probability(
        annealvi.open_session(annealvi.load_problem("bimodal", overrides)), ("formula",)
    ).formula


TUTORIAL = ROOT / "docs" / "tutorial.md"
COLD = ("schedule.kind=constant", "schedule.T0=1")


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, COMMANDS, TUTORIAL], ids=lambda page: page.name)
def test_the_probability_of_collapse_that_is_printed_is_what_the_formula_gives(page):
    arguments = next(
        arguments
        for where, arguments in PARSED
        if where == page and arguments[0] == "collapse" and "--over" not in arguments
    )
    found = formula(*arguments[2::2])
    row = r"│ formula +│ +([\d.]+) │.*\n│   leading order │ +([\d.]+) │ +│ b_c = ([\d.]+)"
    printed = [float(number) for number in re.search(row, page.read_text(encoding="utf-8")).groups()]
    assert printed == pytest.approx([found.p, found.leading, found.b_c[1]], abs=1e-4)


@pytest.mark.slow
def test_the_probability_without_annealing_is_what_the_formula_gives():
    p = formula(*COLD).p
    tutorial = TUTORIAL.read_text(encoding="utf-8")
    assert f"(`{' '.join(f'--set {change}' for change in COLD)}`) the formula says {p:.3f}" in tutorial
    assert f"{p:.0%}".replace("%", " % of runs that collapse at β = 1") in README.read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("nav:")[1]
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.relative_to(ROOT / "docs").as_posix() in navigation
    assert GENERATED - {"notebooks/annealing_a_flow_of_your_own.md"} <= set(re.findall(r"[\w/-]+\.md", navigation))
