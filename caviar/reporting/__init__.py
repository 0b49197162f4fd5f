"""Live progress and the summary of a run in the terminal."""
