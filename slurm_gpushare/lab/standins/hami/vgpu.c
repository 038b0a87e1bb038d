/*
 * A stand-in for HAMi-core's libvgpu.so: there to be loaded, and nothing else.
 *
 * The original takes CUDA's driver calls over and holds a process to CUDA_DEVICE_MEMORY_LIMIT_N and
 * CUDA_DEVICE_SM_LIMIT (README of Project-HAMi/HAMi-core). The lab has no CUDA whose calls could be taken over, so
 * nothing is limited and nothing recorded here: a lab shows that the library is loaded into a job's programs and which
 * limits they were given, not that they hold. Its only symbol is how a program can tell.
 */
const char gpushare_hami_standin[] = "stand-in of libvgpu.so: limits nothing";
