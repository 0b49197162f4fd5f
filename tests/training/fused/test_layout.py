"""Memory of a lane: arrays that do not overlap."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from caviar.training.fused.layout import ALIGNMENT, Field, lay_out
from caviar.training.recipe import OPTIMIZERS, Recipe


@given(
    widths=st.lists(st.integers(1, 70), max_size=4),
    features=st.integers(1, 40),
    rows=st.integers(1, 50),
    optimizer=st.sampled_from(OPTIMIZERS),
    batch_norm=st.booleans(),
)
def test_arrays_do_not_overlap(
    widths: list[int], features: int, rows: int, optimizer: str, batch_norm: bool
) -> None:
    recipe = Recipe(layers=len(widths), widths=tuple(widths), optimizer=optimizer, batch_norm=batch_norm)
    layout = lay_out(recipe, [features, *widths, 3], rows)
    uses = np.zeros(layout.size, dtype=int)
    for view in layout.state_views(uses).values():
        view += 1
    assert not uses[layout.state :].any()
    for row in layout.table:
        for field in (Field.MEAN, Field.INVERSE_STD):
            uses[row[field] :][: row[Field.UNITS]] += 1
        for field in (Field.Z, Field.A, Field.DZ):
            uses[row[field] :][: rows * row[Field.STRIDE]] += 1
    assert uses.max() == 1
    assert not (layout.table[:, Field.WEIGHT :] % ALIGNMENT).any()
