"""GPUs that exist only as a state: an engine, the daemon that serves it, an NVML library and a workload program."""
