"""Commands in difficult surroundings.

There is no home directory, the user has no name, text is not UTF-8, files cannot be locked, or the system is not POSIX.
"""

import ast
import errno
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import h5netcdf
import pytest
from places import PYTHONPATH, ROOT
from small_sweep import SmallSweep

import annealvi
from annealvi.cli.program import build_parser, main
from annealvi.fixed_points.bifurcation_diagram import bifurcation_figure
from annealvi.show import style
from annealvi.sweeps.running import run_sweep, sweeping
from derive.problem.specification import BadInput
from kernels.machine.module_cache import VARIABLE

FEW = ["--n", "2", "--t-end", "5", "--points", "2"]
NO_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN = {**NO_UTF8, "PYTHONIOENCODING": "latin-1"}
ASCII = {**NO_UTF8, "PYTHONIOENCODING": "ascii"}


def started(arguments, *before, program=("-m", "annealvi"), **environment):
    """Start the command with these environment variables, of which None unsets one.

    `before` is the command that starts Python.
    """
    names = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    variables = {name: value for name, value in {**os.environ, **names}.items() if value is not None}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*before, sys.executable, *program, *arguments], env=variables, **pipes)


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def nameless_user():
    """The command that starts a process of a user without an entry in the user database.

    The user may read everything, and may write only to what is open to all.
    """
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
    """A folder that every user can reach and make temporary files in; pytest's own folders do not allow that."""
    with tempfile.TemporaryDirectory() as outer:
        os.chmod(outer, 0o711)
        folder = Path(outer) / "tmp"
        folder.mkdir()
        folder.chmod(0o777)
        yield folder


NOWHERE = {VARIABLE: None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None, "MPLCONFIGDIR": None}


def test_a_user_without_home_or_name_gets_a_figure_and_one_line(temporary):
    """Neither this package's folder for kernels nor Matplotlib's folder for fonts can be made."""
    out = temporary / "out"
    arguments = ["integrate", *FEW, "--out", str(out)]
    status, _, err = ended(started(arguments, *nameless_user(), HOME=None, TMPDIR=str(temporary), **NOWHERE))
    assert status == 0, err
    lines = err.decode().splitlines()
    assert [
        line for line in lines if not line.startswith(("figure: ", "integrate: "))
    ] == [  # "integrate: " announces what takes long
        f"annealvi: compiled kernels are not kept (no home directory is known); set {VARIABLE} to a "
        f"folder that you alone can write to"
    ]
    assert [path.name for path in temporary.iterdir()] == ["out"]


@pytest.mark.parametrize("home", ["/dev/null", "/dev/null/home", "/", "relative", ""])
def test_particles_need_no_place_for_their_code(home, temporary):
    """The particle simulation can be imported where no folder for its code can be written.

    The package's own folder cannot be written either, because another user has installed it.
    """
    program = (
        "import kernels.particles.cpu, kernels.particles.projection, kernels.machine.module_cache as "
        "m; print(m.cache_directory())"
    )
    process = started((), *nameless_user(), program=("-c", program), HOME=home, TMPDIR=str(temporary), **NOWHERE)
    status, out, err = ended(process)
    assert (status, out) == (0, b"None\n"), err
    assert err.count(b"\n") == 1
    assert list(temporary.iterdir()) == []


def test_a_figure_without_a_home_prints_no_warning(tmp_path):
    """One process has the command's own settings; only Matplotlib's folder for fonts is missing."""
    program = (
        "from annealvi.cli import program, commands; commands.derive.run = lambda _: "
        "__import__('annealvi.show.style') and 0; "
        "raise SystemExit(program.main(['derive']))"
    )
    (tmp_path / "file").write_text("", encoding="utf-8")
    status, out, err = ended(
        started((), program=("-c", program), TMPDIR=str(tmp_path), **{**NOWHERE, "HOME": str(tmp_path / "file")})
    )
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
    outputs = ["--json", "größe.json", "--out", "ordner-ü"]
    process = started(
        ["derive", "prob-β.toml", *outputs], program=("-c", IN_FOLDER.format(folder=str(tmp_path))), **LATIN
    )
    status, _, err = ended(process)
    assert (status, err) == (0, b"")
    assert json.loads((tmp_path / "größe.json").read_bytes().decode())["states"] == ["m_1", "m_2", "s"]
    assert "β" in (tmp_path / "ordner-ü" / "derivation.txt").read_bytes().decode()


IN_FOLDER = (
    "import os; os.chdir({folder!r}); from annealvi.cli import console, program; "
    "console.SILENCE = 1e6; raise SystemExit(program.main())"
)
"""A process of the command in a folder. It reports no stages, which depend on how fast the machine is."""


def test_errors_are_one_line_without_utf8(tmp_path):
    for arguments in (
        ["derive", "fehlt-ß.toml"],
        ["derive", "--set", "schedule.ß=1"],
        ["derive", "--set", "schedule.T0=β"],
        ["ß"],
    ):
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
                said = {keyword.arg for keyword in node.keywords} | {
                    a.value for a in node.args if isinstance(a, ast.Constant)
                }
                text = name in ("read_text", "write_text") or (
                    name in ("open", "fdopen", "TextIOWrapper") and not said & {"rb", "wb", "xb", "r+b"}
                )
                of_python = not (
                    isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") in ("os", "text")
                )
                assert not (text and of_python) or "encoding" in said, f"{path}:{node.lineno}"


NO_LOCKS = """
import ctypes, errno, platform, struct, sys

def instruction(code, if_true, if_not, operand):
    return struct.pack("HBBI", code, if_true, if_not, operand)

# A filter of system calls: load the number of the call; is it flock's? then ENOLCK, else let it pass.
flock = {"x86_64": 73, "aarch64": 32}[platform.machine()]
program = b"".join([instruction(0x20, 0, 0, 0), instruction(0x15, 0, 1, flock),
                    instruction(0x06, 0, 0, 0x00050000 | errno.ENOLCK), instruction(0x06, 0, 0, 0x7FFF0000)])
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_char_p)]
libc = ctypes.CDLL(None)
rules = Filter(4, ctypes.cast(program, ctypes.c_char_p))
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(rules), 0, 0):
    sys.exit(77)
"""
SWEEP_WITHOUT_LOCKS = """
import sys
from small_sweep import SmallSweep
from annealvi.sweeps.running import Execution, run_sweep
from derive.problem.specification import BadInput
progress = lambda done, total: print(done, end=" ")
try:
    tell = lambda line: print(line, file=sys.stderr)
    run_sweep(SmallSweep(), sys.argv[1], Execution(chunk=10), progress=progress, tell=tell)
except BadInput as wrong:
    print(wrong, file=sys.stderr)
    sys.exit(2)
"""


def without_locks(path, **environment):
    """Run a sweep on a file system without locks."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux, which can be told to refuse a lock")
    paths = PYTHONPATH
    program = ("-c", NO_LOCKS + SWEEP_WITHOUT_LOCKS)
    status, out, err = ended(
        started([str(path)], program=program, **{"HDF5_USE_FILE_LOCKING": None, "PYTHONPATH": paths, **environment})
    )
    if status == 77:
        pytest.skip("this system takes no filter of system calls")
    return status, out.decode(), err.decode()


def test_a_file_system_without_locks_takes_a_sweep_which_says_so(tmp_path):
    run_sweep(SmallSweep(), tmp_path / "whole.nc")
    path = tmp_path / "found.nc"
    status, out, err = without_locks(path)
    assert (status, out) == (0, "0 10 20 ")
    assert (
        err.splitlines()[0] == f"{tmp_path / 'found.parts'} cannot be locked: see to it that no other run works on it"
    )
    assert path.read_bytes() == (tmp_path / "whole.nc").read_bytes()


def test_where_hdf5_is_told_to_lock_that_is_found_out_before_the_work_and_the_place_is_named(tmp_path):
    status, out, err = without_locks(tmp_path / "found.nc", HDF5_USE_FILE_LOCKING="TRUE")
    assert (status, out) == (2, "")
    assert err.startswith(f"{tmp_path / 'found.parts'}: HDF5 cannot write there (")
    assert "No locks available" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["HDF5", "fsync", "read"])
def test_every_error_of_the_disk_in_a_sweep_names_its_file(name, tmp_path, monkeypatch):
    """The errors of open files and of HDF5 do not name their file, so the sweep must add the name."""
    broken = OSError(errno.EIO, "Input/output error")

    def fail(*_, **__):
        raise broken

    def begin_to_fail(done, _):
        if done == 20:
            place = {"HDF5": (h5netcdf, "File"), "fsync": (os, "fsync"), "read": (Path, "read_bytes")}[name]
            monkeypatch.setattr(*place, fail)

    with pytest.raises((OSError, BadInput)) as found:
        run_sweep(SmallSweep(), tmp_path / "found.nc", progress=begin_to_fail)
    assert str(tmp_path / "found.parts") in str(found.value)
    assert "Input/output error" in str(found.value)


def test_an_error_without_a_name_is_not_blamed_on_standard_output(capsys, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("annealvi.cli.commands.derive.run", fail)
    assert main(["derive"]) == 2
    assert capsys.readouterr().err.startswith(
        "annealvi: standard output, or what has no name: cannot be written or read (No locks"
    )


POSIX = {
    "modules": ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "readline", "curses"),
    "signal": (
        "SIGHUP",
        "SIGKILL",
        "SIGQUIT",
        "SIGALRM",
        "SIGUSR1",
        "SIGXFSZ",
        "SIGCHLD",
        "alarm",
        "setitimer",
        "pthread_sigmask",
    ),
    "os": (
        *(
            "geteuid",
            "getuid",
            "getgid",
            "getegid",
            "getgroups",
            "fork",
            "setsid",
            "killpg",
            "getpgid",
            "nice",
            "sched_getaffinity",
        ),
        *("sched_setaffinity", "posix_fallocate", "fchmod", "fchown", "chown", "mkfifo", "sysconf", "getloadavg"),
        *("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_TMPFILE", "WEXITSTATUS", "wait", "waitid", "register_at_fork"),
    ),
}
"""Modules and names that Windows does not have."""


@pytest.mark.parametrize("package", ["annealvi", "kernels", "derive"])
def test_what_windows_does_not_have_is_asked_for_before_it_is_used(package):
    for path in (ROOT / package).rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else {node.module}
                assert names.isdisjoint(POSIX["modules"]) or "except ModuleNotFoundError:  # Windows" in source, (
                    f"{path}:{node.lineno}"
                )
            elif isinstance(node, ast.Attribute) and node.attr in POSIX.get(getattr(node.value, "id", ""), ()):
                assert f'hasattr({ast.unparse(node.value)}, "{node.attr}")' in source, f"{path}:{node.lineno}"


WINDOWS = f"""
# with what is there
import asyncio, concurrent.futures, importlib.metadata, multiprocessing, platform, subprocess, tempfile
import h5netcdf, llvmlite.binding, matplotlib.figure, numba, rich.console, scipy.io, sympy, xarray
import builtins, os, signal, sys
platform.processor()
POSIX = {POSIX!r}
for name in POSIX["modules"]:
    sys.modules[name] = None
for module in (os, signal):
    for name in POSIX[module.__name__]:
        if hasattr(module, name):
            delattr(module, name)
tempfile._O_TMPFILE_WORKS = False  # as tempfile finds where it is imported without the name
opened, is_folder, synchronised = os.open, os.path.isdir, os.fsync
def open_no_folder(path, flags, *arguments, **options):
    if is_folder(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, flags, *arguments, **options)
def synchronise_what_can_be_written(descriptor):
    os.write(descriptor, b"")  # EBADF for one that is open to be read
    synchronised(descriptor)
os.open, os.fsync = open_no_folder, synchronise_what_can_be_written
from small_sweep import SmallSweep
from annealvi.cli.program import main
from annealvi.sweeps.engines import InProcess
from annealvi.sweeps.plan import make_plan
from annealvi.sweeps.running import run_sweep
from kernels.machine.module_cache import VARIABLE, keep
out, cache, *command = sys.argv[1:]
status = main(command)
os.environ[VARIABLE] = cache
keep("kept", b"")
print(make_plan(SmallSweep(), 0, InProcess(), None))
run_sweep(SmallSweep(), os.path.join(out, "found.nc"), tell=print)
sys.exit(status)
"""


def test_without_what_windows_does_not_have_kernels_and_sweeps_run_all_the_same(tmp_path):
    """The names that Windows lacks are removed, and no folder can be opened.

    As on Windows, the mode of the cache's folder says only that every user may write to it; the cache must still be
    used.
    """
    run_sweep(SmallSweep(), tmp_path / "whole.nc")
    cache, out = tmp_path / "cache", tmp_path / "out"
    cache.mkdir()
    cache.chmod(0o777)
    command = [str(out), str(cache), "integrate", *FEW, "--out", str(out)]
    paths = PYTHONPATH
    status, printed, err = ended(started(command, program=("-c", WINDOWS), PYTHONPATH=paths))
    assert (status, err) == (0, b"")
    assert {path.name for path in out.iterdir()} == {"paths.json", "paths.png", "found.nc"}
    assert (out / "found.nc").read_bytes() == (tmp_path / "whole.nc").read_bytes()
    assert os.listdir(cache) == ["kept"]
    planned, locked, *_ = printed.decode().splitlines()[-4:]
    assert "a result of" in planned
    assert "memory" not in planned
    assert locked == f"{out / 'found.parts'} cannot be locked: see to it that no other run works on it"


def paths_of(function):
    """The parameters of a function that take a path."""
    return [
        p for p in inspect.signature(function).parameters.values() if re.search(r"[Pp]ath", f"{p.name} {p.annotation}")
    ]


def with_paths():
    """(name, parameter) for every parameter of a public function or method that takes a path."""
    public = {name: getattr(annealvi, name) for name in annealvi.__all__}
    methods = {
        f"{n}.{m}": f
        for n, c in public.items()
        if inspect.isclass(c)
        for m, f in vars(c).items()
        if inspect.isfunction(f)
    }
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)} | methods
    functions |= {
        f.__name__: f for f in (bifurcation_figure, style.save, run_sweep, sweeping)
    }  # used by the notebooks and the documentation
    return [(name, parameter) for name, function in functions.items() for parameter in paths_of(function)]


def test_every_public_path_may_be_any_path():
    assert len(with_paths()) >= 10
    for name, parameter in with_paths():
        assert "PathLike" in str(parameter.annotation), f"{name}({parameter})"


class ByAnotherLibrary(os.PathLike):
    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize("kind", [str, Path, ByAnotherLibrary])
def test_paths_of_every_kind_are_taken(kind, tmp_path, monkeypatch):
    """Sweeps, problem files and figures take every kind of path.

    Maps and grids hand their path to a sweep as it is.
    """
    (tmp_path / "mine.toml").write_text("space.dimension = 8", encoding="utf-8")
    problem = annealvi.load_problem(kind(tmp_path / "mine.toml"))
    assert problem.space.dimension == 8
    run_sweep(SmallSweep(), kind(tmp_path / "found.nc"))
    with sweeping(SmallSweep(), kind(tmp_path / "again.nc")) as data:
        assert dict(data.sizes) == {"y": 4, "x": 5, "k": 3}
    handed = []
    axis, other = annealvi.Axis("schedule.T0", 3, 5, 2), annealvi.Axis("schedule.t0", 5, 6, 2)
    monkeypatch.setattr("annealvi.collapse.probability_grid.run_sweep", lambda _, path: handed.append(path))
    monkeypatch.setattr("annealvi.collapse.phase_maps.run_sweep", lambda _, path: handed.append(path))
    annealvi.collapse_grid(problem, (axis,), path=kind(tmp_path / "g.nc"))
    annealvi.phase_map(problem, axis, other, path=kind(tmp_path / "p.nc"))
    assert [os.fspath(path) for path in handed] == [str(tmp_path / "g.nc"), str(tmp_path / "p.nc")]
    with style.figure() as (figure, _):
        style.save(figure, kind(tmp_path / "figure.png"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.nc", "figure.png", "found.nc", "mine.toml"]
