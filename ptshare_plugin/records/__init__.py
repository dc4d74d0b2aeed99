"""Everything that reads or writes results."""
