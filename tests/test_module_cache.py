"""Generated modules as files: kept between processes, never stale, written whole, and a stated way out where nothing can be written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import module_cache
from kernels.module_cache import VARIABLE, cache_directory, load_module

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "from numba import njit\n\n\n@njit(cache=True)\ndef double(x):\n    return 2.0 * x\n"

SECOND_PROCESS = """
import json, numpy as np
from handtyped import T0, VALUES, bimodal_system, exponential_beta, t0
from kernels.integrator import compile_system
kernel = compile_system(bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, T0: 30.0, t0: 288.0}, device="cpu")
y = kernel.integrate(np.array([[0.1, -0.2, 0.05]]), [0.0, 5.0, 40.0]).y
entries = [kernel.module.integrate_all, kernel.module.rates_all, kernel.module.beta_all]
kernel.rhs(1.0, y[0])
counts = {e.__name__: [sum(e.stats.cache_hits.values()), sum(e.stats.cache_misses.values())] for e in entries}
print(json.dumps({"file": kernel.module.__file__, "y": y.tolist(), "counts": counts}))
"""


def in_new_process(program, cache, **environment):
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), VARIABLE: str(cache)}
    environment = {**os.environ, **paths, **environment}
    finished = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_second_process_compiles_nothing_and_agrees_to_the_bit(tmp_path):
    """The hash seeds differ: neither the source nor the result may depend on the order of a set."""
    first, second = (json.loads(in_new_process(SECOND_PROCESS, tmp_path, PYTHONHASHSEED=seed)) for seed in ("1", "2"))
    assert all(hits == 0 and misses == 1 for hits, misses in first["counts"].values())
    assert all(hits == 1 and misses == 0 for hits, misses in second["counts"].values())
    assert first["file"] == second["file"]
    assert first["y"] == second["y"]
    assert [path.name for path in tmp_path.glob("*.py")] == [Path(first["file"]).name]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def forget(module):
    del sys.modules[module.__name__]


def test_same_source_is_one_module_and_other_source_another(own_cache):
    module = load_module(SOURCE, "twice")
    assert load_module(SOURCE, "twice") is module
    assert sys.modules[module.__name__] is module
    assert Path(module.__file__).parent == own_cache
    other = load_module(SOURCE.replace("2.0", "3.0"), "twice")
    assert other.__file__ != module.__file__
    assert (module.double(1.5), other.double(1.5)) == (3.0, 4.5)


@pytest.mark.parametrize("changed", ["package source", "library versions"])
def test_package_source_and_versions_are_part_of_the_key(own_cache, monkeypatch, changed):
    module = load_module(SOURCE, "keyed")
    module_cache._environment_digest.cache_clear()
    if changed == "package source":
        monkeypatch.setattr(Path, "read_bytes", lambda self: b"another package")
    else:
        monkeypatch.setattr(module_cache, "version", lambda name: "0.0")
    other = load_module(SOURCE, "keyed")
    monkeypatch.undo()
    module_cache._environment_digest.cache_clear()
    assert other.__name__ != module.__name__


@pytest.mark.parametrize("damage", [b"half a fi", b"", b"\xff\xfe\x00"], ids=["half", "empty", "not text"])
def test_a_damaged_file_is_written_anew(own_cache, damage):
    module = load_module(SOURCE, "damaged")
    path = Path(module.__file__)
    forget(module)
    path.write_bytes(damage)
    module = load_module(SOURCE, "damaged")
    assert module.double(2.0) == 4.0
    assert path.read_text(encoding="utf-8") == SOURCE
    forget(module)


def test_a_failed_write_leaves_nothing_behind(own_cache, monkeypatch):
    def refuse(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(module_cache.os, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        load_module(SOURCE, "unwritten")
    assert list(own_cache.iterdir()) == []


def test_a_module_that_fails_is_forgotten(own_cache):
    with pytest.raises(ZeroDivisionError):
        load_module("1 / 0\n", "failing")
    assert not [name for name in sys.modules if name.startswith("annealvi_failing")]


def test_platform_cache_folder_without_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "annealvi"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_directory() == tmp_path / "home" / ".cache" / "annealvi"


@pytest.mark.parametrize("trouble", ["a file in the way", "no home"])
def test_nowhere_to_write_is_said_once_and_still_works(tmp_path, monkeypatch, capsys, trouble):
    module_cache._private_directory.cache_clear()
    if trouble == "no home":
        monkeypatch.delenv(VARIABLE, raising=False)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

        def homeless():
            raise RuntimeError("no home")

        monkeypatch.setattr(Path, "home", homeless)
    else:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(module_cache.tempfile, "tempdir", str(tmp_path))
    module = load_module(SOURCE, "private" + trouble.replace(" ", ""))
    assert module.double(1.0) == 2.0
    assert cache_directory() == Path(module.__file__).parent
    said = capsys.readouterr().err
    assert said.count("kernels are not kept") == 1
    assert VARIABLE in said
    module_cache._private_directory.cache_clear()


def test_two_processes_that_compile_at_once_both_succeed(tmp_path):
    program = f"from kernels.module_cache import load_module\nprint(load_module({SOURCE!r}, 'race').double(1.5))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: str(tmp_path)}
    both = [subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in both] == ["3.0\n", "3.0\n"]
    assert len(list(tmp_path.glob("*.py"))) == 1
    assert not list(tmp_path.glob(".*.tmp"))
