"""A copy of a run's trials in Weights & Biases, as an example of a tool that `caviar export` does not know.

pip install wandb
python experiments/to_wandb.py runs/digits
"""

import sys

import pandas as pd
import wandb

import caviar as cv

run = cv.load(sys.argv[1])
curves = dict(iter(run.curves.groupby("trial")))
for row in run.trials.to_dict("records"):
    cells = {name: row[f"params_{name}"] for name in run.space}
    params = {name: cell for name, cell in cells.items() if pd.notna(cell)}
    title = f"{row['stage']} trial {row['trial']}"
    with wandb.init(project=run.study["name"], group=row["stage"], name=title, config=params) as copy:
        for point in curves.get(row["trial"], pd.DataFrame()).to_dict("records"):
            copy.log({metric: point[metric] for metric in run.metrics}, step=point["epoch"])
        copy.summary.update({"outcome": row["outcome"], "value": row["value"]})
