"""Workers on a Ray cluster. Only this package and `caviar.submission` import Ray."""
