"""What to try next: pure, no I/O, no clock, no Ray."""
