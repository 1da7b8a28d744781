"""Everything that starts processes: the supervisor of `make run` and the command of every container."""
