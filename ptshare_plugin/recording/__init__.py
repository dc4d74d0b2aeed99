"""Recordings of real programs: made under Valgrind, kept as a folder, looked at."""
