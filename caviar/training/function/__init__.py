"""Objective and engine for any Python function."""
