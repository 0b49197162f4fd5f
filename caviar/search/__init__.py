"""The search: which trials to try next. It is pure: it reads no files and no clock, and does not import Ray."""
