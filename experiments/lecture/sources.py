"""Data sets of the experiments, and the colour and symbol of each in all figures."""

from typing import Any

import numpy as np
from sklearn.datasets import make_classification

LOOKS = {
    "digits": ("#2b8cc4", "circle"),
    "clusters": ("#d55e00", "diamond"),
    "breast cancer": ("#009e73", "square"),
    "spirals": ("#aa44ff", "triangle-up"),
    "wine": ("#995533", "x"),
    "iris": ("#808080", "cross"),
}
"""The colour and the symbol of each data set."""


def data_sets(quick: bool, *names: str) -> dict[str, Any]:
    """Return the named data sets for `cv.Classifier`; small clusters alone if quick."""
    clusters = make_classification(
        n_samples=150 if quick else 1_500,
        n_features=20,
        n_informative=8,
        n_classes=6,
        n_clusters_per_class=2,
        flip_y=0.02,
        random_state=0,
    )
    if quick:
        return {"clusters": clusters}
    known = {
        "digits": "sklearn:digits",
        "clusters": clusters,
        "breast cancer": "sklearn:breast_cancer",
        "spirals": spirals(1_500, classes=5, noise=0.3),
    }
    return {name: known[name] for name in names}


def clouds(rows: int, classes: int, spread: float = 0.35, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return points in the plane: a round cloud for each class, with the centres on a circle."""
    random = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    angle = 2 * np.pi * y / classes
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) + spread * random.normal(size=(rows, 2)), y


def spirals(rows: int, classes: int, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return points in the plane: an arm of a spiral for each class."""
    random = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    radius = random.uniform(0.15, 1, rows)
    angle = 2 * np.pi * y / classes + 3.5 * radius + noise * random.normal(size=rows)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), y
