"""The compiled CPU engine (Numba)."""
