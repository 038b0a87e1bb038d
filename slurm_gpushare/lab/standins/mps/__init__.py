"""NVIDIA's MPS over the GPU stand-in: `nvidia-cuda-mps-control` with its daemon, and `nvidia-cuda-mps-server`.

``make install DESTDIR=D`` puts both programs under D/usr/bin; whoever needs them starts them as the originals:
``CUDA_MPS_PIPE_DIRECTORY=… CUDA_MPS_LOG_DIRECTORY=… CUDA_VISIBLE_DEVICES=GPU-… nvidia-cuda-mps-control -d``. The GPUs
are those of the GPU stand-in's daemon (``NVML_STANDIN_ENDPOINT``), which must run first. Its `gpu-workload` is the
client: it asks the daemon of its CUDA_MPS_PIPE_DIRECTORY, as CUDA does, and computes without MPS where none answers.

What the commands are is NVIDIA's documentation (Multi-Process Service, release 615); what it does not say is in
``assumed.py``. What the GPUs do about it (limits, lists of processes, faults) is the GPU stand-in's.
"""
