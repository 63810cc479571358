"""Work on threads: each unit runs once, errors reach the caller, and errors, interrupts and time limits stop work."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numba
import pytest

from kernels.machine.threads import TimeLimitError, at_most, run_on_threads


@pytest.mark.quick
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("units", [1, 2, 7, 100])
def test_every_unit_runs_once(monkeypatch, threads, units):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    seen = []
    run_on_threads(lambda first, stop, flag, found: found.extend(range(first, stop)), units, seen)
    assert sorted(seen) == list(range(units))


def test_threads_work_at_the_same_time(monkeypatch):
    """Each of three ranges waits until the others have begun, so that one thread alone would never finish."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: 3)
    meeting = threading.Barrier(3, timeout=20)
    run_on_threads(lambda first, stop, flag: meeting.wait() if stop > first else None, 3)


def test_brief_work_is_done_by_the_callers_own_thread(monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 4)
    names = set()
    run_on_threads(lambda first, stop, flag: names.add(threading.current_thread().name), 9, brief=True)
    assert names == {threading.current_thread().name}


def test_an_error_comes_out_and_ends_the_work(monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    begun, flags = [], []
    meeting = threading.Barrier(2, timeout=20)

    def fail_in_one(first, stop, flag):
        if stop == first:
            return
        begun.append(first)
        if meeting.wait() == 0:
            raise ArithmeticError("broken")
        while flag[0] == 0:
            time.sleep(0.01)
        flags.append(flag[0])

    with pytest.raises(ArithmeticError, match="broken"):
        run_on_threads(fail_in_one, 1000)
    assert len(begun) == 2
    assert flags == [1]


def wait_for_the_flag(ended):
    """Work that runs until the flag is set, and then appends to `ended`."""

    def work(first, stop, flag):
        while stop > first and flag[0] == 0:
            time.sleep(0.01)
        ended.append((first, stop))

    return work


def test_an_interrupt_stops_the_work_and_waits_for_its_end(monkeypatch):
    """The signal reaches the main thread while it waits, and all work has ended when KeyboardInterrupt is raised."""
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    ended = []
    try:
        threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            run_on_threads(wait_for_the_flag(ended), 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(ended) == [(0, 0), (0, 1), (1, 2)]


@pytest.mark.parametrize("outer", [60.0, float("inf")])
def test_a_time_limit_stops_the_work(outer):
    ended = []
    with at_most(float("inf")):
        run_on_threads(lambda first, stop, flag: None, 1)
    with pytest.raises(TimeLimitError), at_most(outer), at_most(0.2):
        run_on_threads(wait_for_the_flag(ended), 1)
    assert ended == [(0, 0), (0, 1)]
    run_on_threads(lambda first, stop, flag: None, 1)  # runs without the limit


def test_callers_on_several_threads_do_not_disturb_each_other(monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 2)

    def count(units):
        seen = []
        run_on_threads(lambda first, stop, flag: seen.extend(range(first, stop)), units)
        return sorted(seen)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(1, 60))) == [list(range(n)) for n in range(1, 60)]
