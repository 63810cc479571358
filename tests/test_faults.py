"""Surroundings that fail a command: no home, a user without a name, text that is not UTF-8."""

import ast
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from annealvi.cli import build_parser
from kernels.module_cache import VARIABLE

ROOT = Path(__file__).resolve().parent.parent
FEW = ["--n", "2", "--t-end", "5", "--points", "2"]
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {**NO_UTF8, "PYTHONIOENCODING": "latin-1"}
ASCII = {**NO_UTF8, "PYTHONIOENCODING": "ascii"}


def started(arguments, *before, program=("-m", "annealvi"), **environment):
    """The command, with these variables, of which None is one that is not set. before: what starts Python."""
    names = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    variables = {name: value for name, value in {**os.environ, **names}.items() if value is not None}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*before, sys.executable, *program, *arguments], env=variables, **pipes)


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def nameless_user():
    """What starts a process of a user without an entry, who may read everything and write nothing that is not open to all."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a process of another user")
    before = [
        "setpriv",
        "--reuid=12345",
        "--regid=12345",
        "--clear-groups",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    ]
    with suppress(OSError):
        if subprocess.run([*before, "true"], capture_output=True, check=False).returncode == 0:
            return before
    pytest.skip("no process of another user can be started here")


@pytest.fixture
def temporary():
    """A folder that every user can make temporary files in, and can come to, which pytest's own are not for."""
    with tempfile.TemporaryDirectory() as outer:
        os.chmod(outer, 0o711)
        folder = Path(outer) / "tmp"
        folder.mkdir()
        folder.chmod(0o777)
        yield folder


NOWHERE = {VARIABLE: None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None, "MPLCONFIGDIR": None}


def test_a_user_without_home_or_name_gets_a_figure_and_one_line(temporary):
    """Neither this package's folder for kernels nor Matplotlib's for fonts can be had."""
    out = temporary / "out"
    arguments = ["integrate", *FEW, "--out", str(out)]
    status, _, err = ended(started(arguments, *nameless_user(), HOME=None, TMPDIR=str(temporary), **NOWHERE))
    assert status == 0, err
    lines = err.decode().splitlines()
    assert [line for line in lines if not line.startswith("figure: ")] == [
        f"annealvi: compiled kernels are not kept (no home directory is known); set {VARIABLE} to a folder that you alone can write to"
    ]
    assert [path.name for path in temporary.iterdir()] == ["out"]


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/home", "/", "relative", ""])
def test_particles_need_no_place_for_their_code(home, temporary):
    """Not in the package's own folder either, which another user has installed."""
    program = "import kernels.particles_cpu, kernels.projection, kernels.module_cache as m; print(m.cache_directory())"
    process = started((), *nameless_user(), program=("-c", program), HOME=home, TMPDIR=str(temporary), **NOWHERE)
    status, out, err = ended(process)
    assert (status, out) == (0, b"None\n"), err
    assert err.count(b"\n") == 1
    assert list(temporary.iterdir()) == []


def test_a_figure_without_a_home_prints_no_warning(tmp_path):
    """In one process with the command's own settings; only the folder for fonts is missing."""
    program = (
        "from annealvi import cli, commands; commands.RUN['derive'] = lambda _: __import__('annealvi.style') and 0; "
        "raise SystemExit(cli.main(['derive']))"
    )
    (tmp_path / "file").write_text("", encoding="utf-8")
    status, out, err = ended(started((), program=("-c", program), TMPDIR=str(tmp_path), **{**NOWHERE, "HOME": str(tmp_path / "file")}))
    assert (status, out, err) == (0, b"", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


COMMANDS = build_parser()._subparsers._group_actions[0].choices


@pytest.mark.parametrize("environment", [NO_UTF8, LATIN], ids=["C", "latin-1"])
def test_every_help_is_printed_without_utf8(environment):
    for command in COMMANDS:
        status, out, err = ended(started([command, "--help"], **environment))
        assert (status, err) == (0, b""), err
        assert b"Example: annealvi" in out


PROBLEM = """# ein Problem für ß
[target]
weights = [0.5, 0.5]
means = [[3, 0], [-3, 0]]
scales = [1, 1]
"""


def test_files_are_utf8_and_have_any_name_whatever_the_locale(tmp_path):
    (tmp_path / "prob-β.toml").write_text(PROBLEM, encoding="utf-8")
    outputs = ["--json", "größe.json", "--out", "ordner-ü", "--format", "markdown"]
    process = started(["derive", "prob-β.toml", *outputs], program=("-c", IN_FOLDER.format(folder=str(tmp_path))), **LATIN)
    status, _, err = ended(process)
    assert (status, err) == (0, b"")
    assert json.loads((tmp_path / "größe.json").read_bytes().decode())["states"] == ["m_1", "m_2", "s"]
    assert "β" in (tmp_path / "ordner-ü" / "derivation.md").read_bytes().decode()


IN_FOLDER = "import os; os.chdir({folder!r}); from annealvi.cli import main; raise SystemExit(main())"


def test_errors_are_one_line_without_utf8(tmp_path):
    for arguments in (["derive", "fehlt-ß.toml"], ["derive", "--set", "schedule.ß=1"], ["derive", "--set", "schedule.T0=β"], ["ß"]):
        status, out, err = ended(started(arguments, **ASCII))
        assert (status, out, err.count(b"\n")) == (2, b"", 1), err
        assert err.startswith(b"annealvi: ")
    (tmp_path / "latin.toml").write_bytes(PROBLEM.encode("latin-1"))
    status, _, err = ended(started(["derive", str(tmp_path / "latin.toml")], **ASCII))
    assert (status, err.count(b"\n")) == (2, 1), err


def test_json_on_standard_output_is_json_without_utf8():
    status, out, _ = ended(started(["derive", "--json", "-"], **ASCII))
    assert status == 0
    assert json.loads(out.decode("ascii"))["states"] == ["m_1", "m_2", "s"]


@pytest.mark.parametrize("package", ["annealvi", "kernels", "derive"])
def test_no_text_is_read_or_written_in_the_locales_encoding(package):
    """Every call that opens text names its encoding, or opens bytes."""
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                said = {keyword.arg for keyword in node.keywords} | {a.value for a in node.args if isinstance(a, ast.Constant)}
                text = name in ("read_text", "write_text") or (
                    name in ("open", "fdopen", "TextIOWrapper") and not said & {"rb", "wb", "xb"}
                )
                of_python = not (isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("os", "text"))
                assert not (text and of_python) or "encoding" in said, f"{path}:{node.lineno}"
