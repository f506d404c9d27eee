"""Benchmarks: ratios of times measured side by side in one run, compilation apart."""
