"""The documentation says what the program does: its commands parse, its names exist, its links lead somewhere, its Python compiles."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

import annealvi
from annealvi.cli import build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "notebooks" / "annealing_a_flow_of_your_own.md"]
GENERATED = {"benchmarks.md", "reference/cli.md", "reference/problem.md", "reference/python.md", "notebooks/index.md"}
GENERATED |= {"notebooks/annealing_a_flow_of_your_own.md"}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page):
    """Every command line of the program, without what stands before it and after a comment or an &&."""
    for block in (*blocks(page, "sh"), *blocks(page, "text")):
        for line in block.splitlines():
            match = re.match(r"(?:\$ )?(?:.*?(?:uv run|&&|\w+=\S+) )?annealvi (.*)", line)
            if match and (language_is_shell(block) or line.startswith("$ ")):
                yield shlex.split(match[1], comments=True)


def language_is_shell(block):
    return not block.lstrip().startswith(("annealvi:", "│", "$"))


PARSED = [(page, arguments) for page in PAGES for arguments in commands(page)]


def test_there_are_commands_to_check():
    assert len(PARSED) > 25


@pytest.mark.parametrize(("page", "arguments"), PARSED, ids=lambda value: value.name if isinstance(value, Path) else " ".join(value))
def test_a_command_that_is_printed_parses(page, arguments):
    build_parser().parse_args(arguments)


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
            inside.relative_to(ROOT / "docs").as_posix() in GENERATED or (ROOT / "paper" / "figures" / inside.name).is_file()
        )
        assert inside.exists() or made, target


def test_problem_files_in_the_pages_load(tmp_path):
    for page in PAGES:
        for n, block in enumerate(blocks(page, "toml")):
            tomllib.loads(block)
            path = tmp_path / f"{page.stem}-{n}.toml"
            path.write_text(block, encoding="utf-8")
            annealvi.load_problem(str(path))


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("nav:")[1]
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.relative_to(ROOT / "docs").as_posix() in navigation
    assert GENERATED - {"notebooks/annealing_a_flow_of_your_own.md"} <= set(re.findall(r"[\w/-]+\.md", navigation))
