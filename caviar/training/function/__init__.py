"""Any Python function as a trial."""
