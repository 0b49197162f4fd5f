"""The quiz at the end of the lectures: each question in our words, its answer, and what an experiment here found.

    python experiments/lecture/gallery.py    # writes QUIZ.md, beside README.md

The answers are sentences of ours; the evidence is read from results/.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Question:
    """A question of the quiz."""

    asks: str
    answer: str
    evidence: Mapping[str, str]
    """For each experiment that measured it, by its number, words of the sentences to quote; all if empty."""


QUESTIONS = (
    Question(
        "With many hyperparameters, is it better to try the points of a grid than points at random?",
        "No. n points of a grid try few values of each hyperparameter, n random points try n.",
        {"02": ""},
    ),
    Question(
        "Does every hyperparameter do great harm if it is set badly, so that all deserve the same effort?",
        "No. A few decide most of the result, above all the learning rate.",
        {"01": ""},
    ),
    Question(
        "What decides whether to look after one model day by day (panda) or to train many in parallel (caviar)?",
        "The computing power that you have. `caviar plan` measures what a trial costs and says which way fits.",
        {"06": ""},
    ),
    Question(
        "The best momentum is thought to be between 0.9 and 0.99. How should it be drawn?",
        "So that each decade of 1 - beta is equally likely: beta = 1 - 10^(-1 - r) with r uniform between 0 and 1. In "
        "caviar this is `cv.reverse_log(0.9, 0.99)`. What it gains depends on where the best momenta lie.",
        {"04": ""},
    ),
    Question(
        "Once good hyperparameters are found, is tuning done for good?",
        "No. When data, model or machines change, the best may be elsewhere. `caviar retune` measures whether it is.",
        {"05": ""},
    ),
    Question(
        "What does batch norm normalise in a layer?",
        "z, what goes into the activation, before the activation is applied.",
        {"07": "of z are"},
    ),
    Question(
        "Why is there an epsilon in the formula of the normalised z?",
        "It keeps the division defined where the variance of a mini-batch is zero, or nearly.",
        {"07": "epsilon"},
    ),
    Question(
        "What is true of batch norm's gamma and beta?",
        "They set the standard deviation and the mean of what goes into the activation, one pair a unit, and they are "
        "learned like weights, by gradient descent, momentum, RMSprop or Adam.",
        {"07": "learned gamma"},
    ),
    Question(
        "After training with batch norm, with which mean and variance is one new example normalised?",
        "With the exponentially weighted averages of those of the mini-batches, gathered during training.",
        {"11": ""},
    ),
    Question(
        "What do frameworks for deep learning offer?",
        "The same network in less code. A framework should also stay open: being open source today is not enough, it "
        "matters who governs it. (That part no experiment can measure.)",
        {"14": ""},
    ),
)


def page(results: Path) -> str:
    """Return the page of questions and answers, with the evidence from a folder of results."""
    return "\n".join([_HEAD, *(_section(number, one, results) for number, one in enumerate(QUESTIONS, 1))])


_HEAD = """# The quiz, answered by measurements

The ten questions of the quiz on hyperparameter tuning, batch normalisation and frameworks, in our words. Below each
answer is what was measured; the figures are in the [gallery](README.md).
"""


def _section(number: int, question: Question, results: Path) -> str:
    lines = [f"## {number}. {question.asks}\n", f"{question.answer}\n"]
    for experiment, words in question.evidence.items():
        for path in sorted(results.glob(f"{experiment}_*.json")):
            quoted = quote(json.loads(path.read_text())["found"], words)
            lines.append(f"> {quoted} ([{path.stem}.py]({path.stem}.py))\n")
    return "\n".join(lines)


def quote(found: str, words: str) -> str:
    """Return the sentences that hold these words.

    Raises:
        ValueError: no sentence does.
    """
    sentences = [sentence for sentence in re.split(r"(?<=\.) (?=[A-Z])", found) if words in sentence]
    if not sentences:
        raise ValueError(f"no sentence holds {words!r}: {found}")
    return " ".join(sentences)
