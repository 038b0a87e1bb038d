/* nvidia-cuda-mps-server: the process that holds the GPUs for the clients of MPS.
 *
 * The control daemon starts it with the clients' user and tells it by lines on standard input what to ask of the GPUs,
 * which know this process by its connection; the answers go to standard output. When the daemon is gone it stays until
 * the last client has left. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../gpu/nvml/endpoint.h"

#define MAX_REQUEST 65536
#define CLIENTS_POLL_MS 200

static void outlive_daemon(struct endpoint *endpoint)
{
    int code;
    char *values;

    while (endpoint_ask(endpoint, "mps-state", &code, &values)) {
        if (code != 0 || strcmp(values, "ACTIVE 0") == 0)
            return;
        poll(NULL, 0, CLIENTS_POLL_MS);
    }
}

int main(int count, char **arguments)
{
    static char line[MAX_REQUEST];
    struct endpoint endpoint = ENDPOINT_INITIALIZER;
    size_t length = 0;
    const char *problem;

    if (count != 1) {
        fprintf(stderr, "%s: takes no arguments: nvidia-cuda-mps-control starts it\n", arguments[0]);
        return 2;
    }
    problem = endpoint_open(&endpoint);
    if (problem) {
        fprintf(stderr, "nvidia-cuda-mps-server: %s: %s\n", endpoint_name(), problem);
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        struct pollfd ready[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = endpoint.fd, .events = POLLIN } };

        if (poll(ready, 2, -1) < 0)
            continue;
        if (ready[1].revents) /* nobody asked: the GPUs are gone */
            return EXIT_FAILURE;

        ssize_t got = read(STDIN_FILENO, line + length, sizeof line - length);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            outlive_daemon(&endpoint);
            return EXIT_SUCCESS;
        }
        length += (size_t)got;
        if (line[length - 1] != '\n') {
            if (length == sizeof line)
                return EXIT_FAILURE;
            continue;
        }
        line[length - 1] = '\0';
        length = 0;

        int code;
        char *values;

        if (!endpoint_ask(&endpoint, line, &code, &values))
            return EXIT_FAILURE;
        if (code == 0)
            printf("ok %s\n", values);
        else
            printf("error %d %s\n", code, values);
        fflush(stdout);
    }
}
