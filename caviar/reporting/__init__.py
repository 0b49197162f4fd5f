"""What people look at: live progress and the summary of a run."""
