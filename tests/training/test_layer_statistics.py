"""Statistics of layers are those of a float64 network in torch, and are recorded only if asked for."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caviar as cv
from caviar.engine import Part
from caviar.errors import StudyError
from caviar.training.layer_statistics import LayerStatistics, statistic_names
from caviar.training.random_streams import EpochOrders
from caviar.training.recipe import batches, recipe_from
from caviar.training.reference import HiddenLayer, ReferenceEngine
from caviar.trial import Trial
from tests.runs import run_inline
from tests.training.networks import blobs, checkpoint_of, run, trial, with_arrays

DATA = blobs()
SPACE = cv.Space(learning_rate=cv.log(1e-3, 1.0), layers=cv.integer(0, 2), units=cv.choice(4))


def expected(what: Trial, checkpoint: Any) -> dict[str, float]:
    """Return the statistics of a checkpoint, computed with torch and loops."""
    recipe, engine = recipe_from(what.params), ReferenceEngine(DATA, dtype=torch.float64)
    network = engine.begin(Part(trial=what, checkpoint=checkpoint)).network.eval()
    order = EpochOrders(what.seed, len(DATA.train.y)).order(0)
    dev, train = (torch.tensor(x, dtype=torch.float64) for x in (DATA.dev.x, DATA.train.x[order]))
    found = {}
    with torch.no_grad():
        for number, layer in enumerate(network.hidden, start=1):
            assert isinstance(layer, HiddenLayer)
            z, z_train, epsilon = layer.linear(dev), layer.linear(train), recipe.batch_norm_epsilon
            z_tilde = layer.norm(z)
            std = (z_train.var(0, unbiased=False) + epsilon).sqrt()
            means, stds = [], []
            for start, stop in batches(len(train), recipe):
                batch = z_train[start:stop]
                means.append((batch.mean(0) - z_train.mean(0)) / std)
                stds.append((batch.var(0, unbiased=False) + epsilon).sqrt() / std - 1)
            for name, value in {
                "z_mean": z.mean(),
                "z_std": z.std(unbiased=False),
                "z_tilde_mean": z_tilde.mean(),
                "z_tilde_std": z_tilde.std(unbiased=False),
                "batch_mean_noise": torch.stack(means).square().mean().sqrt(),
                "batch_std_noise": torch.stack(stds).square().mean().sqrt(),
            }.items():
                found[f"{name}_{number}"] = float(value)
            dev, train = layer(dev), layer(train)
    return found


@pytest.mark.parametrize(
    "params",
    [
        {"layers": 2, "units": 6, "batch_size": 16, "dropout": 0.5},
        {"layers": 2, "units": 5, "batch_size": 59, "activation": "tanh", "batch_norm_epsilon": 0.1},
        {"layers": 3, "units": 4, "batch_norm": False, "batch_size": 1, "learning_rate": 0.01},
    ],
)
def test_statistics_are_those_of_a_network_in_torch(params: dict[str, Any]) -> None:
    what = trial(epochs=2, **params)
    statistics = LayerStatistics(DATA, {}, layers=3)
    curve, end = run(ReferenceEngine(DATA, dtype=torch.float64, observe=statistics), what)
    found = {name: value for name, value in curve[-1].items() if name in statistic_names(3)}
    assert found == pytest.approx(expected(what, end.checkpoint), rel=1e-9, abs=1e-12)


def test_whole_batches_have_no_noise() -> None:
    engine = ReferenceEngine(DATA, observe=LayerStatistics(DATA, {}, layers=1))
    curve, _ = run(engine, trial(epochs=1, layers=1, batch_size=1000))
    assert curve[0]["batch_mean_noise_1"] < 1e-12
    assert curve[0]["batch_std_noise_1"] < 1e-12


def test_noise_falls_with_the_root_of_the_batch_size() -> None:
    engine = ReferenceEngine(blobs(rows=2000), observe=LayerStatistics(blobs(rows=2000), {}, layers=1))
    noises = [
        run(engine, trial(epochs=1, layers=1, batch_size=size))[0][0]["batch_mean_noise_1"]
        for size in (8, 32, 128)
    ]
    for large, small in itertools.pairwise(noises):
        assert 1.6 < large / small < 2.5


def test_statistics_of_a_diverged_network_are_not_finite() -> None:
    what = trial(layers=1, batch_size=16)
    _, end = run(ReferenceEngine(DATA), what)
    diverged = with_arrays(checkpoint_of(end), hidden_0_weight=np.full((7, 64), np.nan))
    found = LayerStatistics(DATA, {}, layers=1)(what, diverged)
    assert np.isnan(list(found.values())).all()


def test_layers_that_a_network_lacks_have_empty_cells(tmp_path: Path) -> None:
    study = cv.Study(
        name="statistics",
        objective=cv.Classifier(data=(DATA.train.x, DATA.train.y), engine="reference", layer_statistics=2),
        space=SPACE,
        rounds=[cv.Round(6, 1), cv.Confirmation(1, 1)],
    )
    found = run_inline(study, tmp_path)
    assert set(statistic_names(2)) <= set(found.trials) & set(found.curves)
    for layer in (1, 2):
        has_layer = found.trials["params_layers"] >= layer
        assert has_layer.any()
        assert not has_layer.all()
        for name in ("z_mean", "batch_std_noise"):
            assert (found.trials[f"{name}_{layer}"].notna() == has_layer).all()
    meanings = found.schema.set_index("column").meaning
    assert "Hidden layer 2" in meanings["z_tilde_std_2"].iloc[0]


def test_columns_and_description_have_no_statistics_by_default() -> None:
    objective = cv.Classifier(data="sklearn:iris")
    assert not set(objective.metric_names) & set(statistic_names(20))
    assert "layer_statistics" not in objective.describe()
    described = cv.Classifier(data="sklearn:iris", layer_statistics=1).describe()
    assert described == {**objective.describe(), "layer_statistics": 1}


@pytest.mark.parametrize("layers", [-1, 1.0, True, None, "2", 21])
def test_numbers_of_layers_that_cannot_be_are_refused(layers: Any) -> None:
    with pytest.raises(StudyError, match="layer_statistics"):
        cv.Classifier(data="sklearn:iris", layer_statistics=layers)


@pytest.mark.parametrize(("space", "fixed"), [(SPACE, {}), (cv.Space(units=cv.choice(4)), {"layers": 2})])
def test_layers_that_no_trial_has_are_refused(space: cv.Space, fixed: dict[str, Any]) -> None:
    for layers in (2, 3):
        objective = cv.Classifier(data="sklearn:iris", fixed=fixed, layer_statistics=layers)
        if layers == 2:
            objective.adapt(space)
        else:
            with pytest.raises(StudyError, match="at most 2"):
                objective.adapt(space)
