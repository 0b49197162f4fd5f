"""Sessions of `caviar panda`: one network, trained live, whose hyperparameters the user changes while it trains."""
