"""The framework of the benchmarks: what a workload is, how contestants are run, timed and reported."""
