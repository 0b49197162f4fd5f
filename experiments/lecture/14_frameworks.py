"""Frameworks: the same network in torch and by hand, in code and in speed.

caviar has an engine in torch, with automatic differentiation and torch's optimizers, and one of compiled kernels, where
forward pass, gradients and optimizers are written out by hand. Both train the same network on the digits, interleaved,
on one core. Their code is counted in statements, without imports and docstrings.
"""

import ast
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from gallery import Finding, Verdict, finish, main, mean_and_half
from plotly.subplots import make_subplots

import caviar as cv
from caviar.engine import Engine, Part, Progress
from caviar.reporting.plots import theme
from caviar.trial import Trial, Value

TRAINING = Path(cv.__file__).parent / "training"
ENGINES = {
    "in torch": ("reference", [TRAINING / "reference.py"]),
    "by hand": ("native", sorted((TRAINING / "native").glob("*.py"))),
}
BATCH_SIZE = 64
PARAMS: dict[str, Value] = {
    "layers": 2,
    "units": 64,
    "batch_size": BATCH_SIZE,
    "optimizer": "adam",
    "learning_rate": 3e-3,
}


def statements(files: Sequence[Path]) -> int:
    """Return the number of statements in files, without imports and docstrings."""
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    texts = [n for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return sum(isinstance(node, ast.stmt) for node in nodes) - len(texts) - len(imports)


def train(engine: Engine, epochs: int, seed: int) -> tuple[list[float], float]:
    """Return the dev losses of a network, one an epoch, and the seconds that training it took."""
    trial = Trial(number=0, round=1, params=PARAMS, epochs=epochs, seed=seed)
    began = time.perf_counter()
    events = list(engine.train([Part(trial=trial)]))
    seconds = time.perf_counter() - began
    return [e.measurement.metrics["dev_loss"] for e in events if isinstance(e, Progress)], seconds


def measure(quick: bool) -> Finding:
    """Count the code of both engines, and train the same networks with both."""
    epochs, repeats = (2, 2) if quick else (20, 9)
    dataset = cv.Classifier(data="sklearn:digits").load().without_test()
    steps = epochs * -(-len(dataset.train.y) // BATCH_SIZE)
    engines = {
        name: cv.Classifier(data="sklearn:digits", engine=engine).make_engine(dataset, "cpu")
        for name, (engine, _) in ENGINES.items()
    }
    losses: dict[str, list[list[float]]] = {name: [] for name in engines}
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        train(engine, 1, seed=0)  # compiles
    for seed in range(repeats):
        for name, engine in engines.items():
            found, seconds = train(engine, epochs, seed)
            losses[name].append(found)
            rates[name].append(steps / seconds)
    table = pd.DataFrame(
        {
            "engine": list(ENGINES),
            "statements": [statements(files) for _, files in ENGINES.values()],
            "training steps a second": [round(statistics.median(rates[name])) for name in ENGINES],
            "dev loss": [round(float(np.mean([curve[-1] for curve in losses[name]])), 4) for name in ENGINES],
        }
    )
    in_torch, by_hand = (row for _, row in table.iterrows())
    shorter = by_hand["statements"] / in_torch["statements"]
    ratios = [ours / theirs for ours, theirs in zip(rates["by hand"], rates["in torch"], strict=True)]
    faster, half = mean_and_half(ratios)
    apart = max(
        abs(ours - theirs) / theirs
        for one, other in zip(losses["by hand"], losses["in torch"], strict=True)
        for ours, theirs in zip(one, other, strict=True)
    )
    verdict: Verdict = "holds" if shorter > 1.5 else "does not hold here"
    return Finding(
        claim="A deep-learning framework lets you write a network in less code than a language for computing alone.",
        verdict=verdict,
        found=(
            f"The engine in torch has {in_torch['statements']:,} statements, "
            f"the one by hand {by_hand['statements']:,}, {shorter:.1f} times as many. "
            f"What the code by hand buys is speed: it trains this small network {faster:.1f} ± {half:.1f} times as "
            f"fast, and the losses of {repeats} networks differ by at most {apart:.1e} of their value over "
            f"{epochs} epochs."
        ),
        table=table,
        figure=draw(table),
    )


def draw(table: pd.DataFrame) -> go.Figure:
    """Draw statements and speed as bars."""
    titles = ("Statements of code", "Training steps a second, on one core")
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.12)
    for column, values in enumerate(("statements", "training steps a second"), 1):
        texts = [f"{value:,}" for value in table[values]]
        colors = [theme.PLAIN, theme.BEST]
        figure.add_bar(
            x=table["engine"],
            y=table[values],
            text=texts,
            textposition="outside",
            cliponaxis=False,
            marker_color=colors,
            showlegend=False,
            col=column,
            row=1,
        )
    return finish(
        figure,
        "The same network, in a framework and by hand",
        "Left: without imports and docstrings. Right: the median of several networks on digits.",
    )


if __name__ == "__main__":
    main(measure)
