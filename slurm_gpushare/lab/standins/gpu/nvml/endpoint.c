#include "endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Weak: another stand-in's shim is this library with a way of its own to find its server. */
__attribute__((weak)) const char *endpoint_name(void)
{
    const char *name = getenv(ENDPOINT_VARIABLE);

    return name && *name ? name : ENDPOINT_DEFAULT;
}

bool read_number(char **text, unsigned long long *number)
{
    char *next = *text;
    unsigned long long value = 0;

    while (*next >= '0' && *next <= '9') {
        unsigned digit = (unsigned)(*next - '0');

        if (value > (~0ULL - digit) / 10)
            return false;
        value = value * 10 + digit;
        next++;
    }
    if (next == *text)
        return false;
    while (*next == ' ')
        next++;
    *text = next;
    *number = value;
    return true;
}

void endpoint_close(struct endpoint *endpoint)
{
    if (endpoint->fd >= 0)
        close(endpoint->fd);
    endpoint->fd = -1;
    free(endpoint->line);
    endpoint->line = NULL;
    endpoint->size = 0;
}

static bool send_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        data += sent;
        length -= (size_t)sent;
    }
    return true;
}

/* Reads up to the newline: every request has one line of answer, so nothing can follow it. */
static bool receive_line(struct endpoint *endpoint)
{
    size_t length = 0;

    for (;;) {
        if (endpoint->size - length < 2) {
            size_t size = endpoint->size ? 2 * endpoint->size : 512;
            char *line = realloc(endpoint->line, size);

            if (!line)
                return false;
            endpoint->line = line;
            endpoint->size = size;
        }

        ssize_t got = recv(endpoint->fd, endpoint->line + length, endpoint->size - length - 1, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        length += (size_t)got;
        if (endpoint->line[length - 1] == '\n') {
            endpoint->line[length - 1] = '\0';
            return true;
        }
    }
}

bool endpoint_ask(struct endpoint *endpoint, const char *request, int *code, char **values)
{
    if (endpoint->fd < 0)
        return false;
    if (send_all(endpoint->fd, request, strlen(request)) && send_all(endpoint->fd, "\n", 1) && receive_line(endpoint)) {
        char *line = endpoint->line;
        unsigned long long number;

        if (strcmp(line, "ok") == 0 || strncmp(line, "ok ", 3) == 0) {
            *code = 0;
            *values = line[2] ? line + 3 : line + 2;
            return true;
        }
        if (strncmp(line, "error ", 6) == 0) {
            line += 6;
            if (read_number(&line, &number) && number > 0 && number < 1000) {
                *code = (int)number;
                *values = line;
                return true;
            }
        }
    }
    endpoint_close(endpoint);
    return false;
}

static int open_unix(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* place: IP:PORT:UUID:TOKEN. Writes the line that names the allocation into hello. */
static int open_tcp(const char *place, char *hello, size_t size)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    char copy[512], *words[4], *next = copy;
    unsigned long long port;

    errno = EINVAL;
    if (strlen(place) >= sizeof copy)
        return -1;
    strcpy(copy, place);
    for (int i = 0; i < 4; i++) {
        char *end = i < 3 ? strchr(next, ':') : next + strlen(next);

        if (!end)
            return -1;
        *end = '\0';
        words[i] = next;
        next = end + 1;
    }
    if (strchr(words[3], ':'))
        return -1;
    if (inet_pton(AF_INET, words[0], &address.sin_addr) != 1)
        return -1;
    if (!read_number(&words[1], &port) || *words[1] || port < 1 || port > 65535)
        return -1;
    address.sin_port = htons((unsigned short)port);
    if (strpbrk(words[2], " \n") || strpbrk(words[3], " \n"))
        return -1;
    snprintf(hello, size, "allocation %s %s", words[2], words[3]);

    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0)
        return -1;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int error = errno;

        close(fd);
        errno = error;
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

bool endpoint_open_unix(struct endpoint *endpoint, const char *path)
{
    endpoint_close(endpoint);
    endpoint->fd = open_unix(path);
    endpoint->sees_pid = true;
    return endpoint->fd >= 0;
}

const char *endpoint_open(struct endpoint *endpoint)
{
    const char *name = endpoint_name();
    char hello[600] = "", *values;
    int code;

    endpoint_close(endpoint);
    if (strncmp(name, "unix:", 5) == 0)
        endpoint->fd = open_unix(name + 5);
    else if (strncmp(name, "tcp:", 4) == 0)
        endpoint->fd = open_tcp(name + 4, hello, sizeof hello);
    else
        return "it must be unix:PATH or tcp:IP:PORT:ALLOCATION:TOKEN";
    if (endpoint->fd < 0)
        return strerror(errno);
    endpoint->sees_pid = !*hello;
    if (*hello) {
        if (!endpoint_ask(endpoint, hello, &code, &values))
            return "the server closed the connection";
        if (code != 0) {
            close(endpoint->fd);
            endpoint->fd = -1;
            return values;
        }
    }
    return NULL;
}
