"""Many runs from one file: checked whole, executed by Dask, resumed after any interruption."""
