"""The driver of a study: pure decisions, and the loop that carries them out. It does not import Ray."""
