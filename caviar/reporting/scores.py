"""The scores of a winner on the test split, as rows of a table."""

from caviar.records.frames import Run
from caviar.records.winner import Baseline, Best
from caviar.reporting.formatting import metric_text, score_text, test_origin, test_rows_text


def score_rows(run: Run, best: Best) -> list[tuple[str, str]]:
    """Return a row for each score of the winner that says more than the search: on the test split, and of a guess."""
    rows = []
    if best.test_accuracy is not None:
        score = score_text(best.test_accuracy, best.test_interval)
        rows.append(("test", f"accuracy {score} ({test_rows_text(best)})"))
    if best.test_value is not None:
        rows.append(("test", f"{metric_text(best.test_value)} ({test_origin(run.metric, best)})"))
    if best.baseline is not None:
        rows.append(("baseline", _baseline_text(best.baseline)))
    return rows


def _baseline_text(baseline: Baseline) -> str:
    accuracies = [f"dev {metric_text(baseline.dev_accuracy)}"]
    if baseline.test_accuracy is not None:
        accuracies.append(f"test {metric_text(baseline.test_accuracy)}")
    return f"accuracy {', '.join(accuracies)} (always {baseline.label}, the most frequent class)"
