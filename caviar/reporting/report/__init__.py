"""The report of a run: one page of HTML that holds all it needs and asks nothing from the network."""
