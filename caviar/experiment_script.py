"""Loading the study that an experiment script declares."""

import importlib.util
import sys
import traceback
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType

from caviar.errors import CaviarError, StudyError
from caviar.fingerprint import SCRIPT_MODULE
from caviar.script_names import check_names
from caviar.study import Study


def load_study(script: Path, name: str | None = None) -> Study:
    """Execute a script, but not as `__main__`, and return the study that it declares.

    Args:
        script: path of a Python file.
        name: name of the study, if the script declares several.

    Raises:
        StudyError: the file does not exist, fails, or declares no study of that name, or several.
    """
    if not script.is_file():
        what = "it is a folder" if script.is_dir() else "there is no such file"
        raise StudyError(f"{script}: {what}")
    check_names(script)
    module = _execute(script)
    found = {id(value): value for value in vars(module).values() if isinstance(value, Study)}
    studies = [study for study in found.values() if name is None or study.name == name]
    if not found:
        raise StudyError(f"{script} declares no study: add a line such as study = cv.Study(...)")
    names = ", ".join(study.name for study in found.values())
    if not studies:
        raise StudyError(f"{script} declares no study named {name}; it declares: {names}")
    if len(studies) > 1:
        raise StudyError(f"{script} declares several studies ({names}): choose one with --study")
    return studies[0]


def locate_error(error: BaseException, script: Path | None) -> str:
    """Return the line of the user's script that an error passed through, as a prefix for its message.

    Args:
        error: the error, with its traceback.
        script: path of the script; None if no script was involved.

    Returns:
        A prefix such as "digits.py, line 7: "; empty if the error is from elsewhere or its message names the script.
    """
    if script is None or (isinstance(error.__cause__, Exception) and str(error).startswith(str(script))):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename) in (script, script.resolve())]
    return f"{script}, line {lines[-1]}: " if lines else ""


def _package(script: Path) -> tuple[str, Path]:
    """Return the package that a script is a module of, empty if none, and the folder that the package lies in."""
    names: list[str] = []
    folder = script.resolve().parent
    while (folder / "__init__.py").is_file():
        names.append(folder.name)
        folder = folder.parent
    return ".".join(reversed(names)), folder


def _execute(script: Path) -> ModuleType:
    """Execute a script as the module `SCRIPT_MODULE`, which can import from the package that it belongs to."""
    package, folder = _package(script)
    spec = importlib.util.spec_from_file_location(f"{package}.{script.stem}".lstrip("."), script)
    if spec is None or not isinstance(spec.loader, SourceLoader):
        raise StudyError(f"{script} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    module.__name__ = SCRIPT_MODULE
    sys.modules[SCRIPT_MODULE] = module
    vars(module)["__loading__"] = True  # Study.run refuses to run meanwhile
    sys.path[:0] = list(dict.fromkeys([str(script.resolve().parent), str(folder)]))
    try:
        exec(spec.loader.source_to_code(script.read_bytes(), str(script)), vars(module))
    except CaviarError:
        raise
    except SystemExit as error:
        raise StudyError(
            f"{script} exited with code {error.code} while it was loaded: "
            'put code that exits under if __name__ == "__main__":'
        ) from error
    except Exception as error:
        place = locate_error(error, script) or f"{script}: "
        raise StudyError(f"{place}the script failed: {type(error).__name__}: {error}") from error
    finally:
        vars(module)["__loading__"] = False
    return module
