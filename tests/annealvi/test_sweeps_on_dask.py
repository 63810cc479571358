"""Sweeps on a real Dask cluster on the loopback interface, whose workers are killed."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
from small_sweep import GPU, SmallSweep

from annealvi.cli.program import main
from annealvi.components import MissingComponent
from annealvi.sweeps import on_dask, provenance
from annealvi.sweeps.engines import WorkersLost
from annealvi.sweeps.running import Execution, parts_of, run_sweep
from derive.problem.specification import BadInput

distributed = pytest.importorskip("distributed")

SWEEP = SmallSweep(rows=5, columns=8)


@pytest.fixture
def whole(tmp_path):
    """The bytes of the result that this process computes alone."""
    run_sweep(SWEEP, tmp_path / "whole.nc")
    return (tmp_path / "whole.nc").read_bytes()


@pytest.fixture
def cluster():
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
        "host": "127.0.0.1",
    }
    with distributed.LocalCluster(**options, silence_logs=50) as made:
        yield made


def kill_a_worker(cluster, which=0):
    """Kills the worker itself, not the nanny that starts it again."""
    worker = list(cluster.workers.values())[which]
    if worker.process is not None and worker.process.pid is not None:
        os.kill(worker.process.pid, signal.SIGKILL)


def test_a_cluster_of_our_own_makes_the_same_file(tmp_path, whole, capfd):
    told = []
    run_sweep(SWEEP, tmp_path / "found.nc", Execution(engine="dask", workers=2, chunk=3), tell=told.append)
    assert (tmp_path / "found.nc").read_bytes() == whole
    assert told == ["a sweep that costs nothing", "unit 1 has something to say"]
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("chunk", [1, 5])
def test_a_cluster_at_an_address_makes_the_same_file(chunk, cluster, tmp_path, whole):
    run_sweep(SWEEP, tmp_path / "found.nc", Execution(engine="dask", scheduler=cluster.scheduler_address, chunk=chunk))
    assert (tmp_path / "found.nc").read_bytes() == whole


def test_workers_that_are_killed_lose_no_points(cluster, tmp_path, whole):
    diary = tmp_path / "diary"
    diary.mkdir()
    killed = []

    def kill(done, total):
        if done in (4, 12, 20, 28):
            kill_a_worker(cluster, len(killed) % 2)
            killed.append(done)

    sweep = replace(SWEEP, seconds=0.05, diary=str(diary))
    run_sweep(
        sweep,
        tmp_path / "found.nc",
        Execution(engine="dask", scheduler=cluster.scheduler_address, chunk=1),
        progress=kill,
    )
    assert (tmp_path / "found.nc").read_bytes() == whole
    assert len(killed) == 4
    ran_in = {name.rsplit("-", 1)[1] for name in os.listdir(diary)}
    assert len(ran_in) > 2, "no worker came back"


def test_all_workers_that_are_killed_at_once_come_back(cluster, tmp_path, whole):
    def kill(done, total):
        if done == 6:
            kill_a_worker(cluster, 0)
            kill_a_worker(cluster, 1)

    how = Execution(engine="dask", scheduler=cluster.scheduler_address, chunk=2)
    run_sweep(replace(SWEEP, seconds=0.02), tmp_path / "found.nc", how, progress=kill)
    assert (tmp_path / "found.nc").read_bytes() == whole


def test_workers_whose_nannies_end_too_are_made_anew(tmp_path, whole, monkeypatch):
    """Nannies end where a worker dies again and again while it starts; the sweep then makes new workers."""
    clusters, true = [], on_dask._own_cluster

    @contextmanager
    def watched(*arguments):
        with true(*arguments) as made:
            clusters.append(made)
            yield made

    def close(done, total):
        if done == 4:
            for nanny in list(clusters[0].workers.values()):
                clusters[0].sync(nanny.close)

    monkeypatch.setattr(on_dask, "_own_cluster", watched)
    run_sweep(
        replace(SWEEP, seconds=0.02),
        tmp_path / "found.nc",
        Execution(engine="dask", workers=2, chunk=1),
        progress=close,
    )
    assert (tmp_path / "found.nc").read_bytes() == whole


def test_workers_that_come_later_help(tmp_path, whole):
    options = {
        "n_workers": 0,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
        "host": "127.0.0.1",
    }
    with distributed.LocalCluster(**options, silence_logs=50) as empty:
        threading.Timer(2.0, lambda: empty.scale(1)).start()
        run_sweep(SWEEP, tmp_path / "found.nc", Execution(engine="dask", scheduler=empty.scheduler_address, chunk=4))
    assert (tmp_path / "found.nc").read_bytes() == whole


def test_a_scheduler_that_goes_is_one_line_and_what_is_finished_is_kept(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(on_dask, "PATIENCE", 2.0)
    options = {
        "n_workers": 1,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
        "host": "127.0.0.1",
    }
    path = tmp_path / "found.nc"
    with distributed.LocalCluster(**options, silence_logs=50) as going:

        def close(done, total):
            if done == 4:
                going.close()

        how = Execution(engine="dask", scheduler=going.scheduler_address, chunk=1)
        with pytest.raises(WorkersLost, match="the same command goes on"):
            run_sweep(replace(SWEEP, seconds=0.05), path, how, progress=close)
    assert len([file for file in parts_of(path).iterdir() if file.suffix == ".nc"]) >= 4
    run_sweep(SWEEP, path)
    assert path.read_bytes() == whole


def test_a_chunk_that_kills_every_worker_is_given_up_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(on_dask, "DEATHS", 1)
    with pytest.raises(WorkersLost, match="died one after the other under the same chunk"):
        run_sweep(Deadly(), tmp_path / "found.nc", Execution(engine="dask", workers=1, chunk=1))


class Deadly(SmallSweep):
    """A sweep whose units kill the process that computes them."""

    def compute(self, unit, tell=None):
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_unit_refuses_is_the_same_line_as_here(cluster, tmp_path):
    with pytest.raises(BadInput, match="at unit 3: mine: wrong; mend it"):
        run_sweep(
            Refusing(), tmp_path / "found.nc", Execution(engine="dask", scheduler=cluster.scheduler_address, chunk=1)
        )


class Refusing(SmallSweep):
    """A sweep with one unit that cannot be computed."""

    def compute(self, unit, tell=None):
        if unit == 3:
            raise BadInput("mine", "wrong", "mend it", "at unit 3")
        return super().compute(unit, tell)


def test_each_worker_sees_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("annealvi.sweeps.running.gpus_of_machine", lambda: ("5", "7"))
    monkeypatch.setattr(SmallSweep, "on_gpu", True)
    data = run_sweep(SmallSweep(seed=GPU, seconds=0.05), how=Execution(engine="dask", chunk=1))
    assert set(data["gpu"].to_numpy().ravel().tolist()) == {5.0, 7.0}


@pytest.mark.parametrize("name", ["annealvi", "source", "numpy"])
def test_a_worker_of_another_version_is_refused(name):
    here = provenance.versions(SWEEP.libraries)
    on_dask._compute(SWEEP, 0, 1, here)
    with pytest.raises(
        BadInput, match=f"a worker has {name} .*, and this process 0.0.1; install the same versions on both"
    ):
        on_dask._compute(SWEEP, 0, 1, {**here, name: "0.0.1"})


def test_no_scheduler_at_the_address_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(on_dask, "PATIENCE", 0.5)
    with pytest.raises(
        BadInput, match=r"--scheduler: tcp://127.0.0.1:1 does not answer .* start `dask scheduler` there"
    ):
        run_sweep(SWEEP, tmp_path / "found.nc", Execution(engine="dask", scheduler="tcp://127.0.0.1:1"))
    with pytest.raises(BadInput, match="--scheduler"):
        run_sweep(SWEEP, tmp_path / "found.nc", Execution(engine="dask", scheduler="nonsense://x"))
    assert list(tmp_path.iterdir()) == []


def test_without_dask_its_install_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("annealvi.components.find_spec", lambda name: None)
    with pytest.raises(MissingComponent, match=r"annealvi\[cluster\]"):
        run_sweep(SWEEP, tmp_path / "found.nc", Execution(engine="dask"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_makes_the_same_map_on_dask(tmp_path, capsys):
    small = ["phase", "--set", "space.dimension=32", "--x", "schedule.T0=5:50:3:log", "--y", "schedule.t0=10:40:3"]
    assert main([*small, "--out", str(tmp_path / "here")]) == 0
    assert main([*small, "--engine", "dask", "--workers", "2", "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "here" / "phase.nc").read_bytes() == (tmp_path / "there" / "phase.nc").read_bytes()
    assert "Traceback" not in capsys.readouterr().err
