"""A sweep that loses power before each of its disk operations in turn, and starts again.

This is a program of its own because it forks, and a process with threads of JAX must not fork. It prints the number of
cuts.
"""

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
"""The operations of a sweep on the disk, except writes into files that do not have their own name yet."""


def cut_power_at(number):
    """End the process before its operation number `number` on the disk, as a power cut would.

    A file that is being brought to the disk loses its second half, and a rename that is not yet on the disk is undone.
    """
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
    """A sweep whose chunks fit under the kernel's limit on the size of a file, but whose whole result does not.

    A limit from the start is found before anything is computed. A limit that appears while the sweep runs costs
    nothing: the chunks computed so far are kept.
    """
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
