"""The ground: errors, units, files, progress."""
