"""Ctrl-C, SIGTERM and a closed terminal at any moment.

The exit status and one line tell of the interrupt, and nothing is left behind.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from places import ROOT
from small_sweep import SmallSweep

from annealvi.cli import commands, errors, program, signals
from annealvi.cli.program import main
from annealvi.show import output
from annealvi.sweeps import result_file, running, store
from annealvi.sweeps.running import Execution, parts_of, run_sweep
from derive.problem.specification import BadInput
from kernels.machine import module_cache


@pytest.fixture
def heard_interrupts():
    """Give these tests the signal handlers of a terminal's program."""
    before = hear_all()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def hear_all():
    """Set the signal handlers of a terminal's program, and return those before.

    A process inherits ignored signals from nohup, or from a shell that starts these tests in the background.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    return {number: signal.signal(number, handler) for number, handler in usual.items()}


def started(program, folder, cache=None):
    """A process with folders of its own for work, home and temporary files, and for the cache if none is given."""
    places = {name: folder / name for name in ("work", "home", "tmp", "cache")}
    for place in places.values():
        place.mkdir(exist_ok=True)
    own = {
        "HOME": places["home"],
        "TMPDIR": places["tmp"],
        "ANNEALVI_CACHE_DIR": cache or places["cache"],
        "MPLCONFIGDIR": places["home"],
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **{name: str(place) for name, place in own.items()}}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, *program], cwd=places["work"], env=environment, preexec_fn=hear_all, **pipes
    )


def ends_interrupted(process, folder, status=130):
    """Assert that the process ends with the status and one line, and leaves its folders empty.

    Finished files may stay in the cache.
    """
    try:
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()  # a process that hears no signal would compute for hours
    assert process.returncode == status, err
    # The last alternative is printed where the compiler fails in its own way.
    on_the_way = re.compile(r"(about|at least) .*|checked: .*|\w+: .* …|annealvi: on the way out: .*")
    told = [line for line in err.splitlines() if not on_the_way.fullmatch(line)]
    assert told == ["annealvi: interrupted"]
    assert [path for name in ("work", "tmp") for path in (folder / name).iterdir()] == []
    assert [path for path in (folder / "cache").iterdir() if path.suffix not in (".py", ".compiled")] == []


OUTPUTS = ["--json", "r.json", "--out", "out"]
LONG = ["simulate", "--max-cost", "1e9", "--particles", "20000", *OUTPUTS]
BEGUN = (
    "import runpy, sys; sys.argv[0] = 'annealvi'; print(flush=True); runpy.run_module('annealvi', "
    "run_name='__main__', alter_sys=True)"
)


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        *((["derive", *OUTPUTS], seconds) for seconds in (0.1, 0.3, 0.6, 1.0, 1.5)),
        (["derive", "--html", "page.html"], 5.0),
        *((["integrate", *OUTPUTS], seconds) for seconds in (2.0, 5.0)),
        (LONG, 7.0),
    ],
)
def test_ctrl_c_ends_a_command_with_status_130_and_no_files(arguments, seconds, tmp_path):
    process = started(["-c", BEGUN, *arguments], tmp_path)
    process.stdout.readline()
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    if arguments is not LONG and process.wait(timeout=300) == 0:  # a fast machine ends before the signal
        assert {path.name for path in (tmp_path / "work").iterdir()} in ({"out", "r.json"}, {"page.html"})
        return
    ends_interrupted(process, tmp_path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_ends_are_as_quiet_and_leave_as_little(number, status, tmp_path):
    process = started(["-c", BEGUN, *LONG], tmp_path)
    process.stdout.readline()
    time.sleep(3)
    process.send_signal(number)
    ends_interrupted(process, tmp_path, status)


SWELLING = """
[target]
weights = [0.16666666666666666, 0.8333333333333334]
means = [[0], [10.392]]
scales = [0.4472, 1]
[proposal]
weights = [1.0]
scales = [1.0]
radius = 5
[flow]
manifold = "euclidean"
learn = ["means", "scales"]
[space]
dimension = 3
"""
"""At a high temperature the learned scale grows to √T0 times the target's. The number of nodes of an average grows with
the scale's fourth power, up to 10⁹."""


def test_a_step_that_takes_minutes_hears_sigterm(tmp_path):
    """SIGTERM ends the run while a long step computes.

    The program announces each stage and then the cost. The run begins after the cost is told, and prints nothing until
    its end. The kernels may come from the cache of these tests, since no signal arrives while they are compiled.
    """
    problem = tmp_path / "swelling.toml"
    problem.write_text(SWELLING)
    process = started(
        ["-c", BEGUN, "integrate", str(problem), "--n", "2", "--t-end", "2", "--max-cost", "1e9"],
        tmp_path,
        module_cache.cache_directory(),
    )
    late = threading.Timer(280.0, process.kill)
    late.start()
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(("about ", "at least ")):
            break
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    ends_interrupted(process, tmp_path, 143)
    late.cancel()
    assert any(line.startswith("integrate: ") for line in said)


def test_ctrl_c_again_and_again_changes_nothing(tmp_path):
    process = started(["-c", BEGUN, *LONG], tmp_path)
    process.stdout.readline()
    time.sleep(3)
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    ends_interrupted(process, tmp_path)


@pytest.mark.parametrize(
    "module",
    [
        *("annealvi.cli.program", "argparse", "annealvi.cli.parser", "annealvi.cli.commands", "annealvi.cli.console"),
        *("numpy", "sympy", "annealvi.session.session"),
    ],
)
def test_ctrl_c_during_an_import_is_quiet(module, tmp_path):
    striking = f"""
import runpy, signal, sys
class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Strike())
sys.argv = ["annealvi", "derive"]
runpy.run_module("annealvi", run_name="__main__", alter_sys=True)
"""
    ends_interrupted(started(["-c", striking], tmp_path), tmp_path)


@pytest.mark.quick
def test_ctrl_c_on_the_way_out_is_ignored(tmp_path):
    program = (
        "import atexit, signal, sys; from annealvi.cli.program import main; "
        "atexit.register(signal.raise_signal, signal.SIGINT); "
        "sys.argv = ['annealvi', '--version']; status = main(); signal.raise_signal(signal.SIGINT); sys.exit(status)"
    )
    process = started(["-c", program], tmp_path)
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0


def strike_at(opcode, files, call):
    """Call with a Ctrl-C before opcode number `opcode`, counted among the opcodes that run in the files.

    Returns whether there were so many opcodes.
    """
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == opcode:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count >= opcode


@pytest.mark.usefixtures("heard_interrupts")
def test_ctrl_c_before_any_opcode_of_a_write_to_the_cache_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(module_cache.VARIABLE, str(tmp_path))
    for opcode in range(1, 10_000):
        struck = True
        with contextlib.suppress(KeyboardInterrupt):
            struck = strike_at(opcode, {module_cache.__file__}, lambda: module_cache.keep("kept", b"content"))
        assert {path.name for path in tmp_path.iterdir()} <= {"kept"}
        if not struck:
            break
    assert 30 < opcode < 10_000


@pytest.mark.usefixtures("heard_interrupts")
def test_ctrl_c_before_any_opcode_of_a_write_of_a_result_leaves_nothing_half_written(tmp_path):
    path = tmp_path / "result"
    for opcode in range(1, 10_000):
        path.write_bytes(b"before")
        struck = True
        with contextlib.suppress(KeyboardInterrupt):
            struck = strike_at(opcode, {output.__file__}, lambda: output.write_file(path, b"content"))
        assert {found.name for found in tmp_path.iterdir()} == {"result"}
        assert path.read_bytes() in (b"before", b"content")
        if not struck:
            break
    assert 30 < opcode < 10_000


def let_go(folder):
    """Release the lock on a folder, as the end of the process would."""
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}") in (str(folder), f"{folder} (deleted)"):
                os.close(int(descriptor))


@pytest.mark.usefixtures("heard_interrupts")
@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_ctrl_c_at_any_moment_of_a_sweep_leaves_chunks_from_which_it_goes_on(tmp_path):
    """Ctrl-C comes before every 53rd opcode of the modules that write."""
    sweep, path = SmallSweep(rows=2, columns=2), tmp_path / "found" / "found.nc"
    run_sweep(sweep, tmp_path / "whole.nc")
    whole, count = (tmp_path / "whole.nc").read_bytes(), 0
    files = {module.__file__ for module in (output, store, running, result_file)}
    for opcode in range(1, 100_000, 53):
        struck = True
        with contextlib.suppress(KeyboardInterrupt):
            struck = strike_at(opcode, files, lambda: run_sweep(sweep, path, Execution(chunk=2)))
        let_go(parts_of(path))
        left = (
            {str(file.relative_to(path.parent)) for file in path.parent.rglob("*")} if path.parent.exists() else set()
        )
        assert not [name for name in left if "/." in name or name.startswith(".")]
        done = path.exists() and not (parts_of(path) / store.STATED).exists()
        run_sweep(sweep, path, Execution(force=done))
        assert path.read_bytes() == whole
        assert [file.name for file in path.parent.iterdir()] == ["found.nc"]
        shutil.rmtree(path.parent)
        count += 1
        if not struck:
            break
    assert count > 30


@pytest.mark.usefixtures("heard_interrupts")
def test_ctrl_c_before_any_opcode_of_the_command_line_is_status_130_or_too_late(tmp_path, monkeypatch, capsys):
    """Only before the first three opcodes of `main` may Ctrl-C still raise KeyboardInterrupt."""
    path = tmp_path / "written.txt"
    monkeypatch.setattr("annealvi.cli.commands.derive.run", lambda _: output.write_file(path, b"content"))
    parser = program.build_parser()
    monkeypatch.setattr(program, "build_parser", lambda: parser)
    files = {module.__file__ for module in (program, signals, errors, commands, contextlib)}
    raised, statuses = [], []
    for opcode in range(1, 10_000):
        path.unlink(missing_ok=True)
        try:
            struck = strike_at(opcode, files, lambda: statuses.append(main(["derive"])))
        except KeyboardInterrupt:
            raised.append(opcode)
            continue
        finally:
            err = capsys.readouterr().err
        if not struck:
            break
        assert statuses[-1] in (0, 130)
        assert err == ("annealvi: interrupted\n" if statuses[-1] == 130 else "")
        assert statuses[-1] == 130 or path.read_bytes() == b"content"
    assert statuses.count(130) > 200
    assert max(raised, default=0) <= 3


@pytest.mark.usefixtures("heard_interrupts")
def test_ctrl_c_that_the_compiler_drops_is_raised_again(monkeypatch, capsys):
    def deaf(_):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        for _ in range(100):
            time.sleep(0.1)

    monkeypatch.setattr("annealvi.cli.commands.derive.run", deaf)
    start = time.monotonic()
    assert main(["derive"]) == 130
    assert time.monotonic() - start < 5
    assert "interrupted" in capsys.readouterr().err


class Struck:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def drop(_):
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def drop_in_a_destructor(_):
    Struck()


def drop_and_fail(_):
    drop(_)
    raise RuntimeError("in its own way\nand at length")


def drop_and_refuse(_):
    drop(_)
    raise BadInput("--out", "a disk that is full", "free space", "")


@pytest.mark.usefixtures("heard_interrupts")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (drop, ""),
        (drop_in_a_destructor, ""),
        (drop_and_fail, "annealvi: on the way out: RuntimeError: in its own way\n"),
        (drop_and_refuse, "annealvi: on the way out: --out: a disk that is full; free space\n"),
    ],
)
def test_ctrl_c_that_was_dropped_is_status_130_at_the_end_and_what_failed_after_it_is_told(
    command, said, monkeypatch, capsys
):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    monkeypatch.setattr("annealvi.cli.commands.derive.run", command)
    assert main(["derive"]) == 130
    assert capsys.readouterr().err == f"{said}annealvi: interrupted\n"
    assert told == []


CUT_SHORT = """
import gc, signal, sys
from annealvi.cli import program
from annealvi.cli.commands import derive

class CutShort:
    def __init__(self):
        self.itself = self  # collected at exit
        signal.raise_signal(signal.SIGINT)
        self.handle = 1

    def __del__(self):
        assert self.handle

gc.disable()
derive.run = lambda options: CutShort()
sys.argv[1:] = ["derive"]
sys.exit(program.main())
"""


def test_an_object_whose_constructor_is_interrupted_is_collected_unheard(tmp_path):
    """So it happens to the strings of LLVM's binding."""
    ends_interrupted(started(["-c", CUT_SHORT], tmp_path), tmp_path)


@pytest.mark.usefixtures("heard_interrupts")
def test_what_is_removed_after_ctrl_c_is_removed_undisturbed_by_another(monkeypatch):
    removed = []

    def remove_at_the_end(_):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
                removed.append(True)

    monkeypatch.setattr(signals, "SOON", 60.0)
    monkeypatch.setattr("annealvi.cli.commands.derive.run", remove_at_the_end)
    assert main(["derive"]) == 130
    assert len(removed) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_the_caller_ignores_or_handles_stays_as_it_is(number, monkeypatch):
    seen = []
    monkeypatch.setattr("annealvi.cli.commands.derive.run", lambda _: signal.raise_signal(number) or 0)
    for handler in (signal.SIG_IGN, lambda *_: seen.append(number)):
        before = signal.signal(number, handler)
        try:
            assert main(["derive"]) == 0
            assert signal.getsignal(number) is handler
        finally:
            signal.signal(number, before)
    assert seen == [number]
