"""Tests of caviar/training/module."""
