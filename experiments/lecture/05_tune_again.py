"""Intuitions go stale as data change: tune again from time to time. Some carry over, some do not.

A study is tuned on old data. Then the data shift in one of three ways: there are many more rows, many labels become
wrong, or the features are blurred. On the new data, the old best is trained afresh, and so is the best of a search of
the same size on the new data. The loss on the test split counts, as the mean of fresh trainings. Each repetition draws
the rows anew. `caviar retune` answers the same question for a run of yours.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, main
from plotly.subplots import make_subplots
from scipy.ndimage import gaussian_filter
from searches import COLORS, classifier, fresh_loss, ratio, ratio_text, search
from sklearn.datasets import load_digits

import caviar as cv
from caviar.reporting.plots import theme

SPACE = cv.Space(
    learning_rate=cv.log(1e-4, 1.0),
    batch_size=cv.integer(16, 256, scale="log"),
    units=cv.integer(8, 128, scale="log"),
    layers=cv.integer(0, 3),
    l2=cv.log(1e-5, 1.0),
    dropout=cv.linear(0.0, 0.5),
)
SHOWN = ("learning_rate", "batch_size", "units", "l2")
Data = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
SHIFTS = ("more rows", "wrong labels", "blurred")


def old_and_new(shift: str, seed: int, rows: int) -> tuple[Data, Data]:
    """Return the digits before and after a shift."""
    random = np.random.default_rng(seed)
    x, y = load_digits(return_X_y=True)
    order = random.permutation(len(y))[:rows]
    x, y = x[order], y[order]
    if shift == "more rows":
        return (x[: rows // 8], y[: rows // 8]), (x, y)
    if shift == "wrong labels":
        wrong = random.random(rows) < 0.4
        return (x, y), (x, np.where(wrong, random.integers(0, 10, rows), y))
    blurred = np.stack([gaussian_filter(image, 1.5) for image in x.reshape(-1, 8, 8)]).reshape(rows, 64)
    return (x, y), (blurred, y)


def measure_shifts(quick: bool) -> pd.DataFrame:
    """Return a row for each shift and repetition: the test losses on the new data, and the best params of each."""
    repetitions, trials, epochs, rows = (2, 10, 1, 1_200) if quick else (6, 40, 10, 1_600)
    rounds = cv.coarse_to_fine(trials=trials, epochs=epochs)
    found: list[dict[str, Any]] = []
    for shift in SHIFTS[: 1 if quick else None]:
        for seed in range(repetitions):
            old, new = (classifier(data, split_seed=seed) for data in old_and_new(shift, seed, rows))
            before, after = (search(objective, SPACE, rounds, seed).best for objective in (old, new))
            assert before is not None
            assert after is not None
            row: dict[str, Any] = {"shift": shift, "seed": seed}
            for way, best in (("old best", before), ("tuned again", after)):
                row[way] = fresh_loss(new, best.params, epochs)
                row |= {f"{way}: {name}": best.params.get(name, np.nan) for name in SHOWN}
            found.append(row)
    return pd.DataFrame(found)


def measure(quick: bool) -> Finding:
    """Compare the old best with a new one on shifted data."""
    found = measure_shifts(quick)
    ratios, table = {}, []
    for shift, part in found.groupby("shift", sort=False):
        ratios[shift] = ratio(part["tuned again"], part["old best"])
        row: dict[str, Any] = {"shift": shift}
        for way in ("old best", "tuned again"):
            row[f"test loss, {way}"] = f"{part[way].mean():.3f}"
        row["tuned again / old best"] = ratio_text(ratios[shift])
        for name in SHOWN:
            old, new = (_mean(part[f"{way}: {name}"]) for way in ("old best", "tuned again"))
            row[name] = f"{old:.2g} -> {new:.2g}"
        table.append(row)
    better = [shift for shift, (_, _, high) in ratios.items() if high < 1]
    verdict: Verdict = "holds weakly" if better else "does not hold here"
    if len(better) > len(ratios) / 2:
        verdict = "holds"
    return Finding(
        claim="Intuitions go stale as data, models or machines change: tune again from time to time. Some carry over.",
        verdict=verdict,
        found="Test loss on the new data after tuning again, as a multiple of that of the old best: "
        + ", ".join(f"{ratio_text(found)} after {shift}" for shift, found in ratios.items())
        + f" (95 % intervals over {len(found) // len(ratios)} repetitions). Tuning again surely pays after "
        + (f"{', '.join(map(str, better))}" if better else "none of the shifts")
        + "; where the interval holds 1, the old best carried over.",
        table=pd.DataFrame(table),
        figure=draw(found, ratios),
    )


def _mean(values: "pd.Series[float]") -> float:
    """Return the geometric mean."""
    return float(np.exp(np.log(values).mean()))


def draw(found: pd.DataFrame, ratios: dict[Any, Any]) -> go.Figure:
    """Draw the ratios of the test losses, and where the old and the new best lie."""
    shifts = list(ratios)
    figure = make_subplots(
        1, 2, subplot_titles=["Test loss: tuned again / old best", "Best learning rate and L2"], horizontal_spacing=0.13
    )  # fmt: skip
    for place, shift in enumerate(shifts):
        part, (middle, low, high), color = found[found["shift"] == shift], ratios[shift], COLORS[place]
        figure.add_scatter(
            x=part["tuned again"] / part["old best"], y=[place] * len(part), mode="markers", showlegend=False,
            marker={"size": 6, "color": color, "opacity": 0.4}, row=1, col=1,
        )  # fmt: skip
        figure.add_scatter(
            x=[middle], y=[place], mode="markers", showlegend=False, marker={"size": 10, "color": color},
            error_x={"type": "data", "symmetric": False, "array": [high - middle], "arrayminus": [middle - low]},
            row=1, col=1,
        )  # fmt: skip
        for way, symbol in (("old best", "circle-open"), ("tuned again", "circle")):
            figure.add_scatter(
                x=part[f"{way}: learning_rate"], y=part[f"{way}: l2"], mode="markers", showlegend=False,
                marker={"size": 6, "color": color, "symbol": symbol, "opacity": 0.4}, row=1, col=2,
            )  # fmt: skip
        rates, strengths = (
            [_mean(part[f"{way}: {name}"]) for way in ("old best", "tuned again")]
            for name in ("learning_rate", "l2")
        )
        figure.add_scatter(
            x=rates, y=strengths, mode="lines+markers", name=shift, line={"color": color, "width": 2.5},
            marker={"size": 12, "symbol": ["circle-open", "circle"], "color": color}, row=1, col=2,
        )  # fmt: skip
    figure.add_vline(x=1, line={"dash": "dot", "color": "#808080"}, row=1, col=1)
    figure.update_yaxes(
        tickvals=list(range(len(shifts))), ticktext=shifts, range=[len(shifts) - 0.5, -0.5], row=1, col=1
    )
    figure.update_xaxes(type="log", title="below 1: tuning again pays", row=1, col=1)
    figure.update_xaxes(type="log", title="learning rate", exponentformat="power", dtick=1, row=1, col=2)
    figure.update_yaxes(type="log", title="L2", exponentformat="power", dtick=1, row=1, col=2)
    figure.update_layout(height=460, margin={"b": 110})
    notes = [
        "Small dots are repetitions, large ones geometric means (left with 95 % intervals).",
        "Right: hollow before the shift, filled after it.",
    ]
    return theme.finish(figure, "The old best on new data, and a new one", notes, head=20)


if __name__ == "__main__":
    main(measure)
