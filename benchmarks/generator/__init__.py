"""Benchmarks of the generator: how fast, how even, how repeatable."""
