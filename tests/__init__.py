"""Mirrors the package: what each module promises, as sentences."""
