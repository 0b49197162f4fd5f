"""The layout: imports run one way, heavy libraries stay behind their borders."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest

import caviar
from caviar.script_names import PACKAGES

PACKAGE = Path(caviar.__file__).parent

LAYERS = [
    {"errors", "control_chars", "notebook_kernel", "plurals"},
    {"durations", "trial", "fingerprint", "script_names", "validation", "optional_packages"},
    {"constraints", "resources", "starting_point"},
    {"space"},
    {"columns", "space_draws", "rounds", "retries", "storage", "data"},
    {"engine", "frame_columns"},
    {"objective"},
    {"study"},
    {"search", "training"},
    {"records"},
    {"exports"},
    {"analysis"},
    {"driver"},
    {"backends"},
    {"planning"},
    {"reporting"},
    {"operations", "panda"},
    {"experiment_script"},
    {"submission"},
    {"cli"},
    {"__main__"},
]
"""Packages and files from the bottom up: each may import from lower layers alone."""

COMPILED = {
    f"training/native/{name}.py" for name in ("kernel_cache", "arrays", "denormals", "matmul", "simd")
}

BORDERS = {
    "ray": {
        "backends/ray/session.py",
        "backends/ray/join.py",
        "backends/ray/autoscaler.py",
        "backends/ray/actor.py",
        "backends/ray/private_api.py",
        "submission/client.py",
    },
    "optuna": {"search/sampling.py"}
    | {f"exports/optuna_{name}.py" for name in ("trials", "storage", "study")}
    | {"exports/dashboard.py"},
    "optuna_dashboard": {"exports/dashboard.py"},
    "mlflow": {"exports/mlflow_runs.py"},
    "tensorboard": {"exports/tensorboard_events.py"},
    "numba": COMPILED | {"training/native/jit.py"},
    "llvmlite": COMPILED,
    "textual": {"panda/screen.py"},
    "plotly": {"reporting/plots/*.py", "reporting/report/*.py"},
    "cloudpickle": {"training/function/pickling.py"},
    "torch": {
        "training/reference.py",
        "training/batch_statistics.py",
        "training/fused/*.py",
        "training/module/*.py",
    },
    "triton": {"training/fused/kernels.py"},
}
"""Patterns of the only files that may import a heavy library."""

DELEGATES = {
    ("study", "operations"),
    ("study", "records"),
    ("records", "analysis"),
    ("records", "exports"),
    ("records", "reporting"),
}
"""The ways up: `Study.run`, `resume` and `try_one` call what trains, and are annotated with what it returns; methods of
`Run` call what exports, analyses and draws it."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(("caviar", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


@cache
def imports(path: Path) -> list[str]:
    """Return the modules that a file imports, also inside functions and for type checking."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: imports are absolute"
            assert node.module
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            files = [name for name in names if (PACKAGE.parent / f"{name.replace('.', '/')}.py").exists()]
            yield from files or [node.module]


def room(module: str) -> str:
    """Return the package or file directly below `caviar` that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


def layer(name: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if name in rooms)


def own_imports(path: Path) -> list[str]:
    """Return the modules of caviar that a file imports, without the one way up."""
    here = room(module_name(path))
    found = [name for name in imports(path) if name.startswith("caviar.")]
    return [name for name in found if (here, room(name)) not in DELEGATES]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    here = room(module_name(path))
    for name in own_imports(path) if here else ():
        assert room(name) == here or layer(room(name)) < layer(here), f"{here} imports {name}"


def test_no_files_import_one_another_in_a_circle() -> None:
    inner = [path for path in modules() if path != PACKAGE / "__init__.py"]
    tuple(TopologicalSorter({module_name(path): own_imports(path) for path in inner}).static_order())


@pytest.mark.parametrize("library", sorted(BORDERS))
def test_heavy_libraries_stay_behind_their_borders(library: str) -> None:
    importers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(name.split(".")[0] == library for name in imports(path))
    }
    border = BORDERS[library]
    assert {path for path in importers if not any(fnmatch(path, allowed) for allowed in border)} == set()
    assert {allowed for allowed in border if not any(fnmatch(path, allowed) for path in importers)} == set()


def test_only_storage_touches_disks_and_stores() -> None:
    signs, touching = ("fcntl", "shutil", "os.replace", "fsync", "obstore.store import"), {}
    for path in [*(PACKAGE / "records").glob("*.py"), *(PACKAGE / "storage").glob("*.py")]:
        source = path.read_text()
        touching[path.name] = {sign for sign in signs if sign in source}
    assert {name: words for name, words in touching.items() if words} == {
        "local.py": {"fcntl", "shutil", "os.replace", "fsync"},
        "user_cache.py": {"fcntl"},
        "object_store.py": {"obstore.store import"},
    }


@pytest.mark.parametrize(
    "statement", ["import caviar, caviar.cli.main", "import caviar; caviar.Classifier, caviar.load"]
)
def test_importing_caviar_loads_no_heavy_library(statement: str) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"ray", "optuna", "torch", "numba", "mlflow", "tensorboard", "optuna_dashboard"}
    assert not heavy & set(loaded)


def test_workers_are_asked_for_before_pandas_is_loaded() -> None:
    code = "import sys, caviar.operations.run, caviar.backends.ray.backend; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"pandas", "pyarrow", "optuna", "scipy"} & set(loaded.split())


def test_help_loads_no_more_than_the_standard_library() -> None:
    code = (
        "import sys\nfrom caviar.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "pandas", "rich", "sklearn"} & set(loaded)


def test_names_of_all_required_packages_are_kept_from_scripts() -> None:
    required = {
        re.split(r"\W", line)[0] for line in metadata.requires("caviar") or () if "extra ==" not in line
    }
    required = required - {"scikit"} | {"sklearn", "caviar"}
    assert set(PACKAGES) == required
