"""Softmax: probabilities that sum to one, linear boundaries without a hidden layer, and logistic regression.

Networks with no hidden layer (`layers=0`) and with two are trained on 3 to 6 classes in the plane: clouds, which
straight lines separate, and spirals, which none do. The boundaries of a network are linear if each region is convex: no
point between two points of a region lies in another. For two classes, `layers=0` is compared with scikit-learn's
logistic regression under the same L2 penalty, on several data sets.
"""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from gallery import Finding, finish, main, mean_and_half
from networks import Problem, Trained
from plotly.subplots import make_subplots
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sources import clouds, spirals

from caviar.training.reference import limited_threads

REGRESSION: dict[str, Any] = {"layers": 0, "optimizer": "adam", "learning_rate": 0.05, "batch_size": 100_000}
DEEP: dict[str, Any] = {
    "layers": 2,
    "units": 32,
    "optimizer": "adam",
    "learning_rate": 0.01,
    "batch_size": 64,
}
COLORS = ("#2b8cc4", "#d55e00", "#009e73", "#aa44ff", "#b8860b", "#707070")
L2 = 0.01


@limited_threads()
def probabilities(problem: Problem, trained: Trained, x_ND: np.ndarray) -> np.ndarray:
    """Return the probability of each class (N, C), for rows that are not preprocessed."""
    with torch.no_grad():
        z_NC = problem.network(trained)(torch.from_numpy(problem.dataset.preprocessing.apply(x_ND)))
        p_NC: np.ndarray = torch.softmax(z_NC.double(), dim=1).numpy()
    return p_NC


def convex_share(problem: Problem, trained: Trained, x_ND: np.ndarray) -> float:
    """Return the share of points between two points of a region, drawn at random, that lie in the same region."""
    random = np.random.default_rng(0)
    predicted = probabilities(problem, trained, x_ND).argmax(axis=1)
    a, b = random.integers(len(x_ND), size=(2, 20_000))
    a, b = (places[predicted[a] == predicted[b]] for places in (a, b))
    share = random.uniform(size=(len(a), 1))
    between = probabilities(problem, trained, share * x_ND[a] + (1 - share) * x_ND[b]).argmax(axis=1)
    return float((between == predicted[a]).mean())


def measure(quick: bool) -> Finding:
    """Train on 3 to 6 classes with and without hidden layers, and compare two classes with logistic regression."""
    rows, seeds, epochs = (300, 2, 20) if quick else (1500, 10, 300)
    counts = (3, 6) if quick else (3, 4, 5, 6)
    table, sums, example = [], [], {}
    for shape, make in (("clouds", clouds), ("spirals", spirals)):
        for classes in counts:
            for name, params in (("none", REGRESSION), ("2", DEEP)):
                accuracies, convex = [], []
                for seed in range(seeds):
                    x, y = make(rows, classes, seed=seed)
                    problem = Problem((x, y), split_seed=seed)
                    trained = problem.train(
                        params, epochs if params is REGRESSION else max(2, epochs // 5), seed
                    )
                    accuracies.append(trained.curve["dev_accuracy"].iloc[-1])
                    convex.append(convex_share(problem, trained, x))
                    sums.append(abs(probabilities(problem, trained, 1e3 * x).sum(axis=1) - 1).max())
                    example[shape, classes, name] = problem, trained, x, y
                accuracy, half = mean_and_half(accuracies)
                table.append(
                    {
                        "data": shape,
                        "classes": classes,
                        "hidden layers": name,
                        "dev accuracy": f"{accuracy:.3f} ± {half:.3f}",
                        "smallest convex share": f"{min(convex):.4f}",
                        "_accuracy": accuracy,
                        "_convex": min(convex),
                    }
                )
    frame = pd.DataFrame(table)
    differences = logistic_differences(quick)
    linear = frame[frame["hidden layers"] == "none"]
    deep = frame[frame["hidden layers"] == "2"]
    by_shape = {
        (name, shape): part.loc[part["data"] == shape, "_accuracy"].mean()
        for name, part in (("none", linear), ("2", deep))
        for shape in ("clouds", "spirals")
    }
    holds = (
        linear["_convex"].min() == 1
        and max(differences) < 1e-3
        and max(sums) < 1e-9
        and by_shape["none", "clouds"] > by_shape["2", "clouds"] - 0.02
    )
    return Finding(
        claim="Softmax gives probabilities. Without a hidden layer its boundaries are linear, and with two classes it "
        "is logistic regression.",
        verdict="holds" if holds else "holds weakly",
        found=f"Without a hidden layer, a share of at least {linear['_convex'].min():.4f} of the points between two "
        f"points of a region lay in that region, as linear boundaries have it; with two hidden layers as little as "
        f"{deep['_convex'].min():.2f}. The mean accuracy without a hidden layer was "
        f"{by_shape['none', 'clouds']:.3f} on clouds and {by_shape['none', 'spirals']:.3f} on spirals, with two "
        f"{by_shape['2', 'clouds']:.3f} and {by_shape['2', 'spirals']:.3f}. With two classes the probabilities differ "
        f"from scikit-learn's logistic regression by at most {max(differences):.1g} on {len(differences)} data sets. "
        f"Sums differ from one by at most {max(sums):.1g}, also for inputs a thousand times too large.",
        table=frame.drop(columns=["_accuracy", "_convex"]),
        figure=draw(example),
    )


def logistic_differences(quick: bool) -> list[float]:
    """Return the largest difference in probability from logistic regression, for each data set of two classes."""
    data = [load_breast_cancer(return_X_y=True)]
    if not quick:
        data += [clouds(400, 2, spread=1.0, seed=seed) for seed in range(4)]
    found = []
    for x, y in data:
        problem = Problem((x, y), fixed={"l2": L2})
        trained = problem.train({**REGRESSION, "decay": "cosine"}, 200 if quick else 1500)
        train, dev = problem.dataset.train, problem.dataset.dev
        # the weights of both classes are penalised here: for the same difference, half as much
        model = LogisticRegression(C=2 / (L2 * len(train.y)), tol=1e-8, solver="newton-cholesky")
        model.fit(train.x.astype(float), train.y)
        ours = problem.engine.predict(trained.trial, trained.checkpoint, dev)
        found.append(float(abs(ours - model.predict_proba(dev.x.astype(float))).max()))
    return found


def draw(example: dict[tuple[str, int, str], tuple[Problem, Trained, np.ndarray, np.ndarray]]) -> go.Figure:
    """Draw the regions for clouds and spirals."""
    counts = sorted({classes for _, classes, _ in example})
    lines = [("clouds", "none"), ("spirals", "none"), ("spirals", "2")]
    names = {"none": "no hidden layer", "2": "two hidden layers"}
    titles = [f"{classes} {shape}, {names[name]}" for shape, name in lines for classes in counts]
    figure = make_subplots(
        3, len(counts), subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=0.06
    )
    for row, (shape, name) in enumerate(lines, start=1):
        for column, classes in enumerate(counts, start=1):
            problem, trained, x, y = example[shape, classes, name]
            reach = 1.15 * abs(x).max()
            axis = np.linspace(-reach, reach, 160)
            grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
            region = probabilities(problem, trained, grid).argmax(axis=1).reshape(len(axis), -1)
            scale = [[(k + end) / classes, COLORS[k]] for k in range(classes) for end in (0, 1)]
            figure.add_heatmap(
                x=axis, y=axis, z=region, colorscale=scale, zmin=-0.5, zmax=classes - 0.5, opacity=0.3,
                showscale=False, hoverinfo="skip", row=row, col=column,
            )  # fmt: skip
            few = slice(0, 240)
            figure.add_scatter(
                x=x[few, 0], y=x[few, 1], mode="markers", showlegend=False, hoverinfo="skip", row=row, col=column,
                marker={"size": 4, "color": [COLORS[k] for k in y[few]]},
            )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(height=780, margin={"l": 16, "b": 16})
    return finish(
        figure,
        "Regions of softmax",
        "Colours are the predicted class, dots the rows. Without a hidden layer all boundaries are straight.",
    )


if __name__ == "__main__":
    main(measure)
