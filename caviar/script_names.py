"""Names of scripts and modules beside them that hide a package which caviar imports."""

import sys
from pathlib import Path

from caviar.errors import StudyError

PACKAGES = (
    "caviar",
    "cloudpickle",
    "numba",
    "numpy",
    "obstore",
    "optuna",
    "packaging",
    "pandas",
    "pathspec",
    "psutil",
    "pyarrow",
    "ray",
    "rich",
    "scipy",
    "sklearn",
    "threadpoolctl",
    "torch",
)
"""Packages that caviar imports, as pyproject.toml requires them."""


def check_names(script: Path) -> None:
    """Refuse a script that has the name of a package, or that lies beside a module of such a name.

    Python searches the script's folder first, so caviar would import the script instead of the package.

    Raises:
        StudyError: it has, or does.
    """
    for name in PACKAGES:
        file = script.with_name(f"{name}.py")
        if file.is_file():
            raise StudyError(f"{file} hides the package {name}, which caviar imports: rename the file")


def check_main() -> None:
    """Do the same for the script that Python was started with."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file and file.endswith(".py") and str(Path(file).parent) in sys.path:
        check_names(Path(file))
