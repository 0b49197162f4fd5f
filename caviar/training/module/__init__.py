"""The user's own torch modules as trials."""
