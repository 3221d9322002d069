"""Benchmark cases; `osteolattice bench` runs them from a checkout."""
