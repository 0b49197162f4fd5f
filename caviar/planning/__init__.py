"""Planning: what a study will take, from the measured cost of some of its trials."""
