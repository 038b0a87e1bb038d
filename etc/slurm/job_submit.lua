-- The site's job_submit.lua: functions of its own go above the last line, which keeps them and runs ours after them.
dofile("/etc/slurm/gpushare/job_submit.lua")
