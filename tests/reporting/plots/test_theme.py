"""Tests of caviar/reporting/plots/theme.py: the colours of outcomes."""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from caviar.reporting.plots import theme

Numbers = npt.NDArray[np.float64]
COLORS = [*theme.COLORS.values(), theme.BEST]
VISION = {
    "normal": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
"""Linear RGB as it appears to people (Machado, Oliveira & Fernandes 2009)."""
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color: str) -> Numbers:
    shares = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(color: str, vision: str) -> Numbers:
    xyz = XYZ @ np.clip(np.array(VISION[vision]) @ linear(color), 0, 1) / XYZ.sum(axis=1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted(float(XYZ[1] @ linear(color)) for color in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("vision", VISION)
def test_colour_blind_people_can_tell_outcomes_apart(vision: str) -> None:
    for one, other in combinations(COLORS, 2):
        assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 20, (one, other)


@pytest.mark.parametrize("background", ["#ffffff", "#14171a"])
def test_colours_stand_out_from_light_and_dark_pages(background: str) -> None:
    for color in COLORS:
        assert contrast(color, background) >= 3, color


def test_few_points_are_sharp_and_many_are_fast() -> None:
    assert theme.trace_of(100).__name__ == "Scatter"
    assert theme.trace_of(5_000).__name__ == "Scattergl"
