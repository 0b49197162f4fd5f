"""Short searches that several experiments of the lecture share."""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from gallery import mean_and_half

import caviar as cv
from caviar.engine import Part, PartDone
from caviar.records.frames import Run
from caviar.trial import Trial, derive_seed

_FOLDER = tempfile.TemporaryDirectory(prefix="caviar-lecture-")
MAX_LOSS = 10.0
"""Loss of a training that diverged."""


def classifier(data: Any, split_seed: int = 0, fixed: Mapping[str, Any] | None = None) -> cv.Classifier:
    """Return an objective that is ranked by the dev loss, which tells close configurations apart."""
    return cv.Classifier(data=data, metric="dev_loss", split_seed=split_seed, fixed=fixed or {})


def search(
    objective: cv.Classifier, space: cv.Space, rounds: Sequence[Any], seed: int, **declared: Any
) -> Run:
    """Run a search in this process, as `run_here`."""
    study = cv.Study(name="lecture", objective=objective, space=space, rounds=rounds, seed=seed, **declared)
    return run_here(study)


def run_here(study: cv.Study) -> Run:
    """Run a study in this process, without progress, in a folder that is removed when the process ends."""
    runs = tempfile.mkdtemp(dir=_FOLDER.name)
    return study.run(address="here", runs=runs, progress=False)


def ratio(these: npt.ArrayLike, those: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the geometric mean of paired ratios of losses, and its 95 % interval.

    Args:
        these: losses, one a repetition.
        those: losses of the same repetitions in another way.
    """
    mean, half = mean_and_half(list(np.log(these) - np.log(those)))
    return float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half))


def ratio_text(found: tuple[float, float, float]) -> str:
    """Return a ratio with its interval as text."""
    return "{:.2f} ({:.2f} .. {:.2f})".format(*found)


def add_ratios(
    figure: go.Figure,
    y: float,
    ratios: "pd.Series[float]",
    look: tuple[str, str],
    column: int,
    name: str = "",
) -> None:
    """Draw ratios of repetitions as faint marks, and their geometric mean with its 95 % interval.

    Args:
        figure: the figure.
        y: place of the row in its panel.
        ratios: ratios of losses, one a repetition.
        look: colour and symbol.
        column: column of the panel.
        name: entry in the legend; none if empty.
    """
    color, symbol = look
    middle, low, high = ratio(ratios, np.ones(len(ratios)))
    figure.add_scatter(
        x=ratios, y=[y] * len(ratios), mode="markers", showlegend=False,
        marker={"size": 6, "color": color, "symbol": symbol, "opacity": 0.35}, row=1, col=column,
    )  # fmt: skip
    figure.add_scatter(
        x=[middle], y=[y], mode="markers", name=name, showlegend=bool(name),
        marker={"size": 10, "color": color, "symbol": symbol},
        error_x={"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low]},
        row=1, col=column,
    )  # fmt: skip


def label_ratios(
    figure: go.Figure, title: str, rows: Sequence[str], ticks: Sequence[float], column: int
) -> None:
    """Give a panel of ratios its axes, and a line at 1.

    Args:
        figure: the figure.
        title: what a ratio below or above 1 means.
        rows: names of the rows, from the top.
        ticks: ratios with a label.
        column: column of the panel.
    """
    figure.add_vline(x=1, line={"dash": "dot", "color": "#808080"}, row=1, col=column)
    figure.update_xaxes(type="log", title=title, tickvals=ticks, row=1, col=column)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=list(rows), range=[len(rows) - 0.5, -0.5], side="right",
        row=1, col=column,
    )  # fmt: skip


def fresh_loss(objective: cv.Classifier, params: Mapping[str, Any], epochs: int, trainings: int = 5) -> float:
    """Return the mean loss on the test split of a configuration that is trained afresh several times."""
    dataset = objective.load()
    engine = objective.make_engine(dataset.without_test(), "cpu")
    losses = []
    for seed in range(trainings):
        trial = Trial(number=0, round=1, params=params, epochs=epochs, seed=derive_seed("fresh", seed))
        end = engine.train_openly(Part(trial=trial, keep_checkpoint=True))[-1]
        assert isinstance(end, PartDone)
        if end.checkpoint is None:
            losses.append(MAX_LOSS)
        else:
            losses.append(min(engine.score_winner(trial, end.checkpoint, dataset.test)["loss"], MAX_LOSS))
    return float(np.mean(losses))
