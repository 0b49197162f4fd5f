"""Suggestions for a training that somebody watches: what its curve looks like, and which command may help.

Each rule looks at the last epochs and says the numbers that it saw. A noisy curve is compared by the means of its
halves, and a difference counts only beyond the noise. The rules are tried in the order of urgency, and the first that
applies is shown.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from caviar.trial import Value

WINDOW = 6
"""Epochs from which plateaus and trends are told."""
PATIENCE = 4
"""Epochs for which the dev loss must have been above its minimum before it counts as overfitting."""
MIN_RISE = 0.06
"""Share by which a loss must have risen before it counts."""
MIN_FALL = 0.01
"""Share of a loss below which its change over a window counts as none."""
SETTLING = 3
"""Epochs after a change from which its harm is told."""
HARM = 1.5
"""Factor from which a loss is far above what it was before a change."""
MIN_SWING = 0.05
"""Swing of the train loss from epoch to epoch, as a share of its first value, from which it counts."""
FAST_FALL = 0.1
"""Share of a loss below which its fall over a window counts as slow."""
STILL_HIGH = 0.7
"""Share of the first train loss above which a loss that falls slowly has not got far."""
RATE_NAMES = ("learning_rate", "lr", "eta")
"""Names under which a learning rate is looked for."""
REGULARIZERS = (("dropout", 0.2, 0.1), ("l2", 1e-3, 0.0), ("weight_decay", 1e-3, 0.0))
"""Names of what regularises, each with a first value, and what is added to a value that is there already; with 0
there, it is multiplied by 3."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """The epochs that led to the present state. Smaller numbers are better."""

    epochs: Sequence[int]
    train: Sequence[float]
    """Loss on the train split; empty if it is not measured."""
    dev: Sequence[float]
    """Loss on the dev split, or the ranking metric, negated if larger values are better."""
    dev_name: str = "dev_loss"
    dev_sign: int = 1
    """-1 if `dev` is negated."""
    params: Mapping[str, Value] = field(default_factory=dict)
    """Hyperparameters that may change."""
    since: int = 0
    """Epoch of the last change of a hyperparameter; plateaus before it do not count."""
    diverged: str | None = None
    """Reason why the training diverged; None if it did not."""
    rate: float | None = None
    """Learning rate of the last epoch, by its schedule."""

    def usable(self) -> "Curve":
        """Return the curve without epochs whose numbers are not finite, and without the one that diverged."""
        if self.diverged is not None:
            lasting = replace(self, epochs=self.epochs[:-1], train=self.train[:-1], dev=self.dev[:-1])
            return lasting._finite()
        return self._finite()

    def _finite(self) -> "Curve":
        """Return the curve without epochs whose numbers are not finite."""
        train = self.train if len(self.train) == len(self.dev) else ()
        kept = [
            i for i in range(len(self.dev)) if all(math.isfinite(v[i]) for v in (self.dev, train or self.dev))
        ]
        return replace(
            self,
            epochs=[self.epochs[i] for i in kept],
            dev=[self.dev[i] for i in kept],
            train=[train[i] for i in kept] if train else [],
        )


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A suggestion: what the curve looks like, with the numbers seen, and lines of commands that may help."""

    kind: str
    reason: str
    commands: tuple[str, ...]


def suggest(curve: Curve) -> Suggestion | None:
    """Return the most urgent suggestion; None if the training looks well.

    Example:
        >>> falling = [2.0 * 0.7**epoch + 0.1 for epoch in range(10)]
        >>> suggest(Curve(range(1, 11), falling, falling))
    """
    curve = curve.usable()
    rules: tuple[Callable[[Curve], Suggestion | None], ...] = (
        _diverged,
        _exploding,
        _worse_since_the_change,
        _overfits,
        _rate_too_high,
        _rate_too_low,
        _plateau,
    )
    return next((found for rule in rules if (found := rule(curve)) is not None), None)


def _diverged(curve: Curve) -> Suggestion | None:
    if curve.diverged is None:
        return None
    best = _best(curve)
    back = "back 0" if best is None else f"back {best}"
    commands = _sequence(back, *_rate(curve, "/10"), "go")
    return Suggestion("diverged", f"the training diverged ({curve.diverged})", commands)


def _exploding(curve: Curve) -> Suggestion | None:
    """Return a suggestion if the train loss is far above where it was."""
    if len(curve.train) < 2:
        return None
    lowest, last = min(curve.train), curve.train[-1]
    if lowest <= 0 or last < 2 * lowest or last < curve.train[0]:
        return None
    reason = f"train_loss rose to {last:.3g}, from {lowest:.3g} at epoch {curve.epochs[_argmin(curve.train)]}"
    back = f"back {curve.epochs[_argmin(curve.train)]}"
    return Suggestion("exploding", reason, _sequence(back, *_rate(curve, "/10"), "go"))


def _worse_since_the_change(curve: Curve) -> Suggestion | None:
    """Return a suggestion if both losses are far above what they were before a hyperparameter changed."""
    before = [place for place, epoch in enumerate(curve.epochs) if epoch <= curve.since]
    since = len(curve.epochs) - len(before)
    if not before or since < SETTLING or not curve.train:
        return None
    at = before[-1]
    dev, train = (values[at] for values in (curve.dev, curve.train))
    worst_dev, worst_train = min(curve.dev[at + 1 :]), min(curve.train[-SETTLING:])
    if curve.dev_sign < 0 or worst_dev < HARM * dev or worst_train < HARM * train:
        return None
    reason = (
        f"since the change after epoch {curve.since} {curve.dev_name} rose from {dev:.3g} to {curve.dev[-1]:.3g} and "
        f"train_loss from {train:.3g} to {curve.train[-1]:.3g}"
    )
    return Suggestion(
        "worse since the change", reason, _sequence(f"back {curve.since}", *_rate(curve, "/3"), "go")
    )


def _overfits(curve: Curve) -> Suggestion | None:
    """Return a suggestion if the dev loss has risen for a while, and the train loss fell meanwhile."""
    if len(curve.dev) <= PATIENCE or not curve.train:
        return None
    at = _argmin(curve.dev)
    if len(curve.dev) - 1 - at < PATIENCE:
        return None
    low, now = curve.dev[at], float(np.mean(curve.dev[-2:]))
    noise = _noise(np.asarray(curve.dev[max(0, at - WINDOW) :]))
    trained, before = float(np.mean(curve.train[-2:])), curve.train[at]
    is_rising = now - low > max(MIN_RISE * abs(low), 3 * noise)
    if not is_rising or trained > before * (1 - MIN_FALL):
        return None
    change = "rose" if curve.dev_sign > 0 else "fell"
    reason = (
        f"overfitting: {curve.dev_name} {change} from {curve.dev_sign * low:.4g} (epoch {curve.epochs[at]}) to "
        f"{curve.dev_sign * now:.4g}, while train_loss fell from {before:.3g} to {trained:.3g}"
    )
    commands = _sequence(f"back {curve.epochs[at]}", *_regularize(curve), "go")
    return Suggestion("overfitting", reason, commands)


def _rate_too_high(curve: Curve) -> Suggestion | None:
    """Return a suggestion if the train loss jumps up and down and does not fall."""
    window = _train_window(curve)
    if window is None:
        return None
    rises = int((window.steps > MIN_FALL * window.losses[:-1]).sum())
    is_falling = window.first - window.second > window.swing
    if rises < (len(window.steps) + 1) // 3 or is_falling or window.swing < MIN_SWING * curve.train[0]:
        return None
    reason = (
        f"train_loss swings by {window.swing:.2g} an epoch and rose in {rises} of {len(window.steps)}, and its mean "
        f"went from {window.first:.3g} to {window.second:.3g}: the learning rate{_rate_text(curve)} seems too high"
    )
    return Suggestion("rate too high", reason, _rate(curve, "/3"))


def _rate_too_low(curve: Curve) -> Suggestion | None:
    """Return a suggestion if the train loss falls slowly and without swings, and is still near its first value."""
    window = _train_window(curve)
    if window is None or curve.train[0] <= 0:
        return None
    left = window.second / curve.train[0]
    is_slow = 0 <= window.first - window.second < FAST_FALL / 2 * window.first
    if not is_slow or window.swing >= MIN_SWING * curve.train[0] or left < STILL_HIGH:
        return None
    reason = (
        f"train_loss is still {left:.0%} of its first value ({window.losses[-1]:.3g}) and fell by "
        f"{1 - window.second / window.first:.1%} within the last {len(window.losses)} epochs: the learning rate"
        f"{_rate_text(curve)} seems too low"
    )
    return Suggestion("rate too low", reason, _rate(curve, "*3"))


def _plateau(curve: Curve) -> Suggestion | None:
    """Return a suggestion if neither loss changes beyond its noise."""
    dev = np.asarray(_recent(curve, curve.dev), float)
    if len(dev) < WINDOW:
        return None
    train = np.asarray(_recent(curve, curve.train), float) if curve.train else dev
    if not (_is_flat(dev) and _is_flat(train)):
        return None
    before, after = (curve.dev_sign * mean for mean in _halves(dev))
    reason = f"{curve.dev_name} has hardly changed in {len(dev)} epochs (mean {before:.4g}, then {after:.4g})"
    if curve.train:
        reason += f", nor has train_loss ({train[-1]:.3g})"
    return Suggestion("plateau", reason, (*_rate(curve, "/3"), *_rate(curve, "*3")))


@dataclass(frozen=True, slots=True)
class _TrainWindow:
    """The last train losses, and how they move."""

    losses: Array
    steps: Array
    """Changes from epoch to epoch."""
    first: float
    """Mean of the first half."""
    second: float
    swing: float
    """Mean size of a step."""


def _train_window(curve: Curve) -> _TrainWindow | None:
    """Return the last train losses since a hyperparameter changed; None if there are too few."""
    losses = np.asarray(_recent(curve, curve.train), float)
    if len(losses) < WINDOW:
        return None
    steps, (first, second) = np.diff(losses), _halves(losses)
    return _TrainWindow(losses, steps, first, second, swing=float(np.abs(steps).mean()))


def _halves(values: Array) -> tuple[float, float]:
    """Return the means of the first and the second half."""
    half = len(values) // 2
    return float(values[:half].mean()), float(values[half:].mean())


def _sequence(*commands: str) -> tuple[str, ...]:
    """Return commands that belong together as one line."""
    return ("; ".join(commands),)


def _recent(curve: Curve, values: Sequence[float]) -> list[float]:
    """Return the last values, of at most a window, since the last change of a hyperparameter."""
    kept = [v for epoch, v in zip(curve.epochs, values, strict=False) if epoch > curve.since]
    return kept[-WINDOW:]


def _is_flat(values: Array) -> bool:
    """Return whether the means of both halves differ by no more than the noise, or hardly at all."""
    first, second = _halves(values)
    scale = max(abs(first), abs(second), 1e-12)
    return (
        abs(second - first) <= max(MIN_FALL * scale / 2, 0.5 * _noise(values))
        and _noise(values) < 0.2 * scale
    )


def _noise(values: Array) -> float:
    """Return the standard deviation of values around their trend."""
    if len(values) < 4:
        return 0.0
    return float(np.std(np.diff(values, n=2)) / math.sqrt(6))


def _argmin(values: Sequence[float]) -> int:
    """Return the place of the smallest value."""
    return min(range(len(values)), key=lambda place: values[place])


def _best(curve: Curve) -> int | None:
    """Return the epoch with the best value."""
    return curve.epochs[_argmin(curve.dev)] if curve.dev else None


def _rate(curve: Curve, change: str) -> tuple[str, ...]:
    """Return the command that changes the learning rate, if it may change."""
    name = next((name for name in RATE_NAMES if name in curve.params), None)
    value = None if name is None else curve.params[name]
    if not isinstance(value, int | float) or not value:
        return ()
    return (f"{name} {change}",)


def _rate_text(curve: Curve) -> str:
    return "" if curve.rate is None or not math.isfinite(curve.rate) else f" {curve.rate:.3g}"


def _regularize(curve: Curve) -> tuple[str, ...]:
    """Return the command that regularises more, if something that does may change."""
    for name, first, added in REGULARIZERS:
        value = curve.params.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not value:
            return (f"{name} {first:g}",)
        more = min(value + added, 0.9) if added else value * 3
        if more > value:
            return (f"{name} {more:.3g}",)
    return ()
