#!/bin/sh
# in-use.sh PREFIX SLURM_CONFIG_DIR: fails, with a line for each file, while Slurm's configuration names what would go.
# Without these files slurmd would drain its node at the next job, and srun would start none.
prefix=$1 slurm=$2
found=$(cd "$slurm" 2>/dev/null || exit
    grep -slE "^[^#]*($prefix/|gpushare\.so)" ./*.conf ./plugstack.conf.d/* ./prolog* ./epilog* ./prolog.d/* ./epilog.d/*
    grep -slE '^[^-]*gpushare/(job_submit|cli_filter)\.lua' ./job_submit.lua ./cli_filter.lua)
for file in $found; do
    echo "gpushare: $slurm/${file#./} still names slurm-gpushare: take that out, then scontrol reconfigure (docs/install.md, Remove)" >&2
done
[ -z "$found" ]
