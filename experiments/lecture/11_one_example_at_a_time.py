"""At test time one example has no batch: averages of mu and sigma^2 from training stand in.

Studies are run on several data sets, and the network that each hands over predicts its dev rows: with the exponentially
weighted averages of training, one row at a time, and with the statistics of the rows that are predicted together, in
groups of 1, 2, 4 and more (`best.predict(rows, batch_statistics=True)`).
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from gallery import Finding, finish, main, mean_and_half
from searches import search
from sources import LOOKS
from torch import nn

import caviar as cv
from caviar.training.batch_statistics import use_batch_statistics
from caviar.training.reference import limited_threads

DATA = ("digits", "breast cancer", "wine", "iris")
GROUPS = (1, 2, 4, 8, 16, 32)


def study_of(data: str, seed: int, trials: int) -> cv.Study:
    """Return a small search on a data set."""
    name = data.replace(" ", "_")
    return cv.Study(
        name=f"{name}-{seed}",
        objective=cv.Classifier(data=f"sklearn:{name}", split_seed=seed, fixed={"batch_size": 32}),
        space=cv.Space(
            learning_rate=cv.log(1e-3, 0.3),
            units=cv.integer(16, 64, scale="log"),
            layers=cv.integer(1, 3),
        ),
        rounds=[cv.Round(trials, 15), cv.Confirmation(2, 2)],
        seed=seed,
    )


study = study_of("digits", 0, trials=24)


@limited_threads()
def predict_in_groups(network: nn.Module, x_ND: np.ndarray, size: int) -> np.ndarray:
    """Return the predicted class numbers of preprocessed rows that are given to a network in groups."""
    groups = torch.split(torch.from_numpy(x_ND), size)
    with torch.no_grad():
        return torch.cat([network(group).argmax(dim=1) for group in groups]).numpy()


def measure(quick: bool) -> Finding:
    """Predict the dev rows in groups of several sizes, with averages and with batch statistics."""
    names, seeds, trials = (("iris",), 2, 3) if quick else (DATA, 8, 24)
    found: dict[tuple[str, str], list[float]] = {}
    different = answers = rows = 0
    for name in names:
        for seed in range(seeds):
            small = study_of(name, seed, trials)
            run = search(small.objective, small.space, small.rounds, seed)
            best, dataset = run.best, small.objective.load()
            assert best is not None
            assert dataset is not None
            by_averages, by_batch = best.network(), best.network()
            use_batch_statistics(by_batch)  # as in best.predict(rows, batch_statistics=True)
            order = np.random.default_rng(seed).permutation(len(dataset.dev.y))
            x, y = dataset.dev.x[order], dataset.dev.y[order]
            alone = predict_in_groups(by_averages, x, 1)
            different += int((alone != predict_in_groups(by_averages, x, len(x))).sum())
            rows += len(x)
            found.setdefault((name, "averages"), []).append(float((alone == y).mean()))
            for size in GROUPS:
                predicted = predict_in_groups(by_batch, x, size)
                found.setdefault((name, f"batch of {size}"), []).append(float((predicted == y).mean()))
                if size == 1:
                    answers = max(answers, len(set(predicted.tolist())))
    kinds = ["averages", *(f"batch of {size}" for size in GROUPS)]
    table = pd.DataFrame(
        [
            {
                "data": name,
                **{kind: "{:.3f} ± {:.3f}".format(*mean_and_half(found[name, kind])) for kind in kinds},
            }
            for name in names
        ]
    )
    means = {kind: float(np.mean([np.mean(found[name, kind]) for name in names])) for kind in kinds}
    holds = different == 0 and answers == 1 and means["averages"] - means["batch of 1"] > 0.1
    return Finding(
        claim="One example has no batch: batch norm needs the averages of mu and sigma^2 from training.",
        verdict="holds" if holds else "holds weakly",
        found=f"One row at a time, the mean accuracy is {means['averages']:.3f} with averages and "
        f"{means['batch of 1']:.3f} with batch statistics, which gave "
        f"{'the same answer' if answers == 1 else f'up to {answers} answers'} to all rows of a data set. "
        f"Groups of 2 reach {means['batch of 2']:.3f}, "
        f"of {GROUPS[-1]} {means[f'batch of {GROUPS[-1]}']:.3f}. With averages {different} of {rows} rows are "
        "predicted differently alone and together.",
        table=table,
        figure=draw(names, found),
    )


def draw(names: tuple[str, ...], found: dict[tuple[str, str], list[float]]) -> go.Figure:
    """Draw the accuracy against the number of rows that are predicted together."""
    figure = go.Figure()
    for place, name in enumerate(names):
        color, symbol = LOOKS[name]
        beside = 1.015 ** (2 * place - len(names) + 1)
        summary = [mean_and_half(found[name, f"batch of {size}"]) for size in GROUPS]
        figure.add_scatter(
            x=beside * np.array(GROUPS), y=[mean for mean, _ in summary],
            error_y={"array": [half for _, half in summary], "width": 3},
            mode="lines+markers", name=name, marker={"color": color, "symbol": symbol, "size": 8},
            line={"width": 1.5, "color": color},
        )  # fmt: skip
        figure.add_scatter(
            x=[GROUPS[0], GROUPS[-1]], y=[np.mean(found[name, "averages"])] * 2, mode="lines", showlegend=False,
            line={"dash": "dot", "color": color, "width": 1.5},
        )  # fmt: skip
    figure.update_xaxes(
        type="log", title="rows predicted together", tickvals=GROUPS, ticktext=[str(n) for n in GROUPS]
    )
    figure.update_yaxes(title="accuracy on dev rows", range=[0, 1.03])
    figure.update_layout(height=460, margin={"b": 100})
    return finish(
        figure,
        "Batch norm without a batch",
        "Solid: batch norm uses the statistics of the rows that are predicted together, with 95 % intervals.",
        "Dotted: it uses the averages of training, one row at a time.",
    )


if __name__ == "__main__":
    main(measure)
