-- The site's cli_filter.lua: functions of its own go above the last line, which keeps them and runs ours after them.
dofile("/etc/slurm/gpushare/cli_filter.lua")
