"""symgraph beside its peers and beside hand-written kernels, on the same work: ``python -m benchmarks``."""
