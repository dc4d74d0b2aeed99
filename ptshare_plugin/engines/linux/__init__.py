"""Real Linux as an engine: processes on this machine's kernel, and what that kernel counts."""
