"""One file or folder a question."""
