"""The command line.

Wrong input gives one line and exit status 2, and no file is written. The JSON of a right input has the promised keys.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from annealvi.cli.program import main

SHORT = ["--t-end", "0.5", "--points", "3"]
FEW = ["--replicas", "3", "--particles", "8", *SHORT]


def sets(*changes):
    return [word for change in changes for word in ("--set", change)]


def refused(capsys, arguments, *words, status=2):
    """Runs a wrong command and returns its message: one line on standard error that has all `words`."""
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("annealvi: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    return err


IN_NO_TIME = "from annealvi.cli import console, program; console.SILENCE = 1e6; raise SystemExit(program.main())"
"""A process of the command that reports no stages, which depend on how fast the machine is."""


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", IN_NO_TIME, *arguments],
        capture_output=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("target.foo=1", ("--set", "target.foo", "unknown key")),
        ("targets.means=1", ("targets", "did you mean target")),
        ("target.weights=[0.5, 0.6]", ("target.weights", "1.1")),
        ("target.means=[[3.0]]", ("target.means", "1 entries")),
        ("target.means=[[nan], [1.0]]", ("target.means[0][0]", "nan")),
        ("target.means=[[3.0], [3.0]]", ("target.means[1]", "merge")),
        ("target.means=[[1, 2, 3], [3, 2, 1]]", ()),
        ("schedule.T0=0.5", ("schedule.T0", "at least 1")),
        ("proposal.radius=inf", ("proposal.radius", "finite")),
        ("flow.learn=['weight']", ("--set", "flow.learn[0]", "choose one of means, weights, scales")),
        ("proposal.radius=[1, 2, 3]", ("--set", "proposal.radius", "3 entries")),
        ("space.dimension=1.5", ("space.dimension", "integer")),
        ("target.scales=[1, 2, 3]", ("--set", "target.scales", "3 entries")),
        ("schedule.expression='1'", ("schedule.expression", "expression")),
        ("x", ("--set", "sets nothing")),
    ],
)
def test_a_wrong_key_is_one_line_that_names_it(change, words, capsys):
    extra = sets("space.dimension=2") if "1, 2, 3" in change else []
    refused(capsys, ["derive", *sets(change), *extra], *words)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('x')",
        "9**9**9**9",
        "t.__class__",
        "300",
        "1+2*exp(t)",
        "1+1/(t-3)",
        "(" * 900,
        "1+t+" * 400,
    ],
)
def test_a_schedule_that_is_no_plain_cooling_is_refused(expression, capsys):
    refused(
        capsys,
        ["derive", *sets("schedule.kind=expression", f"schedule.expression={json.dumps(expression)}")],
        "schedule.expression",
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"\0",
        b"[target]\nfoo = 1\n",
        b"name = 3",
        b"target = 3",
        b"[[target]]",
        b"a = " + b"[" * 100_000,
        b"#" * (1 << 21),
    ],
)
def test_a_broken_problem_file_is_one_line_that_names_the_file(content, tmp_path, capsys):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    refused(capsys, ["derive", str(path)], "broken.toml")


@pytest.mark.parametrize("problem", ["Bimodal", "", "no/such.toml", "a\nb", "."])
def test_what_is_no_problem_file_is_refused(problem, capsys):
    refused(capsys, ["derive", problem])


def test_a_mistake_found_by_the_derivation_names_the_problem_file(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text("[target]\nmeans = [[0], [0]]\nscales = [1, 2]\n[proposal]\nweights = [1]\nscales = [1]\n")
    refused(capsys, ["integrate", str(path)], "mine.toml", "target.means", "give a mode elsewhere")


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbfname = 'x'\r\n[space]\r\ndimension = 5\r\n"])
def test_an_empty_file_and_one_from_windows_are_problems(content, tmp_path, capsys):
    path = tmp_path / "good.toml"
    path.write_bytes(content)
    assert main(["derive", str(path)]) == 0
    assert "dm_1/dt" in capsys.readouterr().out


@pytest.mark.quick
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["foo"],
        ["derive", "a", "b\nc"],
        ["derive", "--form", "latex"],
        ["simulate", "--seed", "-1"],
        ["simulate", "--seed", str(2**64)],
        ["simulate", "--t-end", "nan"],
        ["simulate", "--dt", "0"],
        ["simulate", "--points", "1"],
        ["simulate", "--particles", "1e3"],
        ["simulate", "--replicas", "99999999"],
        ["integrate", "--rtol", "2"],
        ["rhs"],
    ],
)
def test_a_wrong_option_is_one_line(arguments, capsys):
    assert "--help" in refused(capsys, arguments)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["simulate", "--set", "space.dimension=1000000000"], "particle coordinates"),
        (["simulate", "--set", "space.dimension=1000000000", "--t-end", "0.1", "--particles", "1"], "space.dimension"),
        (["simulate", "--particles", "1000000000"], "--particles"),
        (["simulate", "--t-end", "1e11"], "steps"),
        (["simulate", "--dt", "5", "--t-end", "1"], "--dt"),
        (["simulate", "--set", "schedule.t0=1e100"], "--t-end"),
        (["integrate", "--set", "schedule.t0=1e100"], "--t-end"),
        (["integrate", "--n", "1000000000"], "--n"),
        (
            ["simulate", "--precision", "float32", "--set", "target.scales=[1e50, 1e50]"],
            "--precision: lengths and scales",
        ),
        (["integrate", "--n", "1000000", "--points", "10", "--json", "never.json"], "JSON"),
        (["integrate", "--set", "proposal.radius=1e9"], "proposal.radius"),
    ],
)
def test_work_beyond_reason_is_refused_before_it_begins(arguments, word, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = time.perf_counter()
    refused(capsys, arguments, word)
    assert time.perf_counter() - begun < 10
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("kept")
    refused(capsys, ["derive", "--json", str(tmp_path)], "--json", "folder")
    refused(capsys, ["derive", "--json", str(file / "x.json")], "--json")
    refused(capsys, ["derive", "--out", str(file)], "--out")
    refused(capsys, ["derive", "--json", "x" * 300], "--json")
    assert file.read_text() == "kept"


def test_an_output_through_a_link_leaves_the_link(tmp_path, capsys):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert main(["derive", "--json", str(tmp_path / "link.json")]) == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["states"] == ["m_1", "m_2", "s"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["learned-scales", *sets("space.dimension=128"), "--dt", "1"], ("scales diverge with dt = 1", "1 / (d w_i)")),
        (
            sets("target.scales=[0.1, 0.1]", "proposal.scales=[0.1, 0.1]", "flow.manifold=euclidean"),
            ("means diverge with dt = 0.1", "2 sigma"),
        ),
        (
            sets(
                "schedule.kind=adaann",
                "schedule.T0=2",
                "schedule.t0=1",
                "target.scales=[0.1, 0.1]",
                "flow.manifold=euclidean",
            ),
            ("means diverge", "2 sigma"),
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_step_that_diverges_is_one_line_that_names_the_option(arguments, words, capsys, tmp_path):
    few = ["--replicas", "2", "--particles", "4", "--t-end", "60", "--points", "3"]
    output = ["--json", str(tmp_path / "never.json"), "--out", str(tmp_path / "never")]
    refused(
        capsys,
        ["simulate", *sets("schedule.T0=2", "space.dimension=8"), *arguments, *few, *output],
        "--dt: ",
        "give a shorter step",
        *words,
    )
    assert list(tmp_path.iterdir()) == []


def test_an_average_out_of_reach_is_one_line(capsys, tmp_path):
    state = tmp_path / "state.json"
    state.write_text('{"means": [[1.8, 2.4], [-0.6, 2.9]]}')
    refused(
        capsys,
        ["rhs", "--state", str(state), *sets("target.scales=[1e-100, 1e-100]")],
        "an average",
        "few hundred scales",
    )


def test_one_replica_is_shown_without_an_error(capsys):
    assert main(["simulate", *FEW, "--replicas", "1", *sets("space.dimension=4")]) == 0
    out = capsys.readouterr().out
    assert "m_1" in out
    assert "nan" not in out


@pytest.mark.parametrize(
    ("large", "written"), [(1e12, "e+12"), (1e-12, "e-12"), (0.5, "0.5000 ± 0.0000"), (0.0, "0.0000")]
)
def test_numbers_of_any_size_fit_into_the_table_of_paths(large, written, capsys):
    from annealvi.runs.path_table import print_path_table
    from annealvi.runs.paths import Paths

    t = np.arange(3.0)
    print_path_table(Paths(t, t, ("M_11",), np.full((2, 3, 1), large), "cpu", "none", np.zeros((3, 1))))
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("│ 2 │"))
    assert written in row
    assert "…" not in row


@pytest.mark.quick
def test_json_of_derive_separates_equations_from_definitions(capsys):
    assert main(["derive", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["states"] == list(result["equations"]) == ["m_1", "m_2", "s"]
    assert {"F_1", "F_2", "g"} <= set(result["definitions"])
    assert all(
        set(e) == {"expression", "latex"} for e in (*result["equations"].values(), *result["definitions"].values())
    )
    for step in (*result["general_steps"], *result["steps"]):
        assert {"rule", "statement", "before", "after"} == set(step)
    rules = [[step["rule"] for step in result[key]] for key in ("general_steps", "steps")]
    assert rules[1][: len(rules[0])] == rules[0]
    assert rules[1][len(rules[0])] == "given numbers of modes and components"
    general = {e["label"]: e for e in result["indexed"]}
    assert {"dM_in", "dQ_in", "D_in", "share_ij", "share_star_ik", "rho_ij", "rho_star_ik"} <= set(general)
    assert all(f"{e['expression']}\n" in err for e in general.values())
    assert general["dQ_in"]["latex"] == r"\dot{Q}_{in} = D_{in} + D_{ni}"
    assert "The closed system" in err


@pytest.mark.parametrize(
    "arguments", [pytest.param(["integrate", "--n", "3", *SHORT], marks=pytest.mark.quick), ["simulate", *FEW]]
)
def test_paths_as_json_have_the_promised_keys_and_depend_on_the_seed_alone(arguments, capsys):
    def result(seed):
        assert main([*arguments, "--seed", seed, "--json", "-"]) == 0
        out, err = capsys.readouterr()
        assert "over 3" in err
        return json.loads(out)

    first, second, other = result("7"), result("7"), result("8")
    assert first == second
    assert first["trajectories"] != other["trajectories"]
    assert first["states"] == list(first["trajectories"]) == ["m_1", "m_2", "s"]
    assert len(first["t"]) == len(first["beta"]) == 3
    assert np.shape(first["trajectories"]["s"]) == (3, 3)
    if arguments[0] == "simulate":
        assert np.allclose(first["mean"]["s"], np.mean(first["trajectories"]["s"], axis=0))
        assert len(first["standard_error"]["s"]) == 3


@pytest.mark.parametrize(
    "changes",
    [
        ["schedule.kind=constant", "schedule.T0=2"],
        ["schedule.kind=hold", "schedule.t0=0.3"],
        ["schedule.kind=table", "schedule.points=[[0, 300], [0.2, 2], [0.4, 1]]"],
        ["schedule.kind=expression", 'schedule.expression="max(1, 30 - 100*t)"'],
        ["flow.manifold=euclidean"],
        ["space.dimension=1"],
        ["target.means=[[1e-9], [-1e-9]]", "proposal.radius=1e-9"],
        ["proposal.weights=[0.5, 0.3, 0.2]", "proposal.scales=[1, 1, 1]"],
        ["target.scales=[1, 2]", "proposal.scales=[2, 1]", "proposal.radius=[1, 2]"],
        ["flow.learn=['weights', 'scales']", "space.dimension=4"],
    ],
)
def test_every_kind_of_problem_simulates(changes, capsys):
    assert main(["simulate", *FEW, *sets(*changes), "--json", "-"]) == 0
    values = json.loads(capsys.readouterr().out)["trajectories"].values()
    assert all(np.isfinite(v).all() for v in values)


def test_a_constant_temperature_above_one_integrates_to_its_default_end(capsys):
    assert (
        main(
            ["integrate", "--n", "1", "--points", "2", *sets("schedule.kind=constant", "schedule.T0=2"), "--json", "-"]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    assert result["beta"] == [0.5, 0.5]
    assert result["t"][-1] > 0


GOOD = {"m_1": [0.1], "m_2": [-0.1], "s": [0.0]}


@pytest.mark.parametrize(
    "document",
    [
        "",
        "[]",
        json.dumps({"states": {"m_1": [0.1]}}),
        *(
            json.dumps({"states": {**GOOD, "m_1": bad}})
            for bad in ([0.1, 0.2], ["0.1"], [True], [1.5], [10**400], [1e300], 0.1, [], [[0.1]])
        ),
        '{"states": {"m_1": [NaN], "m_2": [0.1], "s": [0.1]}}',
        json.dumps({"states": {"m_1": [1], "m_2": [1], "s": [-1]}}),
    ],
)
def test_a_broken_initial_file_is_refused(document, tmp_path, capsys):
    path = tmp_path / "initial.json"
    path.write_text(document)
    refused(capsys, ["integrate", "--initial", str(path)], "initial.json")


def test_endless_input_files_are_refused(capsys):
    for arguments in (
        ["derive", "/dev/zero"],
        ["rhs", "--state", "/dev/zero"],
        ["integrate", "--initial", "/dev/zero"],
    ):
        refused(capsys, arguments, "larger than")


def test_a_missing_gpu_is_status_three_and_names_the_install(capsys, tmp_path, monkeypatch):
    from kernels.machine import device

    def absent():
        raise device.DeviceUnavailable(device._how_to_get_cuda("no usable CUDA device was found"))

    monkeypatch.setattr(device, "_gpu", absent)
    monkeypatch.setattr("numba.config.ENABLE_CUDASIM", 0)
    path = tmp_path / "never.json"
    refused(capsys, ["simulate", "--device", "cuda", "--json", str(path)], "pip install", status=3)
    assert not path.exists()


def test_too_little_memory_is_one_line(capsys, monkeypatch):
    def exhausted(_):
        raise MemoryError

    monkeypatch.setattr("annealvi.cli.commands.derive.run", exhausted)
    refused(capsys, ["derive"], "memory")


@pytest.mark.quick
@pytest.mark.parametrize("name", ["verify", "derive", "rhs", "integrate", "simulate"])
def test_each_command_helps_with_an_example(name, capsys):
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Example: annealvi {name}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_terminal_without_unicode_gets_escapes_and_no_traceback():
    done = command("derive", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0
    assert b"\\u" in done.stdout
    assert done.stderr == b""


def test_a_reader_that_leaves_early_is_not_an_error():
    process = subprocess.Popen(
        [sys.executable, "-c", IN_NO_TIME, "derive"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_device_is_one_line_and_stays_a_device(capsys):
    assert main(["derive", "--json", "/dev/full"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not os.path.isfile("/dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", IN_NO_TIME, "derive"], stdout=full, stderr=subprocess.PIPE, timeout=30, check=False
        )
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_each_exception_of_the_user_carries_the_status_that_the_command_line_names():
    from annealvi.cli import errors
    from annealvi.components import MissingComponent
    from annealvi.own_packages import ForeignPackage
    from annealvi.paper.build import TypesettingError
    from annealvi.show.no_figure import NoFigure
    from annealvi.sweeps.engines import WorkersLost
    from derive.objects.numeric_averages import NotConvergedError
    from derive.problem.specification import BadInput
    from kernels.integrate.errors import IntegrationError
    from kernels.machine.device import DeviceUnavailable
    from kernels.particles.simulation import DivergenceError

    carried = {
        errors.CHECK_FAILED: {NoFigure, TypesettingError, WorkersLost, IntegrationError, DivergenceError},
        errors.BAD_INPUT: {BadInput, ForeignPackage, NotConvergedError},
        errors.MISSING_COMPONENT: {DeviceUnavailable, MissingComponent},
    }
    assert all(kind.exit_status == status for status, kinds in carried.items() for kind in kinds)


def test_an_option_type_of_methods_knows_those_of_the_library():
    from annealvi.cli.option_types import METHODS
    from annealvi.collapse import probability

    assert METHODS == probability.METHODS
