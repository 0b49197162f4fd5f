"""CPU engine for batch-norm/softmax networks, compiled by Numba."""
