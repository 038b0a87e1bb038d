"""Everything in this stand-in that NVIDIA does not document about MPS, in one place.

What is recorded elsewhere in this folder as fact comes from NVIDIA's documentation of MPS and from output that people
published. Each line below is a choice of ours: nobody should draw conclusions about the original from it.

| subject | here |
|---|---|
| what daemon, server and client say to each other | lines of text on Unix sockets |
| files in the pipe folder | `control` (mode 0666), nvidia-cuda-mps-control.pid (0644); folders 0755 |
| who may give commands | root and the daemon's own user, in v3 too; others are refused |
| whose clients a daemon serves | root's: everybody's; another user's: that user's alone |
| a daemon that cannot listen, e.g. on a path of more than 107 bytes | says that it cannot be found, ends with 1 |
| `-d` | returns when the daemon takes commands |
| unknown or wrong commands | a line on standard error, status 1 at the end; the commands after it are done |
| `start_server` while another user's server has clients | refused; where it has none, that server is replaced |
| a client of a server's own user, while another user's waits | waits behind that one |
| output of commands that set a limit | the new percentage; nothing for memory |
| a limit that is not set | an empty line |
| `quit` | waits for the clients, as `quit -t SECONDS` until then; ends with 0 when the daemon has ended |
| SIGTERM to the daemon | as `quit -t 0` |
| a daemon that is killed | its servers stay until their last client has left, and take no new one |
| a server that is killed | what its clients use is lost; the next client finds a new server |
| ids of clients | counted from 0 by server |
| devices of a client | those that its CUDA_VISIBLE_DEVICES leaves of the server's |
| a server's GPU that EXCLUSIVE_PROCESS keeps from it | the server does not start; its client is told 805 |
| more clients than a server takes | 808; 48 by server, 60 from R590 on, 16 before Volta |
| a fault | ends the use of the GPU by every client of the server; FAULT until all of these have ended |
| limits before Volta | none |
| v3: the main socket | a server `uid_N` of the client's user, made when it is needed, without limits |
| v3: a client of another user than the server's | refused with 805 |
| v3: a server | runs from its creation; its folder is below the pipe folder |
| v3: `client terminate` of no client, and the like | one line on standard error, status 1 |
| v3: commands on standard input | as those of the command line, a line each |
| v3: `server set` for a server with clients | holds for those to come |
| v3: several allowed devices in a list | separated by semicolons |
| v3: a server whose process was killed | is gone as if deleted |
| v3: `-q` | does not wait for clients |
| v3: a namespace's limits | hold for its clients alone, whatever the default namespace's are |
| v3: `namespace delete` | `--force` ends its clients; `default` cannot be deleted |
| v3: not served here | devices, SM partitions, features, -a, locality domains, priorities |
| v2: not served here | `-mlopart`; client priorities have no effect |
| a card's chunks and their SMs | 10 of 8 SMs, whatever the model, as in an example of NVIDIA's |
| `-S`: a client with a CUDA_MPS_SM_PARTITION that is none | refused as one without any, with 915 |
| `-S`: `sm_partition add` | refused where the device has clients; `rm` where the partition has |
| `-S`: a fault | meets the clients of other partitions too (from R610 on it need not) |
| CUDA_MPS_SM_PARTITION without `-S` | means nothing |
| output of `-v` | `CUDA MPS control version` and the driver's branch |
| a UUID in `ps` | its first 22 characters, as in NVIDIA's example |
"""

# CUresult
CONNECTION_FAILED, SERVER_NOT_READY, MAX_CLIENTS_REACHED, INVALID_RESOURCE_CONFIGURATION = 805, 807, 808, 915

# Wording where none is published.
NOT_FOUND = "Cannot find MPS control daemon process"
ALREADY_RUNNING = "An instance of this daemon is already running"

# The drivers that brought the two.
FIRST_BRANCH_WITH_V3 = 615
FIRST_BRANCH_WITH_STATIC_PARTITIONS = 590
FIRST_CAPABILITY_WITH_STATIC_PARTITIONS = 8.0

CHUNKS, SMS_PER_CHUNK = 10, 8
