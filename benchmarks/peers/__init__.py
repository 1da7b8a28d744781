"""What one would write without Foretell: the applications that the benchmarks run beside it."""
