"""Looking at saved runs, without Ray or torch."""
