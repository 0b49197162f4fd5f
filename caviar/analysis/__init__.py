"""Numbers from a saved run: importance, comparison, errors of the winner."""
