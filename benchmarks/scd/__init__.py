"""Benchmarks of SCD type 2."""
