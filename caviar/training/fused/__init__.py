"""The engine for GPUs: trains many networks of any shape at once, as one program."""
