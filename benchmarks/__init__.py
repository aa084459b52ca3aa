"""Benchmarks: ratios measured in one run, because absolute times mean little on shared machines."""
