"""The architecture of the code.

Layers import in one direction, the particle simulation knows no derived equation, and the folders are the agreed ones.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from places import ROOT

from annealvi.own_packages import ForeignPackage, require_own_packages

STANDARD = set(sys.stdlib_module_names)
ALLOWED = {
    "derive": {"derive", "sympy", "mpmath"},
    "kernels": {"kernels", "derive", "sympy", "numpy", "scipy", "numba"},
    "annealvi": {
        *(
            "annealvi",
            "kernels",
            "derive",
            "sympy",
            "numpy",
            "scipy",
            "numba",
            "matplotlib",
            "cycler",
            "rich",
            "xarray",
        ),
        *("h5netcdf", "llvmlite"),
    },
}
OF_FLOWS = {"jax", "equinox", "optax"}
"""An optional extra. Only modules that train flows, or make a schedule for other people's training, may import it."""
EXTRAS = {"betas.py": {"jax"}, "on_dask.py": {"dask", "distributed"}}
TRAINING = ("couplings", "target", "diagnostics", "tempering", "training", "checkpoint")
ROOMS = {
    "derive": ("problem", "objects", "rules", "dynamics", "asymptotics", "checks", "writing"),
    "kernels": ("lower", "generate", "averages", "integrate", "particles", "machine"),
    "annealvi": (
        "cli",
        "session",
        "runs",
        "comparison",
        "annealing",
        "verification",
        "collapse",
        "fixed_points",
        "realnvp",
        "sweeps",
        "show",
        "paper",
    ),
}
LOOSE = {
    "derive": {"__init__"},
    "kernels": {"__init__"},
    "annealvi": {"__init__", "__main__", "own_packages", "components"},
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.quick
@pytest.mark.parametrize("package", ALLOWED)
def test_each_package_imports_only_the_layers_below_it(package):
    for path in (ROOT / package).rglob("*.py"):
        extra = OF_FLOWS if path.parent.name == "realnvp" else EXTRAS.get(path.name, set())
        stray = {name.split(".")[0] for name in imported(path)} - ALLOWED[package] - STANDARD - extra
        assert not stray, f"{path.relative_to(ROOT)} imports {sorted(stray)}"


@pytest.mark.quick
@pytest.mark.parametrize("package", ROOMS)
def test_every_module_is_in_a_room(package):
    assert {path.parent.name for path in (ROOT / package).glob("*/__init__.py")} == set(ROOMS[package])
    assert {path.stem for path in (ROOT / package).glob("*.py")} == LOOSE[package]


UPWARD = {
    "derive": {},
    "kernels": {},
    "annealvi": {
        "runs/trajectories.py -> collapse": "a simulation records the mode that each mean ends nearest to",
        "session/plain_functions.py -> runs": "rate_function asks the runs for what tolerance they accept",
        "session/resolution.py -> sweeps": "the warnings of a map are made at its points",
        "session/session.py -> verification": "a session shows itself in a notebook by the report's table",
        "show/derivation_page.py -> verification": "the page shows each step with its check",
        "show/path_figures.py -> verification": "a figure shows what the comparison with particles found",
    },
}
"""The imports that run against the order of the rooms, each with the reason why the module needs it."""


def rooms_imported(package: str) -> dict[str, dict[str, set[str]]]:
    """For each room, the other rooms of the package that it imports, with the modules that import them."""
    found: dict[str, dict[str, set[str]]] = {room: {} for room in ROOMS[package]}
    for room in ROOMS[package]:
        for path in (ROOT / package / room).rglob("*.py"):
            own = path.relative_to(ROOT / package).as_posix()
            for name in imported(path):
                other = ([*name.split("."), ""])[1] if name.split(".")[0] == package else ""
                if other in ROOMS[package] and other != room:
                    found[room].setdefault(other, set()).add(own)
    return found


def circle_of(edges: dict[str, set[str]]) -> list[str]:
    """The rooms that cannot be put in order because each imports another of them; empty where an order exists."""
    left = {room: set(others) for room, others in edges.items()}
    while free := [room for room, others in left.items() if not others & set(left)]:
        for room in free:
            del left[room]
    return sorted(left)


@pytest.mark.parametrize("package", ROOMS)
def test_the_rooms_import_each_other_without_circles(package):
    found = rooms_imported(package)
    upward = {f"{module} -> {other}" for room in found for other in found[room] for module in found[room][other]} & set(
        UPWARD[package]
    )
    assert upward == set(UPWARD[package]), "an exception that no import needs"
    edges = {
        room: {other for other, modules in others.items() if any(f"{m} -> {other}" not in upward for m in modules)}
        for room, others in found.items()
    }
    assert circle_of(edges) == []


def test_a_circle_of_rooms_is_found():
    assert circle_of({"first": {"second"}, "second": {"third"}, "third": {"first"}, "alone": set()}) == [
        "first",
        "second",
        "third",
    ]
    assert circle_of({"first": {"second"}, "second": {"third"}, "third": set()}) == []


@pytest.mark.quick
@pytest.mark.parametrize("path", sorted((ROOT / "kernels" / "particles").rglob("*.py")), ids=lambda path: path.stem)
def test_the_particles_import_nothing_of_the_derivation(path):
    rooms = {
        ".".join(module.split(".")[:2]) for module in imported(path) if module.split(".")[0] in ("derive", "kernels")
    }
    assert rooms <= {"kernels.particles", "kernels.machine"}


def test_the_reference_for_averages_shares_no_code_with_the_kernels():
    assert not {
        module
        for module in imported(ROOT / "kernels" / "averages" / "lattice_reference.py")
        if module.split(".")[0] == "kernels"
    }


def test_no_independent_route_reaches_the_derivation_through_another_module():
    imports = "import sys, kernels.particles.simulation, kernels.particles.kl_grid"
    code = f"{imports}; print([m for m in sys.modules if m.split('.')[0] in ('derive', 'sympy')])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


@pytest.mark.parametrize("name", TRAINING)
def test_the_training_of_flows_knows_no_theory_of_mixtures(name):
    known = (
        "annealvi.realnvp",
        "annealvi.annealing.betas",
        "annealvi.show.output",
        "derive.problem.arguments",
        "derive.problem.specification",
        "derive.problem.schedules",
        *OF_FLOWS,
        *STANDARD,
        "numpy",
    )
    stray = {
        m
        for m in imported(ROOT / "annealvi" / "realnvp" / f"{name}.py")
        if not any(m == k or m.startswith(f"{k}.") for k in known)
    }
    assert not stray


def test_the_core_needs_none_of_the_extra():
    code = (
        "import sys, contextlib, io\n"
        "for name in ('jax', 'equinox', 'optax', 'distributed', 'dask'): sys.modules[name] = None\n"
        "import annealvi\n"
        "from annealvi.cli.program import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): status = main(['rhs', '--help'])\n"
        "print(status, annealvi.beta_schedule('hold', 9.0, 100)(0), annealvi.recommend.__name__, "
        "annealvi.AdaAnn(0.1, 4.0).update([0, 1]))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found == ["0", str(1 / 9), "recommend", str(0.25 + 0.1 / 0.5**0.5)]


def test_the_folders_are_the_agreed_ones():
    for folder in ("derive", "kernels", "annealvi", "tests", "notebooks", "paper"):
        assert (ROOT / folder).is_dir()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"annealvi": "annealvi.cli:main"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["annealvi", "derive", "kernels"]


def test_nothing_below_the_command_line_imports_it():
    for path in (ROOT / "annealvi").rglob("*.py"):
        if path.parent.name != "commands" and path.parent.name != "cli" and path.name != "__main__.py":
            assert not {name for name in imported(path) if name.startswith("annealvi.cli")}, path


def test_help_comes_without_heavy_imports():
    code = (
        "import sys, contextlib, io\n"
        "from annealvi.cli.program import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['--help'])\n"
        "libraries = ('sympy', 'numpy', 'numba', 'matplotlib', 'scipy', 'rich', 'derive', 'kernels')\n"
        "print([m for m in libraries if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


SHADOWS = {
    "derive.py": ("", "imported in place of annealvi's own; rename it, or work in another folder"),
    "derive/__init__.py": ("", "imported in place of annealvi's own; rename it, or work in another folder"),
    "kernels/__init__.py": ("PYTHONPATH", "out of PYTHONPATH"),
    "kernels.py": ("site-packages", "another distribution's package"),
}


@pytest.mark.parametrize("name", SHADOWS)
@pytest.mark.parametrize("program", ["-m annealvi", "import"])
def test_a_file_in_the_place_of_one_of_our_packages_is_named_with_what_to_do(name, program, tmp_path):
    """The message names the file, whether the command or a script's import meets it.

    Python finds the file first in the working folder, by PYTHONPATH, or in site-packages.
    """
    way, said = SHADOWS[name]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("")
    first = {
        "": "",
        "PYTHONPATH": "",
        "site-packages": f"import site; site.getsitepackages = lambda: [{str(tmp_path)!r}]; ",
    }[way]
    run = (
        "import runpy; sys.argv = ['annealvi', 'derive']; runpy.run_module('annealvi', "
        "run_name='__main__', alter_sys=True)"
    )
    code = f"import sys; {first}{run if program == '-m annealvi' else 'import annealvi; annealvi.load_problem'}"
    # Python finds an installed package after the working folder; the same holds for this checkout on PYTHONPATH.
    places = [str(ROOT)] if way != "PYTHONPATH" else [str(tmp_path), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    folder = tmp_path if way != "PYTHONPATH" else ROOT.anchor
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )
    *_, line = done.stderr.splitlines()
    assert done.returncode == (2 if program == "-m annealvi" else 1)
    assert str(tmp_path / name) in line
    assert said in line
    assert ("distribution" in line) == ("uninstall" in line) == (way == "site-packages")
    assert program == "import" or done.stderr.count("\n") == 1


def test_a_package_of_the_name_that_has_overwritten_ours_is_called_another_distributions(monkeypatch):
    import kernels

    require_own_packages.cache_clear()
    require_own_packages()
    require_own_packages.cache_clear()
    monkeypatch.delattr(kernels, "IS_ANNEALVI")
    with pytest.raises(ForeignPackage, match=r"another distribution's package is imported from .*uninstall it"):
        require_own_packages()
    require_own_packages.cache_clear()


def test_no_public_name_is_hidden_by_a_module_of_the_same_name():
    code = (
        "import annealvi, types; names = [n for n in annealvi.__all__ if n not in ('__version__', 'style')]; "
        "[getattr(annealvi, n) for n in names]; "
        "print([n for n in names if isinstance(getattr(annealvi, n), types.ModuleType)])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout.strip()
        == "[]"
    )
