"""A trained module is handed over: rebuilt from the user's function, read by plain torch, predicting from raw rows."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from sklearn.datasets import load_digits, load_wine
from torch import nn

import caviar as cv
from caviar.errors import DamagedError, DataError, RunError
from caviar.records.frames import Run, load
from caviar.records.winner import Best
from caviar.reporting.summary import show
from caviar.training.batch_statistics import use_batch_statistics
from tests.runs import run_inline
from tests.training.module import modules


def run_of(objective: cv.Module, runs: Path, **fixed: Any) -> Run:
    study = cv.Study(
        name="module",
        objective=replace(objective, fixed={"optimizer": "adam", **fixed}),
        space=cv.Space(learning_rate=cv.log(3e-3, 3e-2)),
        rounds=[cv.Round(3, 4), cv.Confirmation(2, 1)],
    )
    return run_inline(study, runs)


def best_of(run: Run) -> Best:
    best = load(run.path).best
    assert best is not None
    return best


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of convolutions."""
    return run_of(modules.digits_objective(), tmp_path_factory.mktemp("digits"), channels=8)


def test_the_network_predicts_from_raw_rows(digits: Run) -> None:
    best = best_of(digits)
    x, y = load_digits(return_X_y=True)
    predicted = best.predict(x, modules.convolutions)
    assert predicted.dtype == y.dtype
    assert (predicted == y).mean() > 0.85
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    shuffled = pd.DataFrame(x, columns=names)[names[::-1]]
    assert (best.predict(shuffled, modules.convolutions) == predicted).all()
    assert (best.predict(x.reshape(-1, 8, 8), modules.convolutions) == predicted).all()
    with pytest.raises(DataError, match="rows must have 64 features"):
        best.predict(x[:, :63], modules.convolutions)


def test_batch_statistics_depend_on_the_other_rows(digits: Run) -> None:
    best, (x, y) = best_of(digits), load_digits(return_X_y=True)
    assert (best.predict(x, modules.convolutions, batch_statistics=True) == y).mean() > 0.85
    network = best.network(modules.convolutions)
    use_batch_statistics(network)
    rows = torch.tensor(x[:50] / 16, dtype=torch.float32)
    with torch.no_grad():
        ours = network(rows)
        norms = [module.train() for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        norms[0]._forward_hooks.clear()
        torch.testing.assert_close(ours, network(rows))


def test_test_rows_have_their_predictions(digits: Run) -> None:
    best = best_of(digits)
    rows = best.test_predictions()
    assert rows is not None
    assert (rows["actual"] == rows["predicted"]).mean() == best.test_accuracy
    assert best.test_value is None
    assert best.baseline is not None


def test_plain_torch_reads_the_state_dict(digits: Run) -> None:
    file = digits.path / "best" / "module.pt"
    code = (
        "import sys, torch; state = torch.load(sys.argv[1], weights_only=True); "
        "print(*state, all(t.device.type == 'cpu' for t in state.values()), 'caviar' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    ).stdout.split()
    network = best_of(digits).network(modules.convolutions)
    assert printed == [*network.state_dict(), "True", "False"]
    assert not network.training
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()}["1.weight"] == (8, 1, 3, 3)


def test_rebuilding_leaves_the_global_generator_alone(digits: Run) -> None:
    before = torch.get_rng_state()
    best_of(digits).network(modules.convolutions)
    assert torch.equal(before, torch.get_rng_state())


def test_another_build_is_refused(digits: Run, tmp_path: Path) -> None:
    best = best_of(digits)
    with pytest.raises(RunError, match=r"best.network\(build\)"):
        best.network()
    with pytest.raises(RunError, match="another module than the one that was trained"):
        best.network(lambda params: nn.Linear(64, 10))
    inputs = digits.path / "best" / "module.pt"
    content = inputs.read_bytes()
    try:
        inputs.write_bytes(content[:-9])
        with pytest.raises(DamagedError):
            best.network(modules.convolutions)
    finally:
        inputs.write_bytes(content)


def test_params_and_recipe_are_whole(digits: Run) -> None:
    best = best_of(digits)
    assert best.recipe["channels"] == 8
    assert best.recipe["beta1"] == 0.9
    written = json.loads((digits.path / "best" / "best.json").read_text())
    assert set(written["files"]) == {"module.pt", "inputs.npz", "test.npz"}


def test_numbers_are_predicted_and_scored(tmp_path: Path) -> None:
    run = run_of(modules.numbers_objective(), tmp_path, units=6)
    best = best_of(run)
    assert (best.test_accuracy, best.baseline, best.test_predictions()) == (None, None, None)
    x, y = modules.numbers()
    dataset = modules.numbers_objective().load()
    assert dataset.test is not None
    predicted = best.predict(dataset.test.x, modules.perceptron)[:, 0]
    assert best.test_value == pytest.approx(((predicted - dataset.test.y) ** 2).mean(), rel=1e-5)
    assert run.trials["test_loss"].dropna().tolist() == [best.test_value]
    assert len(best.predict(x.numpy(), modules.perceptron)) == len(y)
    text = io.StringIO()
    show(run, Console(file=text, width=200))
    assert "loss on 24 rows that nothing else used" in text.getvalue()


def test_token_ids_stay_whole(tmp_path: Path) -> None:
    best = best_of(run_of(modules.tokens_objective(), tmp_path, units=8))
    ids, words = modules.tokens()
    predicted = best.predict(ids, modules.Attention)
    assert set(predicted) <= {"yes", "no"}
    assert (predicted == words).mean() > 0.6
    with pytest.raises(DataError, match="whole numbers"):
        best.predict(ids + 0.5, modules.Attention)


def test_the_first_of_several_outputs_decides(tmp_path: Path) -> None:
    run = run_of(modules.two_losses_objective(metric="dev_recall", maximize=True), tmp_path, units=8)
    best = best_of(run)
    x, y = load_wine(return_X_y=True)
    predicted = best.predict(x, modules.Autoencoder)
    assert (predicted == np.array(["class_0", "class_1", "class_2"])[y]).mean() > 0.8
    assert best.test_accuracy is not None
    assert best.test_value is not None
    assert run.trials["dev_recall"].notna().all()


def test_refit_learns_from_dev_rows(tmp_path: Path) -> None:
    plain = run_of(modules.two_losses_objective(), tmp_path / "plain", units=8)
    refit = run_of(modules.two_losses_objective(refit=True), tmp_path / "refit", units=8)
    assert set(refit.trials.loc[refit.trials["dev_loss"].isna(), "stage"]) == {"final"}
    one, other = (run.best.network(modules.Autoencoder) for run in (plain, refit) if run.best)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
