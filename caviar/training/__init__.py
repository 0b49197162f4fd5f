"""Training of a trial: the recipe, the engines, and the objectives that use them."""
