"""Work on threads: every unit once, errors come out, and nobody begins another range after one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import pytest

from kernels.threads import run_on_threads


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("units", [1, 2, 7, 100])
def test_every_unit_runs_once(monkeypatch, threads, units):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    seen = []
    run_on_threads(lambda first, stop, found: found.extend(range(first, stop)), units, seen)
    assert sorted(seen) == list(range(units))


def test_threads_work_at_the_same_time(monkeypatch):
    """Each of three ranges waits until the others have begun: one thread alone would never end."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: 3)
    meeting = threading.Barrier(3, timeout=20)
    run_on_threads(lambda first, stop: meeting.wait(), 3)


def test_one_thread_at_most_is_the_callers_own(monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 4)
    names = set()
    run_on_threads(lambda first, stop: names.add(threading.current_thread().name), 9, most_threads=1)
    assert names == {threading.current_thread().name}


@pytest.mark.parametrize("own_thread", [True, False])
def test_an_error_comes_out_and_ends_the_work(monkeypatch, own_thread):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    caller, begun = threading.current_thread(), []
    failed = threading.Event()

    def fail_in_one(first, stop):
        begun.append(first)
        if (threading.current_thread() is caller) == own_thread:
            failed.set()
            raise ArithmeticError("broken")
        failed.wait(20)
        time.sleep(0.2)

    with pytest.raises(ArithmeticError, match="broken"):
        run_on_threads(fail_in_one, 1000)
    assert len(begun) <= 2


def test_callers_on_several_threads_do_not_disturb_each_other(monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)

    def count(units):
        seen = []
        run_on_threads(lambda first, stop: seen.extend(range(first, stop)), units)
        return sorted(seen)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(1, 60))) == [list(range(n)) for n in range(1, 60)]
