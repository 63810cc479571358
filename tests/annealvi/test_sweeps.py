"""Sweeps give the same file for any chunks, workers and interruptions.

Damaged or foreign files are not used, nothing is overwritten without force, and large results are streamed instead of
held in memory.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from places import PYTHONPATH, TESTS
from small_sweep import GPU, SmallSweep

from annealvi.show import output
from annealvi.sweeps import engines, provenance, store
from annealvi.sweeps.engines import InProcess, Processes, WorkersLost
from annealvi.sweeps.plan import make_plan
from annealvi.sweeps.running import Execution, parts_of, plan_sweep, run_sweep, sweeping
from annealvi.sweeps.store import STATED, Store
from derive.problem.specification import BadInput

SWEEP = SmallSweep()


@pytest.fixture
def whole(tmp_path):
    """The bytes of the result of an uninterrupted sweep."""
    run_sweep(SWEEP, tmp_path / "whole.nc")
    return (tmp_path / "whole.nc").read_bytes()


def chunks_of(path):
    return sorted(parts_of(path).glob("0*.nc"))


def interrupted(path, after, sweep=SWEEP):
    """Runs a sweep and interrupts it after the given number of units."""

    def stop(done, total):
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, path, Execution(chunk=2), progress=stop)
    assert not path.exists()


def test_a_result_is_labelled_and_says_what_made_it(tmp_path):
    data = run_sweep(SWEEP, tmp_path / "found.nc")
    assert data["value"].dims == ("y", "x", "k")
    assert data["x"].to_numpy().tolist() == [f"column {n}" for n in range(5)]
    assert data["unit"].to_numpy().tolist() == [[5.0 * j + i for i in range(5)] for j in range(4)]
    assert data["value"].attrs["long_name"] == "what it is"
    assert json.loads(data.attrs["versions"]) == provenance.versions(("numpy",))
    assert {"annealvi", "source", "python", "numpy"} <= json.loads(data.attrs["versions"]).keys()
    assert json.loads(data.attrs["request"]) == SWEEP.request
    assert data.attrs["processor"] == provenance.processor()
    xr.testing.assert_identical(run_sweep(SWEEP), data)
    assert os.listdir(tmp_path) == ["found.nc"]


@pytest.mark.quick
@pytest.mark.parametrize("chunk", [1, 3, 7, 20, 1000])
def test_any_chunks_make_the_same_file(chunk, tmp_path, whole):
    run_sweep(SWEEP, tmp_path / "found.nc", Execution(chunk=chunk))
    assert (tmp_path / "found.nc").read_bytes() == whole


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_processes_makes_the_same_file(workers, tmp_path, whole):
    told = []
    run_sweep(SWEEP, tmp_path / "found.nc", Execution(workers=workers, chunk=3), tell=told.append)
    assert (tmp_path / "found.nc").read_bytes() == whole
    assert told == ["a sweep that costs nothing", "unit 1 has something to say"]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("after", range(0, 20, 2))
def test_an_interrupted_sweep_computes_what_is_missing_and_ends_in_the_same_file(after, tmp_path, whole):
    diary = tmp_path / "diary"
    diary.mkdir()
    path = tmp_path / "found.nc"
    sweep = replace(SWEEP, diary=str(diary))
    interrupted(path, after, sweep)
    # A chunk is given to the store only after its end is told, so the interruption loses at most one chunk.
    ran = len(list(diary.iterdir()))
    assert ran - 2 <= 2 * len(chunks_of(path)) <= ran
    kept = 2 * len(chunks_of(path))
    run_sweep(sweep, path, Execution(chunk=5))
    assert len(list(diary.iterdir())) == ran + 20 - kept
    assert path.read_bytes() == whole
    assert not parts_of(path).exists()


def test_an_interrupt_at_the_end_of_writing_the_first_chunk_keeps_it(tmp_path, whole, monkeypatch):
    path = tmp_path / "map.nc"
    with monkeypatch.context() as patched:
        patched.setattr(store, "write_file", written_and_interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(SWEEP, path, Execution(chunk=5))
    (kept,) = chunks_of(path)
    written = kept.read_bytes()
    held = Store(parts_of(path), SWEEP)
    assert (held.finished, kept.read_bytes()) == (5, written)
    held.close()
    run_sweep(SWEEP, path, Execution(chunk=5))
    assert path.read_bytes() == whole


def written_and_interrupted(path, content):
    """Write a file; Ctrl-C is pressed once a chunk is written, before anything can note it."""
    output.write_file(path, content)
    if path.suffix == ".nc":
        raise KeyboardInterrupt


def test_progress_begins_with_what_is_there_already(tmp_path):
    interrupted(tmp_path / "found.nc", 10)
    kept = 2 * len(chunks_of(tmp_path / "found.nc"))
    heard = []
    run_sweep(
        SWEEP, tmp_path / "found.nc", Execution(chunk=5), progress=lambda done, total: heard.append((done, total))
    )
    assert heard[0] == (kept, 20)
    assert heard[-1] == (20, 20)


def run_in_a_process(path, seconds=0.02, workers=1):
    program = (
        "from pathlib import Path; from small_sweep import SmallSweep; from annealvi.sweeps.running "
        "import Execution, run_sweep\n"
        f"if __name__ == '__main__': run_sweep(SmallSweep(seconds={seconds}), Path({str(path)!r}), "
        f"Execution(chunk=1, workers={workers}))"
    )
    script = path.with_suffix(".py")
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, stderr=subprocess.PIPE, start_new_session=True
    )


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_at_most_a_chunk(tmp_path, whole):
    path, random_moments, kept = tmp_path / "found.nc", random.Random(3), []
    for _ in range(8):
        process = run_in_a_process(path)
        begun = time.monotonic()
        while not parts_of(path).exists() and not path.exists() and time.monotonic() - begun < 60:
            time.sleep(0.01)
        time.sleep(random_moments.uniform(0, 0.3))
        process.kill()
        process.communicate()
        if path.exists() and not parts_of(path).exists():
            break
        kept.append(len(chunks_of(path)))
    assert kept == sorted(kept)
    if not path.exists() or parts_of(path).exists():
        run_sweep(SWEEP, path)
    assert path.read_bytes() == whole
    assert sorted(os.listdir(tmp_path)) == ["found.nc", "found.py", "whole.nc"]


def test_a_power_cut_before_any_operation_on_the_disk_loses_at_most_a_chunk_and_so_does_a_full_disk(tmp_path):
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    command = [sys.executable, str(TESTS / "hostile" / "power_cuts.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    cuts, refused, later, room = done.stdout.splitlines()
    assert int(cuts.split()[1]) > 20
    for line, remedy in ((refused, "choose another --out"), (later, "what is computed is kept")):
        assert line.startswith("BadInput ")
        assert "File too large" in line
        assert remedy in line
    assert room == "room None"


def test_a_full_disk_is_one_line_and_the_sweep_goes_on_later(tmp_path, whole, monkeypatch):
    path, count, true = tmp_path / "found.nc", [], os.fsync

    def full(descriptor):
        count.append(descriptor)
        if len(count) > 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        true(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        run_sweep(SWEEP, path, Execution(chunk=2))
    monkeypatch.undo()
    assert chunks_of(path)
    assert not [file for file in parts_of(path).iterdir() if file.name.startswith(".")]
    run_sweep(SWEEP, path)
    assert path.read_bytes() == whole


@pytest.mark.quick
@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[: len(b) // 2],
        lambda b: b[:-1],
        lambda b: b[:99] + b"\1" + b[100:],
        lambda b: b + b"x",
    ],
)
def test_a_damaged_chunk_is_computed_again(damage, tmp_path, whole):
    path, told = tmp_path / "found.nc", []
    interrupted(path, 10)
    victim = chunks_of(path)[1]
    victim.write_bytes(damage(victim.read_bytes()))
    run_sweep(SWEEP, path, tell=told.append)
    assert told[:2] == [f"{victim} is damaged: its units are computed again", "a sweep that costs nothing"]
    assert path.read_bytes() == whole


def test_what_is_no_chunk_is_let_be(tmp_path, whole):
    path = tmp_path / "found.nc"
    interrupted(path, 10)
    foreign = parts_of(path) / "notes.txt"
    foreign.write_text("mine")
    (parts_of(path) / "elsewhere.nc").write_bytes(b"CDF")
    (parts_of(path) / f"000000000-000000099-{'0' * 16}.nc").write_bytes(b"CDF")
    run_sweep(SWEEP, path)
    assert path.read_bytes() == whole
    assert sorted(file.name for file in parts_of(path).iterdir()) == ["elsewhere.nc", "notes.txt"]
    assert foreign.read_text() == "mine"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"3",
        b'"x"',
        b"{}",
        b'{"versions": 3, "sweep": {}}',
        b'{"versions": {}, "sweep": []}',
        b"[" * 10**5,
    ],
)
def test_a_statement_that_cannot_be_read_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "found.nc"
    interrupted(path, 10)
    kept = chunks_of(path)
    (parts_of(path) / STATED).write_bytes(content)
    with pytest.raises(BadInput) as refused:
        run_sweep(SWEEP, path)
    assert str(refused.value).count("\n") == 0
    assert "--force" in str(refused.value)
    assert chunks_of(path) == kept


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_a_statement_that_is_no_file_is_refused_without_waiting(kind, tmp_path):
    path = tmp_path / "found.nc"
    parts_of(path).mkdir()
    stated = parts_of(path) / STATED
    {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda place: os.symlink(tmp_path / "elsewhere", place)}[kind](
        stated
    )
    with pytest.raises(BadInput, match="cannot be read"):
        run_sweep(SWEEP, path)
    assert not (tmp_path / "elsewhere").exists()


def test_chunks_of_another_sweep_are_not_taken_but_by_force(tmp_path, whole):
    path = tmp_path / "found.nc"
    interrupted(path, 10, replace(SWEEP, seed=1))
    kept = chunks_of(path)
    with pytest.raises(BadInput, match="those of another sweep, with another seed; give --force"):
        run_sweep(SWEEP, path)
    assert chunks_of(path) == kept
    run_sweep(SWEEP, path, Execution(force=True))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("annealvi", "annealvi 0.0.1, not"),
        ("numpy", "numpy 0.0.1, not"),
        ("source", "other source"),
        ("python", "python 0.0.1"),
    ],
)
def test_chunks_of_another_version_are_not_taken(name, said, tmp_path, monkeypatch):
    path = tmp_path / "found.nc"
    with monkeypatch.context() as older:
        older.setattr(store, "versions", lambda libraries: {**provenance.versions(libraries), name: "0.0.1"})
        interrupted(path, 10)
    with pytest.raises(BadInput, match=said):
        run_sweep(SWEEP, path)


def test_two_processes_do_not_work_on_one_folder(tmp_path):
    path = tmp_path / "found.nc"
    held = Store(parts_of(path), SWEEP)
    with pytest.raises(BadInput, match="another process is working on it"):
        run_sweep(SWEEP, path)
    held.close()
    run_sweep(SWEEP, path)


def test_a_result_that_is_there_is_not_overwritten_but_by_force(tmp_path, whole):
    path = tmp_path / "found.nc"
    path.write_text("hours of work")
    with pytest.raises(BadInput, match="exists already; choose another --out, or give --force"):
        run_sweep(SWEEP, path)
    assert path.read_text() == "hours of work"
    assert sorted(os.listdir(tmp_path)) == ["found.nc", "whole.nc"]
    run_sweep(SWEEP, path, Execution(force=True))
    assert path.read_bytes() == whole


def test_a_run_that_ended_after_the_file_but_before_the_rest_goes_on(tmp_path, whole):
    path = tmp_path / "found.nc"
    with pytest.raises(KeyboardInterrupt), sweeping(SWEEP, path):
        raise KeyboardInterrupt  # for example while the figure is drawn
    assert path.exists()
    assert parts_of(path).exists()
    with sweeping(SWEEP, path) as data:
        assert data["value"].shape == (4, 5, 3)
    assert path.read_bytes() == whole
    assert not parts_of(path).exists()


def test_such_a_run_may_be_ended_again_before_it_has_written_the_file_anew(tmp_path, whole, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    path = tmp_path / "found.nc"
    with pytest.raises(KeyboardInterrupt), sweeping(SWEEP, path):
        raise KeyboardInterrupt
    with monkeypatch.context() as again:
        again.setattr("annealvi.sweeps.running.write_netcdf", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(SWEEP, path)
    run_sweep(SWEEP, path)
    assert path.read_bytes() == whole
    assert sorted(os.listdir(tmp_path)) == ["found.nc", "whole.nc"]


def test_a_killed_worker_is_one_line_and_what_is_finished_is_kept(tmp_path, whole):
    path, sweep = tmp_path / "found.nc", replace(SWEEP, seconds=0.05)

    def kill(done, total):
        if done == 4:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with pytest.raises(WorkersLost, match="the same command goes on"):
        run_sweep(sweep, path, Execution(workers=2, chunk=1), progress=kill)
    assert 4 <= len(chunks_of(path)) < 20
    assert not multiprocessing.active_children()
    run_sweep(SWEEP, path)
    assert path.read_bytes() == whole


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    path = tmp_path / "found.nc"
    process = run_in_a_process(path, seconds=0.2, workers=2)
    begun = time.monotonic()
    while not (parts_of(path).exists() and chunks_of(path)) and time.monotonic() - begun < 60:
        time.sleep(0.05)
    process.kill()
    process.wait()
    while time.monotonic() - begun < 90:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a worker has outlived its parent")


def test_a_sweep_ends_its_own_workers_alone():
    bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    bystander.start()
    try:
        run_sweep(SWEEP, how=Execution(workers=2))
        assert multiprocessing.active_children() == [bystander]
        assert bystander.is_alive()
    finally:
        bystander.kill()
        bystander.join()


def test_a_script_that_does_not_guard_its_main_part_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from small_sweep import SmallSweep; from annealvi.sweeps.engines import WorkersLost\n"
        "from annealvi.sweeps.running import Execution, run_sweep\n"
        "try: run_sweep(SmallSweep(), how=Execution(workers=2))\n"
        "except WorkersLost as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert 'under `if __name__ == "__main__":`' in done.stdout


def test_each_worker_sees_a_gpu_of_its_own(monkeypatch):
    assert engines.environment_of(3, 4, ("0", "1"))["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in engines.environment_of(0, 2, ())
    monkeypatch.setattr("annealvi.sweeps.running.gpus_of_machine", lambda: ("5", "7"))
    monkeypatch.setattr(SmallSweep, "on_gpu", True)
    data = run_sweep(SmallSweep(seed=GPU, seconds=0.05), how=Execution(chunk=1))
    assert set(data["gpu"].to_numpy().ravel().tolist()) == {5.0, 7.0}


def test_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr(engines, "cores", lambda: 8)
    assert engines.environment_of(0, 3, ())["NUMBA_NUM_THREADS"] == "2"
    assert engines.environment_of(0, 99, ())["NUMBA_NUM_THREADS"] == "1"
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 2, 3, 5, 8})
    assert [engines.cores_of(n, 2) for n in range(2)] == [{1, 3, 8}, {2, 5}]
    assert all(engines.cores_of(n, 7) for n in range(7))


def test_a_plan_says_what_is_left(tmp_path):
    path = tmp_path / "found.nc"
    sweep = replace(SWEEP, seconds=0.01)
    fresh = plan_sweep(sweep, path, Execution(chunk=3))
    assert (fresh.points, fresh.units, fresh.finished, fresh.chunk) == (20, 20, 0, 3)
    assert fresh.seconds == pytest.approx(0.2)
    assert fresh.result == 20 * 8 * 5
    assert "20 points, 7 chunks on this process" in str(fresh)
    assert not parts_of(path).exists()
    interrupted(path, 10, sweep)
    kept = 2 * len(chunks_of(path))
    later = plan_sweep(sweep, path, Execution(chunk=3, workers=2))
    assert later.finished == kept
    assert later.seconds == pytest.approx(0.01 * 3 * np.ceil((20 - kept) / 6))
    assert f"20 points, {kept} of them finished" in str(later)


def test_chunks_take_some_seconds_and_leave_none_idle():
    assert make_plan(SmallSweep(rows=1000, columns=1000, seconds=1e-3), 0, InProcess(), None).chunk == 5000
    assert make_plan(SmallSweep(seconds=60), 0, InProcess(), None).chunk == 1
    assert make_plan(SmallSweep(rows=100, columns=8, seconds=1e-6), 0, Processes(10), None).chunk == 20
    assert make_plan(SmallSweep(rows=1000, width=2**20, seconds=1e-9), 0, InProcess(), None).chunk == 1


def test_a_plan_changes_nothing(tmp_path):
    path = tmp_path / "found.nc"
    interrupted(path, 10)
    victim = chunks_of(path)[1]
    victim.write_bytes(b"damaged")
    (parts_of(path) / f".{'0' * 16}.tmp").touch()
    held = Store(parts_of(path), SWEEP)
    before = sorted((file, file.read_bytes()) for file in parts_of(path).iterdir())
    plan = plan_sweep(SWEEP, path, Execution())
    held.close()
    assert plan.finished == 2 * len(chunks_of(path)) - 2
    assert sorted((file, file.read_bytes()) for file in parts_of(path).iterdir()) == before


@pytest.mark.parametrize("how", [Execution(max_cost=1e-9, force=True), Execution(scheduler="tcp://x:1", force=True)])
def test_a_forced_run_that_is_refused_has_removed_nothing(how, tmp_path):
    path = tmp_path / "found.nc"
    interrupted(path, 10, replace(SWEEP, seed=1))
    before = sorted(os.listdir(parts_of(path)))
    with pytest.raises(BadInput):
        run_sweep(replace(SWEEP, seconds=1.0), path, how)
    assert sorted(os.listdir(parts_of(path))) == before


def test_a_result_beside_chunks_is_overwritten_only_if_it_is_made_of_them(tmp_path, whole):
    """The result may be that of an earlier sweep, which an interrupted run with force was to replace."""
    path = tmp_path / "found.nc"
    interrupted(path, 10)
    path.write_text("hours of work")
    with pytest.raises(BadInput, match="exists already"):
        run_sweep(SWEEP, path)
    assert path.read_text() == "hours of work"
    run_sweep(SWEEP, path, Execution(force=True))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", [f"000000000-000000002-{'0' * 16}.nc", "result.nc"])
def test_a_folder_in_the_place_of_a_file_is_refused_in_one_line(name, tmp_path):
    path = tmp_path / "found.nc"
    interrupted(path, 10)
    (parts_of(path) / name).mkdir()
    with pytest.raises(BadInput, match="is a folder; remove it"):
        run_sweep(SWEEP, path)


def test_work_beyond_the_limit_is_refused_before_it_begins(tmp_path):
    sweep = replace(SWEEP, seconds=1000.0)
    with pytest.raises(
        BadInput, match=r"--max-cost: about 5.6 h: 20 points, 20 chunks .* above the limit of 3600 s; take fewer points"
    ):
        run_sweep(sweep, tmp_path / "found.nc", Execution(max_cost=3600))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (Execution(engine="slurm"), "--engine: 'slurm' is unknown; choose from local, dask"),
        (Execution(scheduler="tcp://127.0.0.1:1"), "--scheduler: it is Dask's; add --engine dask"),
    ],
)
def test_an_execution_that_cannot_be_is_refused(how, said, tmp_path):
    with pytest.raises(BadInput, match=said):
        run_sweep(SWEEP, tmp_path / "found.nc", how)
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import resource, sys
from pathlib import Path
from small_sweep import SmallSweep
from annealvi.sweeps.running import Execution, run_sweep, sweeping
with sweeping(SmallSweep(rows=4), Path(sys.argv[1]) / "small.nc"):
    pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sweep = SmallSweep(rows=int(sys.argv[2]), columns=1, width=2**17)
with sweeping(sweep, Path(sys.argv[1]) / "large.nc", Execution(chunk=4)) as data:
    size = data["value"].nbytes
print(size / 2**20, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_result_larger_than_the_memory_it_takes_streams(tmp_path):
    """The memory grows by less than a tenth of the result, although that is far more than a few chunks of 4 MiB."""
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    command = [sys.executable, "-c", MEMORY, str(tmp_path), "400"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    size, grown = map(float, done.stdout.split())
    assert size == 400
    assert grown < 40


def test_a_renamed_file_is_brought_to_the_disk_with_its_folder(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        true = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, true=true: (order.append(name), true(*a))[1])
    output.write_file(tmp_path / "file", b"content")
    assert order == ["fsync", "replace", "fsync"]
