"""What jobs used: the door to NVML, attribution, the agent of a node and the sampler of a pool's allocation."""
