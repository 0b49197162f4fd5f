"""Functional ANOVA: the share of the variance of quality that parameters explain (Hutter, Hoos & Leyton-Brown 2014).

    Frank Hutter, Holger Hoos, Kevin Leyton-Brown: An Efficient Approach for Assessing Hyperparameter Importance.
    ICML 2014.

A random forest predicts the quality of trials. Each tree divides the space into boxes with one prediction each, so its
mean over all parameters but one or two can be computed exactly. The variance of that mean, as a share of the variance
of the tree, is the importance of the one parameter, or of the pair.

`optuna.importance.FanovaImportanceEvaluator` comes to the same numbers for a forest of the same seed, which the tests
hold. It takes seconds for 500 trials and much more for thousands, has no pairs, and knows no reverse-log scale.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TREES = 64
"""Number of trees in the forest."""


def grow_forest(x_ND: Floats, y_N: Floats, seed: int) -> Any:
    """Return a forest that predicts y from x. It has the score of its predictions for trials that trees did not see.

    Args:
        x_ND: the positions of the parameters, between 0 and 1.
        y_N: the quality of the trials.
        seed: the seed of the forest.
    """
    from sklearn.ensemble import RandomForestRegressor  # sklearn takes a second to import

    return RandomForestRegressor(n_estimators=TREES, oob_score=True, random_state=seed).fit(x_ND, y_N)


class Boxes:
    """The leaves of one tree as boxes in the unit cube.

    Args:
        tree: a fitted tree of scikit-learn.
    """

    def __init__(self, tree: Any) -> None:
        left, right, feature, threshold = (
            tree.children_left,
            tree.children_right,
            tree.feature,
            tree.threshold,
        )
        low_LD = np.zeros((tree.node_count, tree.n_features))
        high_LD = np.ones_like(low_LD)
        nodes = np.zeros(1, dtype=np.int64)
        while len(nodes := nodes[left[nodes] >= 0]):
            axis, at = feature[nodes], threshold[nodes]
            for child in (left[nodes], right[nodes]):
                low_LD[child], high_LD[child] = low_LD[nodes], high_LD[nodes]
            high_LD[left[nodes], axis], low_LD[right[nodes], axis] = at, at
            nodes = np.concatenate([left[nodes], right[nodes]])
        leaves = left < 0
        self._low_LD, self._high_LD = low_LD[leaves], high_LD[leaves]
        self._sizes_LD = self._high_LD - self._low_LD
        volumes_L = self._sizes_LD.prod(axis=1)
        values_L = tree.value[leaves].reshape(-1)
        self._values_L = values_L - values_L @ volumes_L
        self._mass_L = self._values_L * volumes_L
        self.variance = float(self._mass_L @ self._values_L)
        """The variance of the predictions over the cube."""

    def effect(self, axes: tuple[int, ...]) -> float:
        """Return the variance that an axis explains alone, or that two axes explain beyond each of them."""
        if len(axes) == 1:
            return self._main_effect(*axes)
        return max(0.0, self._joint_effect(*axes) - sum(map(self._main_effect, axes)))

    def _main_effect(self, axis: int) -> float:
        """Return the variance of the mean prediction along one axis."""
        cuts = np.unique(np.concatenate([self._low_LD[:, axis], self._high_LD[:, axis]]))
        first = np.searchsorted(cuts, self._low_LD[:, axis])
        last = np.searchsorted(cuts, self._high_LD[:, axis])
        density_L = self._mass_L / self._sizes_LD[:, axis]
        steps = np.bincount(first, density_L, len(cuts)) - np.bincount(last, density_L, len(cuts))
        return float(np.cumsum(steps)[:-1] ** 2 @ np.diff(cuts))

    def _joint_effect(self, one: int, other: int) -> float:
        """Return the variance of the mean prediction over the plane of two axes."""
        axes = (one, other)
        cuts = [np.unique(np.concatenate([self._low_LD[:, a], self._high_LD[:, a]])) for a in axes]
        ends = [
            [np.searchsorted(c, bound[:, a]) for bound in (self._low_LD, self._high_LD)]
            for a, c in zip(axes, cuts, strict=True)
        ]
        shape = len(cuts[0]), len(cuts[1])
        density_L = self._mass_L / (self._sizes_LD[:, one] * self._sizes_LD[:, other])
        steps = np.zeros(shape[0] * shape[1])
        for row, row_sign in zip(ends[0], (1, -1), strict=True):
            for column, sign in zip(ends[1], (1, -1), strict=True):
                place = row * shape[1] + column
                steps += row_sign * sign * np.bincount(place, density_L, len(steps))
        mean = steps.reshape(shape).cumsum(axis=0).cumsum(axis=1)[:-1, :-1]
        return float(np.diff(cuts[0]) @ mean**2 @ np.diff(cuts[1]))


def shares(forest: Any, axes: Sequence[tuple[int, ...]]) -> list[tuple[tuple[int, ...], Floats]]:
    """Return shares of the variance by tree, (T,): of each axis alone, or of each pair beyond its two axes.

    Args:
        forest: a forest that `grow_forest` has returned.
        axes: the numbers of the parameters, or of the parameters of pairs.
    """
    trees = [boxes for tree in forest.estimators_ if (boxes := Boxes(tree.tree_)).variance > 0]
    return [(some, np.array([boxes.effect(some) / boxes.variance for boxes in trees])) for some in axes]
