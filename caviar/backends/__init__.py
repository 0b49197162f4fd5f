"""Where trials run: in this process, on a simulated cluster, or on Ray."""
