"""Registers, stack, spills, shared memory and occupancy of every kind of CUDA kernel on sm_90, without a GPU.

    uv run --group dev python tests/benchmarks/assembly.py

NVIDIA's linker assembles the kernels; the results are written as a table.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numba.cuda.dispatcher

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS / "support")]

from hopper_kernels import assembled, integrator_kernels, particle_kernels, projected_kernels, ptx_of  # noqa: E402

import annealvi  # noqa: E402
from annealvi.collapse.ensemble import AVERAGES  # noqa: E402
from kernels.averages.tables import build_tables  # noqa: E402
from kernels.lower.analysis import analyse_averages  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "assembly.md"


class Hopper:
    """Stands for the device whose architecture Numba asks for."""

    compute_capability = (9, 0)


def of_problem(name, tolerance, precision="float64", proxies=True):
    """The kernels of a built-in problem under its own schedule."""
    session = annealvi.open_session(annealvi.load_problem(name))
    averages = analyse_averages(session.derivation.system)
    tables = build_tables(averages, session.values, tolerance, proxies)
    schedule = session.schedule
    label = f"{name}, {'tables' if proxies else 'quadrature'}"
    return integrator_kernels(
        label, averages, schedule.beta, schedule.parameters, tables.by_proxy, precision, tables.surfaces
    )


def kernels():
    """(precision, kernel) of each kind."""
    for precision in ("float64", "float32"):
        for proxies in (True, False):
            yield from ((precision, k) for k in of_problem("bimodal", 1e-9, precision, proxies))
        for name, options in (("equal scales", (False, False)), ("any scales, reference", (True, True))):
            for kernel in particle_kernels(precision, *options):
                yield precision, type(kernel)(f"particles, {name}: {kernel.name}", *list(vars(kernel).values())[1:])
        yield from ((precision, k) for k in projected_kernels(precision))
    for name in ("two-scales", "simplex"):
        yield from (("float64", k) for k in of_problem(name, AVERAGES))
    yield from (("float64", k) for k in of_problem("learned-weights", AVERAGES))


def main():
    numba.cuda.dispatcher.get_current_device = Hopper
    head = "| kernel | precision | threads | registers | stack, B | spilled, B | shared, B | occupancy |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for precision, kernel in kernels():
        found = assembled(ptx_of(kernel))
        numbers = kernel.threads, found.registers, found.stack, found.spilled, found.shared
        share = f"{found.occupancy(kernel.threads):.0%}"
        lines.append(f"| {kernel.name} | {precision} | {' | '.join(map(str, numbers))} | {share} |")
        print(lines[-1], flush=True)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    versions = ", ".join(f"{name} {version(name)}" for name in ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink"))
    place = f"{made}, {versions}\n\n`python tests/benchmarks/assembly.py`"
    RESULTS.write_text(f"# CUDA kernels on sm_90\n\n{place}\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
