"""`gpushare gpu`: one GPU of a node, or a server of a pool, out of service and back, by means of Slurm's own."""
