"""A fraction of a GPU as an ordinary Slurm resource."""

__version__ = "0.1.0"
