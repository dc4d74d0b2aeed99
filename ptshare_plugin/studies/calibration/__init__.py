"""What this machine's kernel takes, measured."""
