"""The ``ptshare`` command: one file a group of commands."""
