"""Speed of the engines on one core: microseconds per training step, and a search of the digits.

    python experiments/benchmarks/engines.py OUT [--compile] [--search 40] [--quick]

The script writes OUT/engines.csv, OUT/engines.md and OUT/search.csv. Each round measures every contender once, in turn,
so that other load on the machine slows all alike; the tables hold medians over rounds. A step is the forward pass,
backward pass and update of a mini-batch, with its share of an epoch's overhead (order of rows, calls), without
evaluation. The search includes everything: setup, training, and the evaluation of every epoch.

- eager: the reference engine (plain torch).
- compiled: torch.compile of the network, its loss and the optimizer's step (--compile: slow to start).
- native: the native engine.
- blas: only the matrix products of the step, by OpenBLAS into existing arrays.
- products: the same products by the native engine's own kernel.

speedup is eager / native; ceiling is eager / products: no engine with these products can be faster.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.linalg.cython_blas  # noqa: F401 - np.dot in kernels calls it; here, so that it is limited
import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional as F  # noqa: N812

from caviar.data.splits import Dataset, split
from caviar.engine import Engine, Part, Progress
from caviar.training import random_streams
from caviar.training.classifier import Classifier
from caviar.training.native.arrays import aligned_zeros, padded_size, row_stride
from caviar.training.native.engine import NativeEngine
from caviar.training.native.jit import jit
from caviar.training.native.matmul import matmul
from caviar.training.recipe import Recipe, recipe_from
from caviar.training.reference import ReferenceEngine
from caviar.trial import Trial, Value

FEATURES, CLASSES = 64, 10
UNITS, LAYERS, BATCHES = (32, 64, 128, 256), (1, 2, 4), (32, 64, 128, 256)
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")
LARGE: dict[str, Value] = {"units": 1024, "layers": 2, "batch_size": 256}
LARGE_FEATURES = 784


def main() -> None:
    """Measure all sizes, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, for 2 layers and adam")
    parser.add_argument("--search", type=int, default=40, help="trials of the digits search")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="fewer sizes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    threadpool_limits(1)
    torch.set_num_threads(1)

    units, layers, sizes = ((64, 128), (2,), (64,)) if options.quick else (UNITS, LAYERS, BATCHES)
    rows = []
    for h, count, batch in itertools.product(units, layers, sizes):
        for optimizer in OPTIMIZERS:
            params: dict[str, Value] = {
                "units": h,
                "layers": count,
                "batch_size": batch,
                "optimizer": optimizer,
            }
            with_compile = options.compile and count == 2 and optimizer == "adam"
            rows.append(measure(params, FEATURES, options.rounds, with_compile))
            print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    for optimizer in ("momentum", "adam"):
        rows.append(measure({**LARGE, "optimizer": optimizer}, LARGE_FEATURES, 3, False))
    steps = pd.DataFrame(rows)
    steps.to_csv(options.out / "engines.csv", index=False)
    (options.out / "engines.md").write_text(markdown(steps))
    print("\n" + steps.to_string(index=False))

    search = digits_search(options.search)
    search.to_csv(options.out / "search.csv", index=False)
    eager, native = search["reference_s"].sum(), search["native_s"].sum()
    print(
        f"\ndigits, {len(search)} trials of 20 epochs: reference {eager:.2f} s, native {native:.2f} s: "
        f"{eager / native:.1f}x; median over trials {(search.reference_s / search.native_s).median():.1f}x"
    )


def measure(params: dict[str, Value], features: int, rounds: int, with_compile: bool) -> dict[str, Any]:
    """Return the microseconds per step of each contender, and their ratios."""
    recipe = recipe_from(params)
    trial = Trial(number=0, round=1, params=params, epochs=10**6, seed=0)
    steps = 16 if features == FEATURES else 4
    dataset = cloud(recipe.batch_size * steps, features)
    contenders: dict[str, Callable[[], None]] = {
        "eager": eager_epoch(dataset, trial),
        "native": native_epoch(dataset, trial),
        "blas": products_epoch(features, recipe, steps, _blas),
        "products": products_epoch(features, recipe, steps, _own),
    }
    if with_compile:
        contenders["compiled"] = compiled_epoch(dataset, trial, steps)
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            repeats = 1 if name in ("eager", "compiled") or features != FEATURES else 5
            started = time.perf_counter()
            for _ in range(repeats):
                run()
            seconds[name].append((time.perf_counter() - started) / repeats / steps)
    found = {name: 1e6 * float(np.median(values)) for name, values in seconds.items()}
    row: dict[str, Any] = {**params, "features": features}
    row |= {f"{name}_us": round(value, 1) for name, value in found.items()}
    row["speedup"] = round(found["eager"] / found["native"], 1)
    row["ceiling"] = round(found["eager"] / found["products"], 1)
    row["over_blas"] = round(found["native"] / found["blas"], 2)
    row["over_products"] = round(found["native"] / found["products"], 2)
    return row


def cloud(train_rows: int, features: int) -> Dataset:
    """Return random rows, `train_rows` of which are the train split."""
    rng = np.random.default_rng(0)
    rows = train_rows + 200
    x_ND, y_N = rng.standard_normal((rows, features)), np.arange(rows) % CLASSES
    share = train_rows / rows
    return split("cloud", x_ND, y_N, shares=(share, (1 - share) / 2, (1 - share) / 2))


def eager_epoch(dataset: Dataset, trial: Trial) -> Callable[[], None]:
    """Return a function that trains one epoch with the reference engine."""
    training = ReferenceEngine(dataset).begin(Part(trial=trial))
    return lambda: void(training.advance(1e-3))


def native_epoch(dataset: Dataset, trial: Trial) -> Callable[[], None]:
    """Return a function that trains one epoch with the native engine."""
    training = NativeEngine(dataset).begin(Part(trial=trial))
    return lambda: void(training.advance(1e-3))


def compiled_epoch(dataset: Dataset, trial: Trial, steps: int) -> Callable[[], None]:
    """Return a function that trains the same steps under torch.compile."""
    training = ReferenceEngine(dataset).begin(Part(trial=trial))
    network, optimizer = training.network.train(), training.optimizer
    x_ND, y_N = torch.tensor(dataset.train.x), torch.tensor(dataset.train.y)
    rows = training.recipe.batch_size
    loss_of = torch.compile(lambda x_BD, y_B: F.cross_entropy(network(x_BD), y_B))
    update = torch.compile(optimizer.step)

    orders = random_streams.EpochOrders(0, len(x_ND))

    def epoch() -> None:
        order = torch.from_numpy(orders.order(0))
        for step in range(steps):
            batch = order[step * rows :][:rows]
            loss = loss_of(x_ND[batch], y_N[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            update()

    return epoch


def products_epoch(
    features: int, recipe: Recipe, steps: int, products: Callable[..., None]
) -> Callable[[], None]:
    """Return a function that computes only the matrix products of the steps: x W, x^T dz and dz W^T."""
    rng = np.random.default_rng(0)
    sizes, rows = [features, *recipe.hidden, CLASSES], recipe.batch_size

    def zeros(n: int, m: int) -> Any:
        exact = products is _blas
        array = aligned_zeros((n if exact else padded_size(n)) * (m if exact else row_stride(m)), np.float32)
        matrix = array.reshape(n if exact else padded_size(n), -1)
        matrix[:n, :m] = rng.standard_normal((n, m))
        return matrix

    layers = [
        (zeros(rows, d), zeros(d, h), zeros(h, d), zeros(rows, h), zeros(rows, d), zeros(d, h), d, h)
        for d, h in itertools.pairwise(sizes)
    ]

    def epoch() -> None:
        for first, layer in enumerate(layers):
            products(*layer, rows, first > 0, steps)

    return epoch


@jit
def _blas(
    x: Any, w: Any, w_t: Any, z: Any, dx: Any, dw: Any, d: int, h: int, rows: int, inner: bool, n: int
) -> None:
    for _ in range(n):
        np.dot(x, w, z)
        np.dot(x.T, z, dw)
        if inner:
            np.dot(z, w.T, dx)


@jit
def _own(
    x: Any, w: Any, w_t: Any, z: Any, dx: Any, dw: Any, d: int, h: int, rows: int, inner: bool, n: int
) -> None:
    for _ in range(n):
        matmul(z, x, w, rows, h, d)
        matmul(dw, x.T, z, d, h, rows)
        if inner:
            matmul(dx, z, w_t, rows, d, h)


def digits_search(trials: int, epochs: int = 20) -> pd.DataFrame:
    """Train the same random trials of the digits space with both engines, in turn."""
    dataset = Classifier(data="sklearn:digits").load()
    engines: Sequence[Engine] = (ReferenceEngine(dataset), NativeEngine(dataset))
    rng = np.random.default_rng(0)
    rows = []
    for number in range(trials):
        params: dict[str, Value] = {
            "learning_rate": float(10 ** rng.uniform(-4, 0)),
            "momentum": float(1 - 10 ** rng.uniform(-3, -1)),
            "batch_size": int(rng.choice([32, 64, 128, 256])),
            "layers": int(rng.integers(1, 5)),
            "units": round(math.exp(rng.uniform(math.log(16), math.log(256)))),
        }
        trial = Trial(number=number, round=1, params=params, epochs=epochs, seed=number)
        row: dict[str, Any] = {"trial": number, **params}
        for engine in engines:
            started = time.perf_counter()
            events = list(engine.train([Part(trial=trial)]))
            row[f"{engine.name}_s"] = time.perf_counter() - started
            last = [event for event in events if isinstance(event, Progress)][-1].measurement
            row[f"{engine.name}_dev_accuracy"] = last.metrics["dev_accuracy"]
            row[f"{engine.name}_epochs"] = last.epoch
        rows.append(row)
    return pd.DataFrame(rows)


def markdown(frame: pd.DataFrame) -> str:
    """Return the frame as a Markdown table."""
    lines = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    lines += [
        ["" if pd.isna(value) else str(value) for value in row] for row in frame.itertuples(index=False)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def void(_: object) -> None:
    """Ignore a result: only its time is measured."""


if __name__ == "__main__":
    main()
