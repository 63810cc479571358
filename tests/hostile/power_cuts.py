"""A sweep that is cut off before each of its operations on the disk in turn, and begun again. Run as a program: it
forks, which a process with threads of JAX must not. Prints how many cuts there were."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path

from small_sweep import SmallSweep

from annealvi.sweeps.running import Execution, parts_of, run_sweep
from annealvi.sweeps.store import STATED

SWEEP = SmallSweep()
OPERATIONS = ("replace", "fsync", "unlink", "rmdir", "chmod", "mkdir")
"""What a sweep does to the disk, but for writing into files that have no name of their own yet."""


def cut_power_at(number):
    """The process ends before its number-th operation. A file that is not yet brought to the disk is lost by half, and
    a rename undone."""
    done, renamed = [], []
    undo = os.rename

    def counted(name, true):
        def operation(target, *arguments, **options):
            if len(done) == number:
                if renamed:
                    undo(*renamed)
                if name == "fsync" and os.path.isfile(f"/proc/self/fd/{target}"):
                    os.ftruncate(target, os.fstat(target).st_size // 2)
                os._exit(9)
            done.append(name)
            if name == "replace" and not os.path.exists(arguments[0]):
                renamed[:] = arguments[0], target
            elif name == "fsync" and os.path.isdir(f"/proc/self/fd/{target}"):
                renamed.clear()
            return true(target, *arguments, **options)

        return operation

    for name in OPERATIONS:
        setattr(os, name, counted(name, getattr(os, name)))


def in_a_child(work):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = work() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def cut_everywhere(folder, whole):
    number = 0
    while True:
        path = folder / str(number) / "found.nc"
        path.parent.mkdir()
        status = in_a_child(
            lambda path=path, n=number: (cut_power_at(n), run_sweep(SWEEP, path, Execution(chunk=7)))[0]
        )
        assert status in (0, 9), status
        complete = path.exists() and not (parts_of(path) / STATED).exists()
        run_sweep(SWEEP, path, Execution(chunk=4, force=complete))
        assert path.read_bytes() == whole
        assert os.listdir(path.parent) == ["found.nc"]
        if status == 0:
            return number
        number += 1


def without_room(folder, whole):
    """A limit of the kernel's on the size of a file: the chunks fit, the whole does not. It is found out before
    anything is computed, and where the room goes while the sweep runs, what is computed is kept."""
    path, small = folder / "found.nc", 6000
    assert len(whole) > small

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (small, small))

    def work(limit_at):
        try:
            limit_at == 0 and limit()
            run_sweep(SWEEP, path, Execution(chunk=2), progress=lambda done, _: done == limit_at > 0 and limit())
        except Exception as error:
            print(type(error).__name__, error, flush=True)
            return 2

    for limit_at, chunks in ((0, 0), (2, 10)):
        assert in_a_child(lambda at=limit_at: work(at)) == 2
        assert not path.exists()
        assert len(list(parts_of(path).glob("0*.nc"))) == chunks
    run_sweep(SWEEP, path)
    assert path.read_bytes() == whole
    assert os.listdir(folder) == ["found.nc"]


def main():
    folder = Path(sys.argv[1])
    run_sweep(SWEEP, folder / "whole.nc")
    whole = (folder / "whole.nc").read_bytes()
    for name, work in (("cuts", cut_everywhere), ("room", without_room)):
        (folder / name).mkdir()
        print(name, work(folder / name, whole), flush=True)


if __name__ == "__main__":
    main()
