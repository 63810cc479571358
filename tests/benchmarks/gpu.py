"""Everything that needs a GPU, as one command: correctness, compute-sanitizer, and benchmarks.

    uv run --extra cuda --extra bench python tests/benchmarks/gpu.py            # some ten minutes, on one NVIDIA GPU
    NUMBA_ENABLE_CUDASIM=1 uv run python tests/benchmarks/gpu.py --rehearse     # tiny sizes, in the simulator

The results are written as JSON and as a table. The tests marked as needing a GPU run first; where they fail, nothing is
timed. JAX takes part where it is installed, on its own device. The arithmetic limit is measured, not read off a data
sheet: it is the rate of a kernel that only draws the normals of the same run, in registers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import numba
import numpy as np
import peers
import run
import work
from numba import cuda

import annealvi
from kernels.integrate.batch import integrate_sets
from kernels.machine.cuda_functions import for_cuda
from kernels.machine.device import DeviceUnavailable, resolve_device
from kernels.particles.random_stream import four_normals

TESTS = ["test_integrator_cuda", "test_lattice_cuda", "test_particles_cuda", "test_projection"]
SANITIZED = """
import sys
sys.path[:0] = ["tests/benchmarks", "."]
import work
kernel = work.study_kernel("cuda")
kernel.integrate(work.initial_overlaps(100, 128), [0.0, 180.0])
for choice in ({}, {"precision": "float64", "d": 37, "particles": 67}, {"projected": True}):
    work.particle_rate(**{"replicas": 3, "steps": 2, "repeats": 1, "device": "cuda", **choice})
"""
SAME = 1e-11
"""The largest difference between the devices.

Fused multiply-adds and another library of functions cause roundings, which some hundred steps carry on.
"""


def correctness(options):
    """Runs the tests that need a GPU, and compares the ensembles of both devices."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "-o",
        "addopts=",
        *(f"tests/kernels/{t}.py" for t in TESTS),
    ]
    rows = []
    if not options.rehearse:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        rows.append(
            run.row("tests", "last line", None, note=done.stdout.strip().splitlines()[-1], passed=done.returncode == 0)
        )
    starts = work.initial_overlaps(min(options.trajectories, 4096), 128)
    there, here = (work.study_kernel(d).integrate(starts, [0.0, peers.T_END]).y[:, -1] for d in ("cuda", "cpu"))
    difference = float(np.abs(there - here).max())
    return [
        *rows,
        run.row("float64 ensemble, CUDA less CPU", "largest difference", difference, passed=difference <= SAME),
    ]


def sanitizer(_):
    """Runs the tools of compute-sanitizer on small runs of every kernel."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return [run.row("compute-sanitizer", "errors", None, note="not installed", passed=True)]
    rows = []
    for name in ("memcheck", "racecheck", "synccheck"):
        command = [tool, "--tool", name, "--error-exitcode", "1", sys.executable, "-c", SANITIZED]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        note = (done.stdout.strip().splitlines() or ["no output"])[-1]
        rows.append(run.row(f"compute-sanitizer {name}", "last line", None, note=note, passed=done.returncode == 0))
    return rows


def ensemble(options):
    """Times the study's ensemble of many states, for one set of parameters and for many."""
    count = options.trajectories
    starts = work.initial_overlaps(count, 128)
    truth = peers.reference(starts[: options.reference])
    rows = []
    for precision, rtol in (("float64", 1e-7), ("float32", 1e-4)):
        kernel = work.study_kernel("cuda", tolerance=1e-9 if precision == "float64" else 1e-7, precision=precision)
        seconds, final = work.ensemble(starts, rtol, kernel, options.repeats)
        error = float(np.abs(final[: len(truth)] - truth).max())
        rows.append(
            run.row(f"annealvi, {precision}, N = {count}", "ms per trajectory", 1e3 * seconds / count, error=error)
        )
    kernel = work.study_kernel("cuda", tolerance=1e-9)
    sets = [kernel.with_parameters({"T0": float(T0)}) for T0 in np.geomspace(3, 300, options.sets)]
    some = starts[: count // options.sets]
    seconds, _ = work.median_seconds(
        lambda: integrate_sets(sets, some, [0.0, peers.T_END], rtol=1e-7, atol=1e-9), options.repeats
    )
    rows.append(
        run.row(
            f"annealvi, {options.sets} sets of {len(some)} states",
            "ms per trajectory",
            1e3 * seconds / (len(sets) * len(some)),
        )
    )
    if options.reference > 1:
        try:
            rows.append(
                run.row(
                    "diffrax Dopri8, JAX's device",
                    "ms per trajectory",
                    1e3 * peers.diffrax(starts, "Dopri8")[0] / count,
                )
            )
        except ImportError as missing:
            rows.append(run.row("diffrax", "ms per trajectory", None, note=f"not installed: {missing.name}"))
    return rows


def draws_alone(precision, blocks, threads):
    """The normals per second of a kernel that does nothing but draw them, which the arithmetic units limit."""
    draw, real = for_cuda(four_normals), np.dtype(precision).type

    @cuda.jit
    def kernel(out, seed, count):
        thread = cuda.grid(1)
        total = real(0)
        for n in range(count):
            first, second, third, fourth = draw(seed, 1, 2, 0, thread, n, real)
            total += first + second + third + fourth
        out[thread] = total

    out = cuda.device_array(blocks * threads, precision)
    count = 256 if not numba.config.ENABLE_CUDASIM else 2

    def launch():
        kernel[blocks, threads](out, np.uint64(1), count)
        cuda.synchronize()

    seconds, _ = work.median_seconds(launch)
    return 4 * count * blocks * threads / seconds


def particles(options):
    """Measures coordinates per second, beside the draws alone and JAX on the same device."""
    rows = []
    sizes = options.sizes
    for precision in ("float32", "float64"):
        limit = draws_alone(precision, *options.grid)
        rows.append(run.row(f"draws alone, {precision}", "coordinates per second", limit))
        for choice in (*sizes, {**sizes[0], "projected": True}):
            rate, device = work.particle_rate(precision=precision, device="cuda", repeats=options.repeats, **choice)
            name = ", ".join(f"{k} = {v}" for k, v in choice.items())
            rows.append(
                run.row(
                    f"annealvi, {precision}, {name}, {device}", "coordinates per second", rate, of_limit=rate / limit
                )
            )
    for choice in sizes:
        if set(choice) <= {"replicas", "particles", "d", "steps"}:
            try:
                rate, backend = peers.jax_particles(
                    **{"replicas": 16, "particles": 256, "d": 128, "steps": 100, **choice}
                )
                rows.append(run.row(f"JAX, float32, {choice}, {backend}", "coordinates per second", rate))
            except ImportError as missing:
                rows.append(run.row("JAX", "coordinates per second", None, note=f"not installed: {missing.name}"))
                break
    return rows


def collapse(options):
    """Times the probability of collapse from many replicas, full and projected."""
    problem = annealvi.load_problem("bimodal", [*work.STUDY, f"space.dimension={options.dimension}"])
    rows = []
    for projected in (False, True):
        begin = perf_counter()
        session = annealvi.open_session(problem)
        method = {
            "methods": ("particles",),
            "replicas": options.replicas,
            "device": "cuda",
            "projected": projected,
            **options.collapse,
        }
        found = annealvi.collapse_probability(session, **method)
        name = "projected" if projected else "full"
        rows.append(
            run.row(
                f"collapse, {options.replicas} replicas, {name}", "s", perf_counter() - begin, note=str(found)[:300]
            )
        )
    return rows


PARTS = {
    "correctness": correctness,
    "sanitizer": sanitizer,
    "ensemble": ensemble,
    "particles": particles,
    "collapse": collapse,
}
REAL = {
    "trajectories": 2**20,
    "sets": 1024,
    "reference": 48,
    "repeats": 5,
    "grid": (132 * 32, 128),
    "replicas": 4096,
    "dimension": 128,
    "collapse": {},
    "sizes": [
        {"replicas": 16},
        {"replicas": 4096, "steps": 20},
        {"replicas": 4096, "d": 1024, "steps": 5},
        {"replicas": 4096, "L": 8, "K": 8, "steps": 5},
    ],
}
TINY = {
    "trajectories": 4,
    "sets": 2,
    "reference": 1,
    "repeats": 1,
    "grid": (1, 4),
    "replicas": 2,
    "dimension": 4,
    "collapse": {"particles": 2, "dt": 60.0, "t_end": 120.0},
    "sizes": [{"replicas": 1, "particles": 2, "d": 8, "steps": 1}],
}
"""The sizes in the simulator; those in REAL are for a GPU."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--out", type=Path, default=run.RESULTS, help="folder for the results (default: beside this script)"
    )
    parser.add_argument(
        "--rehearse", action="store_true", help="tiny sizes, for the simulator; writes gpu-rehearsal.json"
    )
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such part; the parts are {', '.join(PARTS)}")
    try:
        device = resolve_device("cuda")
    except DeviceUnavailable as problem:
        parser.error(str(problem))
    if device.simulated != options.rehearse:
        parser.error("--rehearse is for the simulator, NUMBA_ENABLE_CUDASIM=1, and the simulator for --rehearse")
    for name, value in (TINY if options.rehearse else REAL).items():
        setattr(options, name, value)
    found = {}
    for part in options.parts or PARTS:
        found[part] = PARTS[part](options)
        print(f"\n## {part}\n\n{run.table(found[part])}", flush=True)
        if not all(r.get("passed", True) for r in found[part]):
            sys.exit(f"{part} failed; nothing else is measured")
    options.out.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", "tests/benchmarks/gpu.py", *sys.argv[1:]])
    driver = (
        None
        if device.simulated
        else subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    )
    head = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "device": device.name,
        "driver": driver,
        "seed": 0,
    }
    stem = "gpu-rehearsal" if options.rehearse else "gpu"
    (options.out / f"{stem}.json").write_text(
        json.dumps({**head, "machine": run.machine(), **found}, indent=1) + "\n", encoding="utf-8"
    )
    tables = "\n".join(f"## {part}\n\n{run.table(rows)}" for part, rows in found.items())
    (options.out / f"{stem}.md").write_text(
        f"# On a GPU\n\n{head['date']}, {device.name}\n\n`{command}`\n\n{tables}", encoding="utf-8"
    )
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
