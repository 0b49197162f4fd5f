"""Readers for the files of cluster/ and docker/, and for the schemas that they must satisfy."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CLUSTER, DOCKER = ROOT / "cluster", ROOT / "docker"
SCHEMAS = Path(__file__).parent / "schemas"


def documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text()))


def schema(name: str) -> Any:
    """Return a schema."""
    return json.loads(gzip.decompress((SCHEMAS / f"{name}.json.gz").read_bytes()))


def pins() -> dict[str, str]:
    """Return the versions in constraints.txt; that of Python is in a comment."""
    text = (ROOT / "constraints.txt").read_text()
    python = re.search(r"on Python (\d+\.\d+\.\d+)", text)
    assert python is not None
    return {"python": python[1], **dict(re.findall(r"^([\w-]+)==(\S+)$", text, re.MULTILINE))}


def values(tree: Any) -> Iterator[Any]:
    """Yield a document and all values in it, at any depth."""
    yield tree
    branches = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for branch in branches:
        yield from values(branch)
