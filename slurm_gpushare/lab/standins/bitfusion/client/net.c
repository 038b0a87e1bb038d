/* TCP to a server: addresses without the resolver of libc, and one deadline for all of an exchange.
 * A static program cannot load the resolver's modules, so /etc/hosts is read here. */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool look_up(const char *host, char ip[16]) {
    FILE *hosts = fopen("/etc/hosts", "re");
    char line[1024];
    bool found = false;
    while (hosts && !found && fgets(line, sizeof line, hosts)) {
        line[strcspn(line, "#\n")] = 0;
        char *rest = line, *word, *address = NULL;
        struct in_addr parsed;
        while ((word = strsep(&rest, " \t")) && !found) {
            if (!*word)
                continue;
            if (!address)
                address = word;
            else if (!strcasecmp(word, host) && inet_pton(AF_INET, address, &parsed) == 1) {
                found = true;
                snprintf(ip, 16, "%s", address);
            }
        }
    }
    if (hosts)
        fclose(hosts);
    return found;
}

bool resolve(const char *address, char ip[16], int *port, char *why, size_t why_size) {
    char host[256];
    const char *colon = strrchr(address, ':');
    char *end = NULL;
    long number = colon ? strtol(colon + 1, &end, 10) : 0;
    if (!colon || colon == address || (size_t)(colon - address) >= sizeof host || !colon[1] || *end || number < 1 ||
        number > 65535) {
        snprintf(why, why_size, "dial tcp: address %s: missing port in address", address);
        return false;
    }
    *port = (int)number;
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    struct in_addr parsed;
    if (inet_pton(AF_INET, host, &parsed) == 1) {
        inet_ntop(AF_INET, &parsed, ip, 16);
        return true;
    }
    if (look_up(host, ip))
        return true;
    snprintf(why, why_size, "dial tcp: lookup %s: no such host", host);
    return false;
}

/* Wait until the socket is ready; false at the deadline. A signal does not end the wait: what it asks for is done after
 * the exchange. */
static bool ready(int fd, short events, int64_t deadline) {
    for (;;) {
        int64_t left = deadline - now_ms();
        struct pollfd poller = {.fd = fd, .events = events};
        int count = poll(&poller, 1, left > 0 ? (int)left : 0);
        if (count > 0 || (count < 0 && errno != EINTR))
            return count > 0;
        if (!count && left <= 0) {
            errno = ETIMEDOUT;
            return false;
        }
    }
}

int dial(const char *address, int64_t deadline, char *why, size_t why_size) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    char ip[16];
    int port, on = 1, error = 0;
    socklen_t size = sizeof error;
    if (!resolve(address, ip, &port, why, why_size))
        return -1;
    to.sin_port = htons((uint16_t)port);
    inet_pton(AF_INET, ip, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS))
        error = errno;
    else if (!ready(fd, POLLOUT, deadline))
        error = ETIMEDOUT;
    else
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (!error) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        return fd;
    }
    if (fd >= 0)
        close(fd);
    if (error == ETIMEDOUT)
        snprintf(why, why_size, "dial tcp %s:%d: i/o timeout", ip, port);
    else
        snprintf(why, why_size, "dial tcp %s:%d: connect: %s", ip, port, errno_text(error));
    return -1;
}

bool send_line(struct channel *channel, const char *line, int64_t deadline) {
    char text[8192];
    int length = snprintf(text, sizeof text, "%s\n", line);
    if (length < 0 || (size_t)length >= sizeof text) {
        errno = EMSGSIZE;
        return false;
    }
    for (int sent = 0; sent < length;) {
        if (!ready(channel->fd, POLLOUT, deadline))
            return false;
        ssize_t count = send(channel->fd, text + sent, (size_t)(length - sent), MSG_NOSIGNAL);
        if (count < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        sent += count > 0 ? (int)count : 0;
    }
    return true;
}

const char *receive_line(struct channel *channel, int64_t deadline) {
    static char line[sizeof channel->buffer];
    for (;;) {
        char *end = memchr(channel->buffer, '\n', channel->length);
        if (end) {
            size_t length = (size_t)(end - channel->buffer);
            memcpy(line, channel->buffer, length);
            line[length] = 0;
            channel->length -= length + 1;
            memmove(channel->buffer, end + 1, channel->length);
            return line;
        }
        if (channel->length == sizeof channel->buffer) {
            errno = EMSGSIZE;
            return NULL;
        }
        if (!ready(channel->fd, POLLIN, deadline))
            return NULL;
        ssize_t count =
            recv(channel->fd, channel->buffer + channel->length, sizeof channel->buffer - channel->length, 0);
        if (count == 0)
            errno = ECONNRESET;
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            return NULL;
        channel->length += count > 0 ? (size_t)count : 0;
    }
}
