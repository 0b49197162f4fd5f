"""Files on a disk or in an object store: atomic, locked, and the same to every caller."""
