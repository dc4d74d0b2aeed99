"""What executes a run: one file or folder an engine."""
