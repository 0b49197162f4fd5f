"""Tests of caviar/training."""
