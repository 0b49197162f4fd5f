"""Ray workers: the only package besides `caviar.submission` that imports Ray."""
