/* What this stand-in does that LUPINE's documentation does not say, or that is simpler here than there.
 *
 * Documented, and done here: a server listens on LUPINE_PORT (14833); programs find libcuda.so.1 and libnvidia-ml.so.1
 * in /opt/lupine/lib; LUPINE_SERVER is HOST[:PORT] with or without http://; LUPINE_DISABLE_LOCAL keeps the node's own
 * GPUs out; the driver shim, not NVML, follows CUDA_VISIBLE_DEVICES; each connection has a process of its own on the
 * server, which ends with it and frees what it had; nothing limits a client.
 *
 * | subject | here | why |
 * |---|---|---|
 * | several servers in LUPINE_SERVER, https:// | refused | a job's allocation lies on one server |
 * | LUPINE_DISABLE_LOCAL unset or 0 | refused | there, GPUs of the node would come first; here nobody has them beside |
 * | a LUPINE_ variable that is not listed below | refused | a misspelt one would do nothing |
 * | the name of a GPU | without "(via lupine HOST)" | the wording is not documented as stable |
 * | a server that does not answer | CUDA_ERROR_NO_DEVICE at once | release 2.0.1 tries for 31 s, and cuInit succeeds |
 * | what a process computes | nothing: libcuda.so.1 here has devices and memory alone | no test needs more |
 * | processes that NVML lists | numbers of the server's own, from ASSUMED_FIRST_CHILD on | there, pids of its children |
 * | a lost connection | CUDA_ERROR_DEVICE_UNAVAILABLE from then on | seen in a report; the rest is not documented |
 */
#ifndef LUPINE_STANDIN_ASSUMED_H
#define LUPINE_STANDIN_ASSUMED_H

#define ASSUMED_FIRST_CHILD 40000

/* Those that the libraries of release 2.0.1 read. */
#define ASSUMED_CLIENT_VARIABLES                                                                                       \
    "LUPINE_SERVER", "LUPINE_DISABLE_LOCAL", "LUPINE_SESSION", "LUPINE_TRACE", "LUPINE_DEBUG", "LUPINE_LOG_LEVEL",     \
        "LUPINE_RPC_STATS", "LUPINE_REAL_LIBCUDA", "LUPINE_STUB_MISSING", "LUPINE_STUB_PRIVATE_EXPORTS",               \
        "LUPINE_PRIVATE_EXPORT_TABLES", "LUPINE_REMOTE_PRIVATE_EXPORTS", "LUPINE_CUDART_TRACE"

#endif
