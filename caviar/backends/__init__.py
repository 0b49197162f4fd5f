"""Workers: in this process, on a simulated cluster, or on Ray."""
