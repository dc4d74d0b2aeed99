"""Terminal, plots and pages."""
