"""One run: its options, and executing it."""
