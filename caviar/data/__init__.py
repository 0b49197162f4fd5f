"""What trials learn from."""
