"""A search over convolutional networks for handwritten digits, with a torch module of our own.

caviar run experiments/digits_conv.py        or        python experiments/digits_conv.py

Against the fully connected networks of digits.py, over five splits (split_seed 0 to 4), two workers each:

                      confirmed dev accuracy    test accuracy      trials    time
    digits_conv.py    0.9908 (0.9958)           0.9844 (0.9833)        51    0.80
    digits.py         0.9874 (0.9903)           0.9805 (0.9861)       401    1

Means over the splits, and in brackets split 0, which the scripts use; one test row of a split is 0.0028. The time is
the ratio of the medians of three runs of each, interleaved, on two cores of an AMD EPYC (Zen 4) that others used too.
"""

from typing import Any

from torch import Tensor, nn

import caviar as cv


class Convolutions(nn.Module):
    """Convolutions with batch norm, each with more channels than the one before, then dropout and a linear layer."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
        for number in range(1, params["convolutions"] + 1):
            channels = number * params["channels"]
            layers += [nn.LazyConv2d(channels, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(params["dropout"]), nn.LazyLinear(10))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


study = cv.Study(
    name="digits_conv",
    objective=cv.Module(
        Convolutions,
        data="sklearn:digits",
        preprocess="scale",
        fixed={"optimizer": "adam", "decay": "cosine"},
    ),
    space=cv.Space(
        learning_rate=cv.log(1e-3, 0.1),
        beta1=cv.reverse_log(0.8, 0.99),
        batch_size=cv.choice(64, 128, 256),
        l2=cv.log(1e-5, 1e-2),
        convolutions=cv.integer(1, 3),
        channels=cv.integer(8, 24, scale="log"),
        dropout=cv.linear(0.2, 0.7),
    ),
    rounds=cv.coarse_to_fine(trials=50, epochs=14),
    seed=0,
)

if __name__ == "__main__":
    study.run()
