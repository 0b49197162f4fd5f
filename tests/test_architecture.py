"""The house: imports run one way, heavy libraries stay behind their borders, public names are what they say."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import caviar

PACKAGE = Path(caviar.__file__).parent

LAYERS = [
    {"errors", "control_chars"},
    {"trial", "fingerprint"},
    {"space", "columns", "resources"},
    {"rounds", "retries", "storage", "data"},
    {"engine"},
    {"objective"},
    {"study"},
    {"search", "training"},
    {"records"},
    {"driver", "analysis"},
    {"backends", "reporting"},
    {"runner"},
    {"experiment_script", "submission"},
    {"cli", "__main__"},
]
"""From the ground up: a room may import from its own floor and from those below."""

COMPILED = {f"training/native/{name}.py" for name in ("kernel_cache", "arrays", "matmul", "shuffle", "simd")}

BORDERS = {
    "ray": {
        "backends/ray/session.py",
        "backends/ray/join.py",
        "backends/ray/autoscaler.py",
        "backends/ray/actor.py",
        "backends/ray/private_api.py",
        "submission/client.py",
    },
    "optuna": {"search/sampling.py"},
    "numba": COMPILED,
    "llvmlite": COMPILED,
    "cloudpickle": {"backends/ray/objective_pickle.py", "training/function/trial_context.py"},
    "torch": {"training/reference.py", "training/network_file.py"},
}
"""The only files that may import a heavy library."""

DOORS = {
    ("study.py", "runner"),
    ("study.py", "reporting"),
    ("study.py", "records"),
    ("study.py", "training"),
    ("driver/loop.py", "backends"),
    ("driver/backend.py", "backends"),
}
"""`Study.run` and `Study.resume` lead upward, inside the functions; and study.py names types of upper floors."""


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[tuple[ast.stmt, str]]:
    found: list[tuple[ast.stmt, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.append((node, node.module or ""))
    return found


def floor(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    room = name.split("/")[0].removesuffix(".py")
    if room == "__init__":
        return
    for node, module in imports(path):
        parts = module.split(".")
        if parts[0] != "caviar" or len(parts) == 1 or (name, parts[1]) in DOORS:
            continue
        assert floor(parts[1]) <= floor(room), (
            f"{name}, line {node.lineno}: {room} imports {module}, from above"
        )


@pytest.mark.parametrize("library", sorted(BORDERS))
def test_heavy_libraries_stay_behind_their_borders(library: str) -> None:
    importers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(module.split(".")[0] == library for _, module in imports(path))
    }
    assert importers == BORDERS[library]


def test_only_a_disk_touches_the_disk_and_only_a_store_the_store() -> None:
    signs, touching = ("fcntl", "shutil", "os.replace", "fsync", "pyarrow import fs"), {}
    for path in [*(PACKAGE / "records").glob("*.py"), *(PACKAGE / "storage").glob("*.py")]:
        source = path.read_text()
        touching[path.name] = {sign for sign in signs if sign in source}
    assert {name: words for name, words in touching.items() if words} == {
        "atomic_dir.py": {"fcntl", "shutil", "os.replace"},
        "local.py": {"shutil", "os.replace", "fsync"},
        "object_store.py": {"pyarrow import fs"},
        "uri.py": {"pyarrow import fs"},
    }


@pytest.mark.parametrize(
    "statement", ["import caviar, caviar.cli.main", "import caviar; caviar.Classifier, caviar.load"]
)
def test_importing_caviar_loads_no_heavy_library(statement: str) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"ray", "optuna", "torch", "numba"} & set(loaded)


def test_help_loads_no_more_than_the_standard_library() -> None:
    code = (
        "import sys\nfrom caviar.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"numpy", "pandas", "rich", "sklearn"} & set(loaded)


def test_every_public_name_can_be_had() -> None:
    for name in dir(caviar):
        assert getattr(caviar, name) is not None


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tuner'"):
        caviar.Tuner  # noqa: B018


def test_no_file_holds_more_than_one_idea() -> None:
    long = {str(p.relative_to(PACKAGE)): n for p in modules() if (n := len(p.read_text().splitlines())) > 420}
    assert not long
