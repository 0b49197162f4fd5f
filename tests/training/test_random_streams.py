import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from caviar.training.random_streams import (
    DropoutStream,
    EpochOrders,
    Purpose,
    dropout_threshold,
    initial_weights,
    philox,
)

seeds = st.integers(0, 2**63 - 1)


@given(seeds, st.sampled_from(Purpose), st.integers(0, 10**6))
def test_a_stream_depends_on_its_key_alone(seed: int, purpose: Purpose, epoch: int) -> None:
    these = philox(seed, purpose, epoch).random_raw(8)
    philox(seed + 1, purpose, epoch).random_raw(100)
    np.random.default_rng(seed).random()
    assert np.array_equal(these, philox(seed, purpose, epoch).random_raw(8))


@given(seeds.filter(lambda seed: seed > 0), st.integers(0, 10**6))
def test_other_seeds_purposes_and_epochs_give_other_numbers(seed: int, epoch: int) -> None:
    keys = [(s, p, e) for s in (seed, seed - 1) for p in Purpose for e in (epoch, epoch + 1)]
    words = [int(word) for key in keys for word in philox(*key).random_raw(16)]
    assert len(set(words)) == len(words)


def test_the_streams_are_those_of_earlier_versions() -> None:
    assert [p.value for p in (Purpose.WEIGHTS, Purpose.ORDER, Purpose.DROPOUT)] == [1, 2, 3]
    assert philox(7, Purpose.DROPOUT, 3).random_raw(2).tolist() == [14782732156583515734, 1079830439501031960]
    assert EpochOrders(7, 10).order(3).tolist() == [0, 2, 7, 1, 6, 3, 4, 9, 5, 8]


@given(seeds, st.integers(0, 1_000), st.integers(1, 200))
def test_an_epochs_order_is_a_permutation(seed: int, epoch: int, rows: int) -> None:
    order = EpochOrders(seed, rows).order(epoch)
    assert sorted(order) == list(range(rows))


@given(seeds, st.lists(st.integers(0, 1_000), min_size=1, max_size=5), st.integers(1, 200))
def test_an_epochs_order_does_not_depend_on_earlier_ones(seed: int, epochs: list[int], rows: int) -> None:
    orders = EpochOrders(seed, rows)
    for epoch in epochs:
        expected = np.random.Generator(philox(seed, Purpose.ORDER, epoch)).permutation(rows)
        assert np.array_equal(orders.order(epoch), expected)


def test_every_epoch_has_another_order() -> None:
    orders = [tuple(EpochOrders(seed, 50).order(epoch)) for seed in range(5) for epoch in range(20)]
    assert len(set(orders)) == 100


def test_every_row_comes_first_equally_often() -> None:
    orders = EpochOrders(0, 5)
    first = [int(orders.order(epoch)[0]) for epoch in range(1_000)]
    assert stats.chisquare(np.bincount(first, minlength=5)).pvalue > 0.01


@given(seeds, st.integers(0, 100), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_dropout_words_do_not_depend_on_how_many_are_drawn(seed: int, epoch: int, counts: list[int]) -> None:
    one_by_one = DropoutStream(seed, epoch)
    parts = [one_by_one.words(1) for _ in range(sum(counts))]
    in_pieces = DropoutStream(seed, epoch)
    pieces = [in_pieces.words(count) for count in counts]
    whole = DropoutStream(seed, epoch).words(sum(counts))
    assert np.array_equal(whole, np.concatenate(parts))
    assert np.array_equal(whole, np.concatenate(pieces))


@given(seeds, st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6))
def test_each_mask_takes_whole_words(seed: int, shapes: list[tuple[int, int]]) -> None:
    stream = DropoutStream(seed, 4)
    masks = [stream.keep(rows, units, 0.3) for rows, units in shapes]
    needed = [-(-rows * units // 4) for rows, units in shapes]
    words = DropoutStream(seed, 4).words(sum(needed))
    for mask, (rows, units), part in zip(masks, shapes, np.split(words, np.cumsum(needed)[:-1]), strict=True):
        sixteen_bits = [(int(word) >> shift) & 0xFFFF for word in part for shift in (0, 16, 32, 48)]
        expected = [bits >= round(0.3 * 65536) for bits in sixteen_bits[: rows * units]]
        assert mask.shape == (rows, units)
        assert mask.ravel().tolist() == expected


@pytest.mark.parametrize("dropout", [0.01, 0.1, 0.5, 0.9])
def test_units_are_kept_with_their_probability(dropout: float) -> None:
    keep = DropoutStream(1, 0).keep(500, 200, dropout)
    assert stats.binomtest(int(keep.sum()), keep.size, 1 - dropout).pvalue > 0.01
    for counts, draws in ((keep.sum(axis=0), 500), (keep.sum(axis=1), 200)):  # no unit or row is favoured
        spread = float(((counts - draws * (1 - dropout)) ** 2).sum() / (draws * dropout * (1 - dropout)))
        assert 0.005 < stats.chi2.cdf(spread, len(counts)) < 0.995


def test_no_dropout_keeps_all() -> None:
    assert DropoutStream(1, 0).keep(1_000, 1_000, 0.0).all()  # a unit's bits are 0 about 15 times
    assert (dropout_threshold(0.0), dropout_threshold(0.5), dropout_threshold(1.0)) == (0, 32768, 65536)


@pytest.mark.parametrize(("activation", "gain"), [("relu", 2.0), ("tanh", 1.0)])
def test_weights_have_the_variance_of_their_activation(activation: str, gain: float) -> None:
    first, second, last = initial_weights(3, [400, 300, 200, 100], activation)
    for weights, n_in, expected in ((first, 400, gain), (second, 300, gain), (last, 200, 1.0)):
        assert weights.dtype == np.float32
        assert weights.shape[0] == n_in
        scaled = weights.ravel() * math.sqrt(n_in / expected)
        assert scaled.mean() == pytest.approx(0.0, abs=4 / math.sqrt(scaled.size))
        assert scaled.var() == pytest.approx(1.0, abs=6 / math.sqrt(scaled.size))
        assert stats.kstest(scaled, "norm").pvalue > 0.01


def test_softmax_weights_have_variance_one_over_inputs() -> None:
    (only,) = initial_weights(3, [400, 300], "relu")
    assert only.var() * 400 == pytest.approx(1.0, abs=0.03)


def test_weights_depend_on_the_seed_alone() -> None:
    sizes = [5, 4, 3]
    for one, again, other in zip(
        initial_weights(1, sizes, "relu"),
        initial_weights(1, sizes, "relu"),
        initial_weights(2, sizes, "relu"),
        strict=True,
    ):
        assert np.array_equal(one, again)
        assert not np.isclose(one, other).any()
