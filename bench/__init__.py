"""Benchmarks: what slurm-gpushare costs, against a peer or a floor measured in the same run (docs/benchmarks.md)."""
