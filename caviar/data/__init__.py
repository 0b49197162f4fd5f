"""Data of classification problems: sources, train, dev and test splits, preprocessing."""
