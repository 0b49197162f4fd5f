"""Sending a study to a cluster as a Ray job, following it, stopping it."""
