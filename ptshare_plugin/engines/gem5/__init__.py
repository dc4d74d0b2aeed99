"""gem5 as an engine."""
