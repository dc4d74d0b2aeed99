"""The simulated machine: its keys and presets."""
