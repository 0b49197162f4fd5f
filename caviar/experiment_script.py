"""Finding the study that an experiment script declares."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from caviar.errors import CaviarError, StudyError
from caviar.fingerprint import SCRIPT_MODULE
from caviar.study import Study


def load_study(script: Path, name: str | None = None) -> "Study":
    """The study that a script declares.

    Args:
        script: a Python file; it is executed, but not as `__main__`.
        name: which study, where there are several.

    Raises:
        StudyError: no such file, no study in it, several, or an error in the script.
    """
    if not script.is_file():
        raise StudyError(f"{script}: there is no such file")
    module = _execute(script)
    found = {id(value): value for value in vars(module).values() if isinstance(value, Study)}
    studies = [study for study in found.values() if name is None or study.name == name]
    if not found:
        raise StudyError(f"{script} declares no study: it needs a line such as study = cv.Study(...)")
    names = ", ".join(study.name for study in found.values())
    if not studies:
        raise StudyError(f"{script} declares no study named {name}; there is {names}")
    if len(studies) > 1:
        raise StudyError(f"{script} declares several studies ({names}): choose one with --study")
    return studies[0]


def _execute(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT_MODULE, script)
    if spec is None or spec.loader is None:
        raise StudyError(f"{script} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[SCRIPT_MODULE] = module
    vars(module)["__loading__"] = True
    sys.path.insert(0, str(script.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except CaviarError:
        raise
    except SystemExit as error:
        raise StudyError(
            f"{script} ended by itself (exit {error.code}) before its study could be found"
        ) from error
    except Exception as error:
        line = place_in_script(error, script) or f"{script}: "
        raise StudyError(f"{line}the script fails: {type(error).__name__}: {error}") from error
    finally:
        vars(module)["__loading__"] = False
    return module


def place_in_script(error: BaseException, script: Path | None) -> str:
    """Where in the user's script an error came out, as the head of a sentence."""
    if script is None or (isinstance(error.__cause__, Exception) and str(error).startswith(str(script))):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename) == script or Path(f.filename) == script.resolve()]
    return f"{script}, line {lines[-1]}: " if lines else ""
