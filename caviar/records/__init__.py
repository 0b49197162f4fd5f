"""Run directories: their tables, their JSON files, the trained network, and copies of them."""
