/* Where the shims connect to: LUPINE_SERVER, as an endpoint of the GPU stand-in's client. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../../gpu/nvml/endpoint.h"
#include "../assumed.h"

#define DEFAULT_PORT "14833"
#define REFUSED "refused"

extern char **environ;

static const char *refuse(const char *format, ...)
{
    va_list values;

    fputs("lupine stand-in: ", stderr);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    return REFUSED; /* no endpoint has this form, so nothing is connected */
}

/* The first variable LUPINE_… that is not of the client's, NULL when there is none. */
static const char *unknown_variable(void)
{
    static const char *const known[] = { ASSUMED_CLIENT_VARIABLES };

    for (char **entry = environ; *entry; entry++) {
        bool found = strncmp(*entry, "LUPINE_", 7) != 0;

        for (size_t i = 0; i < sizeof known / sizeof *known && !found; i++)
            found = strncmp(*entry, known[i], strlen(known[i])) == 0 && (*entry)[strlen(known[i])] == '=';
        if (!found)
            return *entry;
    }
    return NULL;
}

static bool enabled(const char *value)
{
    return value && *value && strcmp(value, "0") != 0 && strcasecmp(value, "false") != 0 && strcasecmp(value, "no") != 0;
}

/* In the place of the library's own endpoint_name. */
const char *endpoint_name(void)
{
    static char name[512];
    const char *server = getenv("LUPINE_SERVER"), *unknown = unknown_variable();
    char host[256], address[INET_ADDRSTRLEN], *port;
    struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *found;

    if (unknown)
        return refuse("%s: not known here", unknown);
    if (!server || !*server)
        return refuse("LUPINE_SERVER is not set");
    if (!enabled(getenv("LUPINE_DISABLE_LOCAL")))
        return refuse("LUPINE_DISABLE_LOCAL is not 1: GPUs of the node itself are not known here");
    if (strncmp(server, "http://", 7) == 0)
        server += 7;
    if (strstr(server, "://") || strchr(server, ',') || strlen(server) >= sizeof host)
        return refuse("LUPINE_SERVER=%s: one HOST[:PORT] without TLS is known here", server);
    strcpy(host, server);
    port = strchr(host, ':');
    if (port)
        *port++ = '\0';
    if (getaddrinfo(host, port ? port : DEFAULT_PORT, &hints, &found) != 0)
        return refuse("LUPINE_SERVER=%s: no such address", server);
    inet_ntop(AF_INET, &((struct sockaddr_in *)found->ai_addr)->sin_addr, address, sizeof address);
    snprintf(name, sizeof name, "tcp:%s:%u:lupine:1", address,
             (unsigned)ntohs(((struct sockaddr_in *)found->ai_addr)->sin_port));
    freeaddrinfo(found);
    return name;
}
