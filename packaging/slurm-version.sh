#!/bin/sh
# slurm-version.sh [INCLUDE]: major.minor of the Slurm whose headers lie in INCLUDE/slurm, such as 24.11.
header=${1:-/usr/include}/slurm/slurm_version.h
[ -e "$header" ] || header=${1:-/usr/include}/slurm/slurm.h
number=$(sed -n 's/^#define[[:space:]]*SLURM_VERSION_NUMBER[[:space:]]*\(0x[0-9a-fA-F]*\).*/\1/p' "$header")
[ -n "$number" ] || { echo "gpushare: no SLURM_VERSION_NUMBER in $header: install libslurm-dev (or slurm-devel)" >&2; exit 1; }
printf '%02d.%02d\n' $((number >> 16 & 255)) $((number >> 8 & 255))
