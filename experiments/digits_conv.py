"""A search over convolutional networks for handwritten digits, with a torch module of our own (see digits.py).

caviar run experiments/digits_conv.py        or        python experiments/digits_conv.py
"""

from typing import Any

from torch import Tensor, nn

import caviar as cv


class Convolutions(nn.Module):
    """A few convolutions with batch norm, the mean or maximum over the image, and a linear layer."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
        channels = params["channels"]
        for number in range(params["convolutions"]):
            layers += [
                nn.LazyConv2d(channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            if number == 0:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(params["dropout"]))
        self.output = nn.LazyLinear(10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.output(self.features(x))
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
        batch_size=cv.choice(32, 64, 128),
        l2=cv.log(1e-6, 1e-2),
        convolutions=cv.integer(1, 3),
        channels=cv.integer(8, 48, scale="log"),
        dropout=cv.linear(0.0, 0.6),
    ),
    rounds=cv.coarse_to_fine(trials=100, epochs=20),
    seed=0,
)

if __name__ == "__main__":
    study.run()
