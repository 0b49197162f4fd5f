"""The kernel of a notebook, such as Jupyter's, VS Code's or Colab's, if this process is one."""

import logging
import sys
import warnings
from typing import Any


def is_notebook() -> bool:
    """Return True in the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def quiet_notebook() -> None:
    """Keep Ray and tqdm from asking for ipywidgets when they are imported in a notebook: caviar needs none."""
    if is_notebook():
        logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", "IProgress not found")
