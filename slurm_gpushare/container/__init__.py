"""Containers: which runtime there is, what may be mounted, and the argv that results."""
