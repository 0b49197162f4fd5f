"""Tests of caviar/search."""
