"""Copies of a run in the formats of other tools: Optuna, TensorBoard, MLflow, CSV."""
