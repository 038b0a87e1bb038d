"""The pool as it says it is, the pool as Slurm says it is, and what differs."""
