"""Benchmarks against other libraries, both sides in one run, and how speed scales.

    uv run --extra bench python tests/benchmarks/run.py                 # ensemble, particles, startup; five minutes
    uv run --extra bench python tests/benchmarks/run.py mixtures        # one part: mixtures, verify, or one of those
    uv run python tests/benchmarks/run.py --out DIR --trajectories 512  # without the peers that are not installed

The results are written as JSON, as a table and as a figure, named cpu or after the chosen parts. An error is checked
before a time is reported. For a GPU see gpu.py.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba
import numpy as np
import peers
import work

from annealvi.show import style

LARGEST_ERROR = 1e-7
"""The largest error of a final state of the ensemble with which a time counts."""
RESULTS = Path(__file__).parent / "results"


def ensemble(options):
    """Times the ensemble of the peers and of this package in turn, then of this package under other choices."""
    starts = work.initial_overlaps(options.trajectories, 128)
    truth = peers.reference(starts[: work.REFERENCE_RUNS])
    rows = []

    def report(name, seconds, final, count):
        errors = np.abs(final[: len(truth)] - truth[: len(final)]).max(1)
        rows.append(
            row(
                name,
                "ms per trajectory",
                1e3 * seconds / count,
                error=float(errors.max()),
                median_error=float(np.median(errors)),
            )
        )

    for name, (peer, most) in peers.ENSEMBLES.items():
        some = starts[:most]
        try:
            report(name, *peer(some), len(some))
        except ImportError as missing:
            rows.append(row(name, "ms per trajectory", None, note=f"not installed: {missing.name}"))
            continue
        # This package runs after each peer, so that a machine that slows down slows both.
        report(f"annealvi, after {name}", *work.ensemble(starts, repeats=3), len(starts))
    report("annealvi, rtol 1e-7", *work.ensemble(starts), len(starts))
    for digits in (5, 6, 8, 10, 12):
        report(f"annealvi, rtol 1e-{digits}", *work.ensemble(starts, 10.0**-digits), len(starts))
    quadrature = work.study_kernel(tolerance=1e-9, expectations="quadrature")
    report("annealvi, rtol 1e-7, quadrature", *work.ensemble(starts, kernel=quadrature, repeats=3), len(starts))
    for count in (1, 2):
        if count <= numba.config.NUMBA_NUM_THREADS:
            found = work.with_threads(count, lambda: work.ensemble(starts, repeats=3))
            report(f"annealvi, rtol 1e-7, {count} thread{'s' * (count > 1)}", *found, len(starts))
    for count in (32, 256, 65536):
        many = work.initial_overlaps(count, 128)
        many[: min(count, work.REFERENCE_RUNS)] = starts[: min(count, work.REFERENCE_RUNS)]
        report(f"annealvi, rtol 1e-7, N = {count}", *work.ensemble(many, repeats=3), count)
    return rows


def particles(options):
    """Times the stochastic gradient flow of JAX and of this package, then of this package under other choices."""
    rows = []
    try:
        rate, backend = peers.jax_particles(16, 256, 128, 100)
        rows.append(row("JAX, float32", "coordinates per second", rate, device=backend))
    except ImportError as missing:
        rows.append(row("JAX", "coordinates per second", None, note=f"not installed: {missing.name}"))
    cases = {
        "float32": {},
        "float64": {"precision": "float64"},
        "float32, d = 16": {"d": 16},
        "float32, d = 1024": {"d": 1024, "steps": 20},
        "float32, 64 particles": {"particles": 64},
        "float32, 4096 particles": {"particles": 4096, "steps": 10},
        "float32, L = K = 4": {"L": 4, "K": 4, "steps": 50},
        "float32, L = K = 8": {"L": 8, "K": 8, "steps": 20},
        "float32, projected": {"projected": True},
    }
    for name, choice in cases.items():
        rate, device = work.particle_rate(**choice)
        rows.append(row(f"annealvi, {name}", "coordinates per second", rate, device=device))
    for count in (1, 2):
        if count <= numba.config.NUMBA_NUM_THREADS:
            rate, device = work.with_threads(count, work.particle_rate)
            rows.append(
                row(
                    f"annealvi, float32, {count} thread{'s' * (count > 1)}",
                    "coordinates per second",
                    rate,
                    device=device,
                )
            )
    return rows


def startup(options):
    """Times the first help text, and derivation and compilation with an empty cache and with a filled one."""
    rows = [row("annealvi --help", "s", work.process_seconds(["-m", "annealvi", "--help"]))]
    rows += [row("python -c pass", "s", work.process_seconds(["-c", "pass"]))]
    for name, (derived, tabulated, ran) in zip(("empty", "filled"), work.derive_and_compile(), strict=True):
        rows += [row(f"derive, {name} cache", "s", derived), row(f"tabulate, {name} cache", "s", tabulated)]
        rows += [row(f"compile and run, {name} cache", "s", ran)]
    return rows


def mixtures(options):
    """Times mixtures whose averages run over several variables, by series and by sums over lattices in turn."""
    rows = []
    for name in work.MIXTURES:
        found = work.mixture(name)
        error = float(np.abs(found["series"].rates - found["lattice"].rates).max())
        for way in ("lattice", "series"):
            timed = found[way]
            more = {"error": error} if way == "series" else {}
            rows.append(row(f"{name}, {way}", "µs per right-hand side", 1e6 * timed.per_rate, **more))
            rows.append(row(f"{name}, {way}", "ms per trajectory", 1e3 * timed.per_trajectory))
        rows.append(row(f"{name}, series", "s to make the tables", found["series"].tables))
    for name, (count, part) in work.PEERS.items():
        try:
            by_peer, own, error = work.beside_diffrax(name)
        except ImportError as missing:
            rows.append(
                row(f"{name}, diffrax Dopri8", "ms per trajectory", None, note=f"not installed: {missing.name}")
            )
            continue
        label = "ms per trajectory run " + ("to the end" if part == 1 else f"over {part:.0%} of the time")
        rows.append(row(f"{name}, diffrax Dopri8", f"{label}, {count} of them", by_peer, error=error))
        rows.append(row(f"{name}, annealvi, after diffrax", f"{label}, 1024 of them", own))
    for name in work.ENSEMBLES:
        for settings in work.SCHEDULES:
            found = work.settled_ensemble(name, settings)
            label = f"{name}, ensemble, T0, t0 = {settings[0]:g}, {settings[1]:g}"
            rows.append(row(label, f"ms per trajectory, {found.n} of them", 1e3 * found.per_trajectory))
            rows.append(row(label, "ms per trajectory run to the end", 1e3 * found.per_full_trajectory))
            rows.append(row(label, "P(collapse)", found.p))
            rows.append(row(label, "share settled", found.settled))
            rows.append(row(label, f"outcomes unlike those of {found.compared} full runs", found.unlike))
    return rows


def verify(options):
    """Times `annealvi verify` for every built-in problem with an empty cache and with a filled one."""
    rows = []
    for name in work.VERIFIED:
        for cache, (wall, processor) in zip(("empty", "filled"), work.verified(name), strict=True):
            rows.append(row(f"{name}, {cache} cache", "s", wall))
            rows.append(row(f"{name}, {cache} cache", "processor seconds", processor))
    return rows


PARTS = {"ensemble": ensemble, "particles": particles, "startup": startup, "mixtures": mixtures, "verify": verify}
USUAL = ("ensemble", "particles", "startup")


def row(name, unit, value, **more):
    return {"name": name, "unit": unit, "value": value, **more}


def machine():
    """The processor, threads and versions that a reader needs to place the numbers."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")),
            model,
        )
    libraries = {}
    for name in ("annealvi", "numba", "llvmlite", "numpy", "sympy", "scipy", "jax", "diffrax", "heyoka"):
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = None
    return {
        "processor": model,
        "threads": numba.config.NUMBA_NUM_THREADS,
        "python": platform.python_version(),
        "libraries": libraries,
    }


def table(rows):
    lines = ["| what | value | unit | largest error | median error |", "|---|---|---|---|---|"]
    for r in rows:
        value = r.get("note", "–") if r["value"] is None else f"{r['value']:.3g}"
        errors = [f"{r[k]:.1e}" if k in r else "" for k in ("error", "median_error")]
        lines.append(f"| {r['name']} | {value} | {r['unit']} | {errors[0]} | {errors[1]} |")
    return "\n".join(lines) + "\n"


OURS = {"ensemble": ("annealvi, rtol 1e-7", -1), "particles": ("annealvi, float32", 1)}
"""The row of each part that is compared with the peers, and whether more (1) or less (−1) is better."""


def verdict(part, rows):
    """A sentence on how many times faster this package is than the fastest peer of the same run.

    The sentence is empty where no peer ran.
    """
    name, sign = OURS.get(part, ("", 1))
    ran = [r for r in rows if r["value"] is not None]
    ours = next((r for r in ran if r["name"] == name), None)
    theirs = [r for r in ran if not r["name"].startswith("annealvi")]
    if ours is None or not theirs:
        return ""
    best = max(theirs, key=lambda r: sign * r["value"])
    return (
        f"\n{name}: {(ours['value'] / best['value']) ** sign:.3g} times as fast as {best['name']}, "
        f"the fastest peer of this run.\n"
    )


TITLES = {"ensemble": "less is faster", "particles": "more is faster"}


def figure(found, path):
    """Draws one point for each row on a logarithmic axis, those of this package in another colour."""
    parts = [p for p in TITLES if p in found]
    if not parts:
        return
    shown = {p: [r for r in found[p] if r["value"] is not None and ", after " not in r["name"]] for p in parts}
    height = 0.9 + 0.17 * max(len(rows) for rows in shown.values())
    with style.figure(style.TWO_COLUMNS, height, columns=len(parts), squeeze=False) as (drawing, grid):
        for axis, part in zip(grid[0], parts, strict=True):
            for r in shown[part]:
                own = r["name"].startswith("annealvi")
                axis.plot([r["value"]], [r["name"]], **style.points(0 if own else 1))
                place = {"xytext": (5, 0), "textcoords": "offset points", "va": "center", "fontsize": style.SMALL}
                axis.annotate(f"{r['value']:.2g}", (r["value"], r["name"]), **place)
            axis.set_xscale("log")
            axis.invert_yaxis()
            axis.margins(x=0.2)
            axis.grid(axis="y", color=style.BAND)
            axis.set_axisbelow(True)
            axis.tick_params(axis="y", labelsize=style.SMALL)
            axis.set_xlabel(f"{shown[part][0]['unit']} ({TITLES[part]})")
    style.save(drawing, path)


def section(part, rows):
    return f"## {part}\n\n{table(rows)}{verdict(part, rows)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: {', '.join(USUAL)})")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for the results (default: beside this script)"
    )
    parser.add_argument("--trajectories", type=int, default=4096, metavar="N", help="of the ensemble (default: 4096)")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: no such part; the parts are {', '.join(PARTS)}")
    found = {}
    for part in options.parts or USUAL:
        found[part] = PARTS[part](options)
        print(section(part, found[part]), flush=True)
    wrong = [
        r["name"]
        for rows in found.values()
        for r in rows
        if r["name"].startswith("annealvi, rtol 1e-7") and r["error"] > LARGEST_ERROR
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", "tests/benchmarks/run.py", *sys.argv[1:]])
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seed": 0,
        "machine": machine(),
        **found,
    }
    stem = "-".join(options.parts) or "cpu"
    (options.out / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    tables = "\n".join(section(part, rows) for part, rows in found.items())
    place = f"{record['date']}, {record['machine']['processor']}, {record['machine']['threads']} threads\n\n`{command}`"
    (options.out / f"{stem}.md").write_text(f"# Benchmarks\n\n{place}\n\n{tables}", encoding="utf-8")
    figure(found, options.out / f"{stem}.png")
    print(f"written to {options.out}")
    if wrong:
        sys.exit(f"errors above {LARGEST_ERROR:g}: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
