"""The vocabulary of metrics. ``vocabulary.py`` says how to add one."""
