"""One optimizer for the stacked parameters of many modules, each with numbers of its own.

It computes what the optimizers of torch.optim compute for each module alone, in the same order of operations.

Shape legend: K lanes, ... the shape of a parameter.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from caviar.training.recipe import Recipe

AVERAGES = {
    "sgd": (),
    "momentum": ("momentum_buffer",),
    "rmsprop": ("square_avg",),
    "adam": ("exp_avg", "exp_avg_sq"),
}
"""Running averages that each optimizer keeps, as torch.optim names them."""


class StackedOptimizer:
    """Updates of stacked parameters.

    Args:
        recipes: recipe of each lane, with one optimizer for all.
        optimizers: optimizer of each lane; their states become parts of the stacked ones.
        named: parameters of each lane by name.
        stacked: the same parameters, stacked: (K, ...).
    """

    def __init__(
        self,
        recipes: Sequence[Recipe],
        optimizers: Sequence[torch.optim.Optimizer],
        named: Sequence[Mapping[str, nn.Parameter]],
        stacked: Mapping[str, Tensor],
    ) -> None:
        self._kind, self._recipes, self._parameters = recipes[0].optimizer, recipes, stacked
        self._states = [
            {name: _state(optimizer, lane[name], self._kind) for name in stacked}
            for optimizer, lane in zip(optimizers, named, strict=True)
        ]
        self._averages: dict[str, dict[str, Tensor]] = {name: {} for name in AVERAGES[self._kind]}
        for average, by_name in self._averages.items():
            for name in stacked:
                by_name[name] = torch.stack([state[name][average] for state in self._states])
                for lane, state in enumerate(self._states):
                    state[name][average] = by_name[name][lane]
        first = next(iter(stacked))
        self._steps = [int(state[first].get("step", 0)) for state in self._states]
        self._rates: Sequence[float] = ()

    def set_rates(self, rates: Sequence[float]) -> None:
        """Set the learning rate of each lane for the next steps."""
        self._rates = rates

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Update the parameters.

        Args:
            gradients: gradient of each lane's loss (K, ...), by the name of the parameter.
        """
        self._steps = [step + 1 for step in self._steps]
        recipes, rates = self._recipes, self._rates
        if self._kind == "adam":
            rates = [rate / (1 - r.beta1**t) for rate, r, t in zip(rates, recipes, self._steps, strict=True)]
            roots = [(1 - r.beta2**t) ** 0.5 for r, t in zip(recipes, self._steps, strict=True)]
        for name, gradient in gradients.items():
            w = self._parameters[name]

            def column(values: Sequence[float], like: Tensor = w) -> Tensor:
                column = torch.tensor(values, dtype=like.dtype, device=like.device)
                return column.reshape(-1, *(1 for _ in like.shape[1:]))

            if w.dim() > 2 and any(
                recipe.l2 for recipe in recipes
            ):  # (K, ...) of two or more dimensions a lane
                gradient = gradient + column([recipe.l2 for recipe in recipes]) * w
            if self._kind == "sgd":
                w -= column(rates) * gradient
            elif self._kind == "momentum":
                m = self._averages["momentum_buffer"][name]
                m.mul_(column([recipe.momentum for recipe in recipes])).add_(gradient)
                w -= column(rates) * m
            else:
                square = "exp_avg_sq" if self._kind == "adam" else "square_avg"
                v = self._averages[square][name]
                v.mul_(column([recipe.beta2 for recipe in recipes]))
                v.addcmul_(column([1 - recipe.beta2 for recipe in recipes]) * gradient, gradient)
                epsilon = column([recipe.epsilon for recipe in recipes])
                if self._kind == "rmsprop":
                    w -= column(rates) * gradient / (v.sqrt() + epsilon)
                else:
                    m = self._averages["exp_avg"][name]
                    m.lerp_(gradient, column([1 - recipe.beta1 for recipe in recipes]))
                    w -= column(rates) * m / (v.sqrt() / column(roots) + epsilon)

    def finish(self) -> None:
        """Note the steps taken in the states of the lanes' own optimizers."""
        if self._kind in ("rmsprop", "adam"):
            for state, step in zip(self._states, self._steps, strict=True):
                for values in state.values():
                    values["step"] = torch.tensor(float(step))


def _state(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, kind: str) -> dict[str, Tensor]:
    """Return the state of a parameter in its optimizer, with averages of zero before the first step."""
    state: dict[str, Tensor] = optimizer.state[parameter]
    for average in AVERAGES[kind]:
        if state.get(average) is None:
            state[average] = torch.zeros_like(parameter)
    return state
