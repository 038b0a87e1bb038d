/* Everything in this stand-in that is not publicly known about Bitfusion, in one table. The server reads it too
 * (assumed.py).
 *
 * What is recorded elsewhere in this folder as fact comes from public documentation and from terminal output that
 * people published. Each line below, comment or definition, is a choice of ours: nobody should draw conclusions about
 * the original from it. */
#ifndef BITFUSION_STANDIN_ASSUMED_H
#define BITFUSION_STANDIN_ASSUMED_H

/* Exit statuses: known is only that "Error: ..." is what a Go program prints before it fails. The command's own status
 * is passed on. */
#define ASSUMED_EXIT_ERROR 1
#define ASSUMED_EXIT_SIGNAL_BASE 128

/* A client "spins for a time" while the pool is full: how long, and how often it asks. A server's wait_seconds
 * overrides the first. */
#define ASSUMED_WAIT_SECONDS 1800
#define ASSUMED_RETRY_MILLISECONDS 200
/* It gives up before that when no server answered so many times in a row. */
#define ASSUMED_FAILED_TRIES 5

/* Wording where none is public. */
#define ASSUMED_TEXT_FULL "Error: resources not available: no server had %d GPUs with %s free within %d seconds.\n"
#define ASSUMED_TEXT_WAITING "Resources not available, retrying for %d seconds..."
#define ASSUMED_TEXT_LOST "Error: lost contact with the servers while requesting GPUs.\n"
#define ASSUMED_TEXT_NEVER "Error: no server has %d GPUs with %s that match the request.\n"
#define ASSUMED_TEXT_FRACTION "invalid argument \"%s\" for \"-p\" flag: must be greater than 0.0 and at most 1.0"
#define ASSUMED_TEXT_EXCLUSIVE "only one of -p and -m can be given"
#define ASSUMED_TEXT_FILTER "invalid argument \"%s\" for \"--filter\" flag: must be KEY=VALUE with one of the keys %s"
#define ASSUMED_TEXT_NO_COMMAND "requires a command to run"
#define ASSUMED_TEXT_NO_ALLOCATION                                                                                     \
    "Error: no GPUs are allocated: found no valid allocation file in %s; run request_gpus first.\n"
#define ASSUMED_TEXT_GONE "The allocation of '%s' was already released"
#define ASSUMED_TEXT_NOT_RELEASED "Unable to release GPUs from config file '%s': %s"
#define ASSUMED_TEXT_UNAUTHORIZED "401 Unauthorized"

/* The client's own version; the server's is in its configuration. */
#define ASSUMED_CLIENT_VERSION "4.0.1-7a9ad936"

/* Placement: first fit. The servers in the order of servers.conf, on each the GPUs in the order of their index; all
 * GPUs of a request have the same size. Size: p x total MiB, rounded down. A request that no server could ever meet
 * fails at once. */

/* Output: [INFO] and [WARN] lines go to stderr, the three lines "Requested resources" to stdout. "running N tasks"
 * counts allocations. "partial memory" of a request in MiB is that of its size and the GPU's memory. The telemetry line
 * names the client's id. */

/* Several addresses in --server_list are separated by this. With --server_list, servers.conf is not read. */
#define ASSUMED_SERVER_LIST_SEPARATOR ","

/* Filters: values of one key are alternatives, different keys must all match; device.name matches any part of the name.
 */

/* The client's id is kept as "id:" in client.yaml; the "Query server" lines are printed when it has none yet. */
#define ASSUMED_CLIENT_ID_KEY "id:"

/* The allocation file holds KEY=VALUE lines below this one. `client` uses the newest file of this user in TMPDIR (or
 * /tmp) whose allocation is still alive; `release_gpus` without -f the newest that request_gpus made. */
#define ASSUMED_FILE_HEADER "# bitfusion stand-in allocation 1"

/* `run` killed by SIGKILL does not take its command with it (no PR_SET_PDEATHSIG). The server then frees the allocation
 * at once or holds it until release_gpus or auto_release_timeout, as its configuration says: "free" or "hold". */
#define ASSUMED_ON_DISCONNECT "free"

/* Idle, for auto_release_timeout, is an allocation with no `run`, `client` or data connection to the server. */

/* A command sees through NVML only its partition: memory.total is its size; processes and utilisation are those of its
 * allocation. Power, energy and temperature are the whole card's. */

#endif
