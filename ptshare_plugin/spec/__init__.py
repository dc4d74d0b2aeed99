"""What is asked for: a run, a program, a workload, a trace."""
