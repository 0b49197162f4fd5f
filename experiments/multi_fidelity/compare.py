"""Compare halving and narrowing on real trainings: the confirmed dev error against worker seconds.

    python experiments/multi_fidelity/compare.py        about half an hour on one core

Every method searches the same spaces on the same data, with three budgets and several seeds. The methods take turns, so
that other load on the machine slows all of them alike. The only worker is in this process; the frames would be the same
with workers of a cluster. Searches that are already in `runs/multi_fidelity/searches.csv` are skipped.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import report
from sklearn.datasets import make_classification

import caviar as cv
from caviar.backends.inline import InlineBackend
from caviar.operations.run import run_study

BUDGETS = (30, 90, 270)
"""Budgets, in complete trainings. A method that stops trials early draws more trials."""
EPOCHS = 20
FIELDS = ("data", "method", "budget", "seed", "trials", "epochs", "worker_s", "value", "low", "high", "test")
OUT = Path("runs/multi_fidelity")

Arrays = tuple[np.ndarray, np.ndarray]


def clusters() -> Arrays:
    """Return eight classes with three clusters each, in 40 features of which twelve are informative."""
    x, y = make_classification(
        n_samples=3_000,
        n_features=40,
        n_informative=12,
        n_classes=8,
        n_clusters_per_class=3,
        class_sep=1.2,
        flip_y=0.02,
        random_state=0,
    )
    return x, y


def spirals() -> Arrays:
    """Return three interleaved spirals in two of six features, which networks fit late in training only."""
    random = np.random.default_rng(0)
    arm = random.integers(3, size=2_400)
    along = np.sqrt(random.random(2_400)) * 3 * np.pi
    angle = along + arm * 2 * np.pi / 3
    turn = np.stack([along * np.cos(angle), along * np.sin(angle)], axis=1)
    return np.hstack([turn + random.normal(0, 0.35, (2_400, 2)), random.normal(0, 1, (2_400, 4))]), arm


DATA: dict[str, Callable[[], str | Arrays]] = {
    "digits": lambda: "sklearn:digits",
    "clusters": clusters,
    "spirals": spirals,
}
HALVING = cv.Halving()
SCREEN = cv.Halving(rungs=(1,), keep=0.25)
METHODS: dict[str, tuple[cv.Halving | None, bool]] = {
    "random": (None, False),
    "narrowing": (None, True),
    "halving": (HALVING, False),
    "narrowing and halving": (HALVING, True),
    "narrowing and a one-epoch screen": (SCREEN, True),
}
"""For each method its halving, and True if it narrows."""


def study(data: str, method: str, budget: int, seed: int) -> cv.Study:
    """Return a study that costs about as much as `budget` complete trainings."""
    halving, narrows = METHODS[method]
    trials = budget if halving is None else round(budget / (0.8 * halving.cost(EPOCHS) + 0.2))
    search, confirmation = cv.coarse_to_fine(trials=trials, epochs=EPOCHS, halving=halving)
    one_round = cv.Round(search.trials, EPOCHS, halving)
    return cv.Study(
        name="search",
        objective=cv.Classifier(data=DATA[data]()),
        space=cv.Space(
            learning_rate=cv.log(1e-4, 1.0),
            optimizer=cv.choice("sgd", "momentum", "rmsprop", "adam"),
            batch_size=cv.choice(32, 64, 128, 256),
            layers=cv.integer(1, 4),
            units=cv.integer(16, 128, scale="log"),
            dropout=cv.linear(0.0, 0.5),
            l2=cv.log(1e-7, 1e-2),
            decay=cv.choice("constant", "cosine"),
        ),
        rounds=[search if narrows else one_round, confirmation],
        seed=seed,
    )


def search(data: str, method: str, budget: int, seed: int) -> dict[str, object]:
    """Run one search and return its row."""
    asked = study(data, method, budget, seed)
    with tempfile.TemporaryDirectory() as folder:
        run = run_study(
            asked, runs=folder, progress=False, backend=lambda rows: InlineBackend(asked.objective, rows)
        )
        trials, best = run.trials, run.best
    assert best is not None
    low, high = best.interval or (None, None)
    return {
        "data": data,
        "method": method,
        "budget": budget,
        "seed": seed,
        "trials": len(trials),
        "epochs": int(trials["epochs_trained"].sum()),
        "worker_s": round(float((trials["setup_s"] + trials["train_s"]).sum()), 3),
        "value": round(best.value, 6),
        "low": low,
        "high": high,
        "test": best.test_accuracy,
    }


def main() -> None:
    """Run the missing searches, then write the table and the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=range(6))
    arguments = parser.parse_args()
    searches = OUT / "searches.csv"
    if not searches.is_file():
        OUT.mkdir(parents=True, exist_ok=True)
        searches.write_text(",".join(FIELDS) + "\n")
    with searches.open(newline="") as file:
        done = {(r["data"], r["method"], int(r["budget"]), int(r["seed"])) for r in csv.DictReader(file)}
    for seed in arguments.seeds:
        for data in DATA:
            for budget in BUDGETS:
                for method in METHODS:
                    if (data, method, budget, seed) not in done:
                        row = search(data, method, budget, seed)
                        with searches.open("a", newline="") as file:
                            csv.DictWriter(file, FIELDS).writerow(row)
    report.write(searches)


if __name__ == "__main__":
    main()
