/* What the client prints: time-stamped lines on stderr, and the words of Go's run-time for errors of the system. */
#include "log.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "../assumed.h"

void rfc3339(char *out, size_t size) {
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    char stamp[32], zone[8];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &local);
    if (local.tm_gmtoff == 0)
        snprintf(zone, sizeof zone, "Z");
    else {
        int minutes = (int)(labs(local.tm_gmtoff) / 60) % (24 * 60);
        snprintf(zone, sizeof zone, "%c%02u:%02u", local.tm_gmtoff < 0 ? '-' : '+', (unsigned)minutes / 60 % 24,
                 (unsigned)minutes % 60);
    }
    snprintf(out, size, "%s%s", stamp, zone);
}

__attribute__((format(printf, 2, 0))) static void line(const char *level, const char *format, va_list arguments) {
    char stamp[48];
    rfc3339(stamp, sizeof stamp);
    fprintf(stderr, "[%s] %s ", level, stamp);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

void log_info(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line("INFO", format, arguments);
    va_end(arguments);
}

void log_warn(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    line("WARN", format, arguments);
    va_end(arguments);
}

const char *errno_text(int error) {
    static char text[128];
    snprintf(text, sizeof text, "%s", strerror(error));
    text[0] = (char)tolower((unsigned char)text[0]);
    return text;
}

void random_bytes(void *out, size_t size) {
    if (getrandom(out, size, 0) != (ssize_t)size) {
        fprintf(stderr, "Error: no random numbers from the kernel\n");
        exit(ASSUMED_EXIT_ERROR);
    }
}

void new_uuid(char out[37]) {
    uint8_t b[16];
    random_bytes(b, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
             b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}
