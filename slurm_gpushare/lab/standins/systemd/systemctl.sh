#!/bin/sh
# Installed in the place of systemd's own.
PYTHONPATH=/usr/src/slurm-gpushare PYTHONDONTWRITEBYTECODE=1 exec /usr/bin/python3 -m slurm_gpushare.lab.standins.systemd.systemctl "$@"
