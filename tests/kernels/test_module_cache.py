"""The cache: it is kept between processes, never stale, checked before use and written completely.

One line on standard error says what cannot be kept.
"""

import errno
import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from places import PYTHONPATH

from kernels.machine import module_cache
from kernels.machine.kept_code import DIGEST
from kernels.machine.module_cache import VARIABLE, cache_directory, environment_digest, keep, load_module, read_kept

SOURCE = """from numba import njit

from kernels.machine.kept_code import kept


@kept(njit(nogil=True))
def double(x):
    return 2.0 * x
"""
DOUBLE = f"from kernels.machine.module_cache import load_module; print(load_module({SOURCE!r}, 'twice').double(1.5))"

SECOND_PROCESS = """
import json, numpy as np
from handtyped import T0, VALUES, bimodal_system, exponential_beta, t0
from kernels.integrate.kernel import compile_system
kernel = compile_system(bimodal_system(), exponential_beta(), (T0, t0), {**VALUES, T0: 30.0, t0: 288.0}, device="cpu")
y = kernel.integrate(np.array([[0.1, -0.2, 0.05]]), [0.0, 5.0, 40.0]).y
kernel.rhs(1.0, y[0])
module, schedule, integrator = kernel.module, kernel.executable.schedule, kernel.executable.integrator
compiled = [integrator.integrate_all, integrator.rates_all, integrator.beta_all]
compiled += [own.dispatcher for own in (module.own_rates, module.own_gram, schedule.own_set_betas)]
counts = {c.__name__: [sum(c.stats.cache_hits.values()), sum(c.stats.cache_misses.values())] for c in compiled}
print(json.dumps({"files": [m.__file__ for m in (module, schedule, integrator)], "y": y.tolist(), "counts": counts}))
"""


def started(program, cache, *before, **environment):
    """A process that runs a Python program with this cache directory. before: the command that starts Python."""
    paths = {"PYTHONPATH": PYTHONPATH, VARIABLE: str(cache)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [*before, sys.executable, "-c", program], env={**os.environ, **paths, **environment}, **pipes
    )


def ended(process):
    """The program's standard output and standard error."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out, err


def test_two_processes_that_compile_at_once_agree_and_a_third_compiles_nothing(tmp_path):
    """The results agree to the bit.

    The processes have different hash seeds, because neither source nor result may depend on the order of a set.
    """
    both = [started(SECOND_PROCESS, tmp_path, PYTHONHASHSEED=seed) for seed in ("1", "2")]
    first, second, third = map(
        json.loads, [*(ended(process)[0] for process in both), ended(started(SECOND_PROCESS, tmp_path))[0]]
    )
    for process in (first, second):
        assert all(hits + misses == 1 for hits, misses in process["counts"].values())
    assert all(hits == 1 and misses == 0 for hits, misses in third["counts"].values())
    assert first["files"] == second["files"] == third["files"]
    assert first["y"] == second["y"] == third["y"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".compiled"] * 6 + [".py"] * 3


ANOTHER_SYSTEM = """
import numpy as np
from dataclasses import replace
from handtyped import T0, VALUES, bimodal_system, exponential_beta, t0
from kernels.integrate.kernel import compile_system
system = bimodal_system()
others = [system, replace(system, label="other", rhs=tuple(2 * rate for rate in system.rhs))]
values = {**VALUES, T0: 30.0, t0: 288.0}
kernels = [compile_system(s, exponential_beta(), (T0, t0), values, device="cpu") for s in others]
start = np.array([[0.1, -0.2, 0.05]])
one, twice = (kernel.rhs(1.0, start) for kernel in kernels)
np.testing.assert_allclose(twice, 2 * one, rtol=1e-13)
assert kernels[0].module is not kernels[1].module
assert kernels[0].executable.integrator is kernels[1].executable.integrator
assert len(kernels[0].executable.integrator.rates_all.signatures) == 1
"""


def test_systems_of_as_many_states_share_their_integrator(tmp_path):
    ended(started(ANOTHER_SYSTEM, tmp_path))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv(VARIABLE, str(folder))
    module_cache._not_kept.cache_clear()
    return folder


def load(stem, source=SOURCE):
    """The module as a new process would load it."""
    module = load_module(source, stem)
    del sys.modules[module.__name__]
    return module


def compilations(stem):
    """The number of compilations in a new process."""
    double = load(stem).double
    assert double(1.5) == 3.0
    return sum(double.stats.cache_misses.values())


@pytest.mark.quick
def test_same_source_is_one_module_and_other_source_another(own_cache):
    module = load_module(SOURCE, "twice")
    assert load_module(SOURCE, "twice") is module
    assert sys.modules[module.__name__] is module
    assert Path(module.__file__).parent == own_cache
    assert Path(module.__file__).read_text(encoding="utf-8") == SOURCE
    other = load_module(SOURCE.replace("2.0", "3.0"), "twice")
    assert other.__file__ != module.__file__
    assert (module.double(1.5), other.double(1.5)) == (3.0, 4.5)


@pytest.mark.parametrize("changed", ["package source", "library versions"])
def test_package_source_and_versions_are_part_of_the_key(own_cache, monkeypatch, changed):
    module = load("keyed")
    module.double(1.5)
    environment_digest.cache_clear()
    if changed == "package source":
        monkeypatch.setattr(Path, "read_bytes", lambda self: b"another package")
    else:
        monkeypatch.setattr(module_cache, "version", lambda name: "0.0")
    environment_digest()
    monkeypatch.undo()
    monkeypatch.setenv(VARIABLE, str(own_cache))
    other = load("keyed")
    other.double(1.5)
    environment_digest.cache_clear()
    assert other.__name__ != module.__name__
    assert sum(other.double.stats.cache_misses.values()) == 1
    assert len(list(own_cache.glob("*.compiled"))) == 2


def test_what_a_function_calls_in_its_own_file_is_part_of_the_key(own_cache, tmp_path):
    """A module and its mutant have the same file name, and their kept functions have the same byte code."""
    helper = "from numba import njit\n\n\n@njit\ndef factor():\n    return {factor}\n\n\n"
    for factor in (2.0, 3.0):
        path = tmp_path / str(factor) / "called.py"
        path.parent.mkdir()
        path.write_text(helper.format(factor=factor) + SOURCE.replace("2.0 *", "factor() *"), encoding="utf-8")
        specification = importlib.util.spec_from_file_location("called", path)
        module = importlib.util.module_from_spec(specification)
        sys.modules["called"] = module
        specification.loader.exec_module(module)
        assert module.double(1.5) == factor * 1.5
    del sys.modules["called"]


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "a bit within": lambda content: flipped(content, len(content) // 2),
    "the last bit": lambda content: flipped(content, len(content) - 1),
    "the first bit": lambda content: flipped(content, 0),
    "more than it was": lambda content: content + b"0",
    "not text": lambda content: b"\xff\xfe\x00",
}


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["py", "compiled"])
def test_a_damaged_file_is_written_anew(own_cache, capsys, kind, damage):
    assert compilations("damaged") == 1
    (path,) = own_cache.glob(f"*.{kind}")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert compilations("damaged") == (1 if kind == "compiled" else 0)
    assert compilations("damaged") == 0
    assert kind == "compiled" or path.read_text(encoding="utf-8") == SOURCE
    assert capsys.readouterr().err == ""


def test_no_bit_of_compiled_code_may_differ(own_cache):
    double = load("sealed").double
    double(1.5)
    (path,), (types,), found = own_cache.glob("*.compiled"), double.signatures, double._cache
    content = path.read_bytes()
    assert found.load_overload(types, double.targetctx) is not None
    for place in range(0, len(content), len(content) // 200):
        path.write_bytes(flipped(content, place))
        assert found.load_overload(types, double.targetctx) is None


def test_whole_files_that_cannot_be_used_are_written_anew(own_cache):
    """Such files could come from a modified Numba of the same version."""
    assert compilations("unusable") == 1
    (path,) = own_cache.glob("*.compiled")
    for content in (pickle.dumps(("too", "few")), pickle.dumps(None), b"no pickle"):
        path.write_bytes(DIGEST(content).digest() + content)
        assert compilations("unusable") == 1
        assert compilations("unusable") == 0


class Planted:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("whose", ["everybody's", "a group's", "another user's", "another user's by a link"])
def test_nothing_is_run_from_a_folder_that_others_can_write_to(own_cache, monkeypatch, capsys, whose):
    assert compilations("planted") == 1
    (path,), content = own_cache.glob("*.compiled"), pickle.dumps(Planted())
    path.write_bytes(DIGEST(content).digest() + content)
    own_cache.chmod({"everybody's": 0o777, "a group's": 0o770}.get(whose, 0o700))
    if whose.startswith("another"):
        somebody_else = os.geteuid() + 1
        monkeypatch.setattr(module_cache.os, "geteuid", lambda: somebody_else)
    if whose.endswith("link"):
        own_cache.with_name("link").symlink_to(own_cache)
        monkeypatch.setenv(VARIABLE, str(own_cache.with_name("link")))
    before = {file: file.read_bytes() for file in own_cache.iterdir()}
    assert compilations("planted") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "others can write to" in err
    assert {file: file.read_bytes() for file in own_cache.iterdir()} == before


def test_what_is_written_is_its_owners_whatever_the_mask(own_cache):
    mask = os.umask(0)
    try:
        assert compilations("masked") == 1
    finally:
        os.umask(mask)
    assert not any(file.stat().st_mode & 0o022 for file in (own_cache, *own_cache.iterdir()))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EACCES, "Permission denied")]
)
def test_a_failed_write_is_said_once_and_leaves_nothing_behind(own_cache, monkeypatch, capsys, error):
    def refuse(source, target):
        raise error

    monkeypatch.setattr(module_cache.os, "replace", refuse)
    assert compilations("unwritten") == 1
    assert list(own_cache.iterdir()) == []
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert error.strerror in err


def test_a_disk_that_fills_up_while_code_is_written_ends_nothing(tmp_path):
    """The limit of the file size allows the source, but not the compiled code."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); {DOUBLE}"
    out, err = ended(started(limited, tmp_path))
    assert out == "3.0\n"
    assert err.count("\n") == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".py"]


def test_an_interrupt_within_a_write_leaves_nothing_behind(own_cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    cache_directory()
    for owner, name in ((module_cache.os, "replace"), (module_cache.os, "open")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                keep("interrupted", b"content")
        assert list(own_cache.iterdir()) == []


def test_what_another_process_left_behind_is_no_matter(own_cache):
    """An unfinished file, and folders in the places of files, as after a power cut."""
    assert compilations("stale") == 1
    (own_cache / ".0123456789abcdef.tmp").write_bytes(b"unfinished")
    for path in own_cache.glob("annealvi*"):
        path.unlink()
        path.mkdir()
    (path,) = own_cache.glob("*.compiled")
    path.unlink()
    path.mkdir()
    assert compilations("stale") == 1


def test_a_folder_that_vanishes_during_a_run_is_made_again(own_cache):
    module = load("vanished")
    shutil.rmtree(own_cache)
    assert module.double(1.5) == 3.0
    assert compilations("vanished") == 0


def test_a_module_that_fails_is_forgotten(own_cache):
    with pytest.raises(ZeroDivisionError):
        load_module("1 / 0\n", "failing")
    assert not [name for name in sys.modules if name.startswith("annealvi_failing")]


def test_platform_cache_folder_without_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory() == tmp_path / "xdg" / "annealvi"
    monkeypatch.setenv("HOME", str(tmp_path))
    for relative in ("", "cache"):  # the standard of this variable says to ignore such values
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert cache_directory() == tmp_path / ".cache" / "annealvi"


PLACES = {
    "spaces and letters": "a cache ünïcode ẞ",
    "bytes that are no text": os.fsdecode(b"\xff\xfe cache"),
    "a line break": "a\ncache",
    "a long path": "/".join(["x" * 200] * 10),
}


@pytest.mark.parametrize("place", PLACES)
def test_any_name_of_a_folder_will_do(tmp_path, monkeypatch, capsys, place):
    monkeypatch.setenv(VARIABLE, str(tmp_path / PLACES[place]))
    assert [compilations("places"), compilations("places")] == [1, 0]
    assert len(list((tmp_path / PLACES[place]).iterdir())) == 2
    assert capsys.readouterr().err == ""


def test_a_relative_folder_and_one_behind_a_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    for relative in ("real", "link"):
        monkeypatch.setenv(VARIABLE, relative)
        assert cache_directory() == tmp_path / relative
        assert Path(load("relative").__file__).parent == tmp_path / relative


TROUBLES = [
    "a file",
    "a file in the way",
    "a link to nowhere",
    "a name too long",
    "a path too long",
    "no home",
    "a home that is not there",
]


@pytest.mark.parametrize("trouble", [*TROUBLES, "a relative home", "a home that is a file"])
def test_nowhere_to_write_is_said_once_and_still_works(own_cache, tmp_path, monkeypatch, capsys, trouble):
    def homeless():
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    named = {
        "a file": file,
        "a file in the way": file / "cache",
        "a link to nowhere": tmp_path / "link",
        "a name too long": "x" * 300,
    }
    homes = {"a home that is not there": tmp_path / "absent", "a relative home": "home", "a home that is a file": file}
    if trouble in ("no home", *homes):
        monkeypatch.delenv(VARIABLE)
        monkeypatch.setenv("HOME", str(homes.get(trouble, "")))
    else:
        monkeypatch.setenv(VARIABLE, str(named.get(trouble, tmp_path / ("x" * 200 + "/") / ("y/" * 2000))))
    if trouble == "no home":
        monkeypatch.setattr(Path, "home", homeless)
    assert [compilations("nowhere"), compilations("nowhere")] == [1, 1]
    assert cache_directory() is None
    assert read_kept("anything") is None
    said = capsys.readouterr().err
    assert said.count("\n") == said.count("kernels are not kept") == 1
    assert len(said) < 400
    assert VARIABLE in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def bound_by_permissions():
    """A command that starts a process which obeys the permissions of folders, even if root starts it."""
    if os.geteuid() != 0:
        return []
    before = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    with suppress(OSError):
        if subprocess.run([*before, "true"], capture_output=True, check=False).returncode == 0:
            return before
    pytest.skip("permissions do not bind root, and its privilege cannot be dropped here")


def test_a_read_only_folder_is_read_and_what_it_lacks_compiled(tmp_path):
    """The first process fills the folder; the other processes cannot write to it."""
    before, other = bound_by_permissions(), DOUBLE.replace("twice", "another")
    counting = f"{DOUBLE}; print(sum(load_module({SOURCE!r}, 'twice').double.stats.cache_misses.values()))"
    cache = tmp_path / "cache"
    ended(started(DOUBLE, cache))
    cache.chmod(0o500)
    try:
        assert ended(started(counting, cache, *before)) == ("3.0\n0\n", "")
        out, err = ended(started(other, cache, *before))
    finally:
        cache.chmod(0o700)
    assert out == "3.0\n"
    assert err.count("\n") == 1
    assert "Permission denied" in err
    assert len(list(cache.iterdir())) == 2


def test_four_processes_that_compile_at_once_all_succeed(tmp_path):
    four = [started(DOUBLE, tmp_path) for _ in range(4)]
    assert [ended(process) for process in four] == [("3.0\n", "")] * 4
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".compiled", ".py"]
