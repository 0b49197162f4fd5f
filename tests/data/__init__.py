"""Tests of caviar/data."""
