"""Benchmarks: how fast processors, memory, storage and network are, measured and kept."""
