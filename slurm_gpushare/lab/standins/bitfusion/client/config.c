/* The client's configuration: ~/.bitfusion (which must be writable) over /etc/bitfusion. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../assumed.h"
#include "log.h"

#define SITE "/etc/bitfusion"
#define MAX_FILE (1 << 20)
#define DEFAULT_TIMEOUT_MS 3000

static void path_of(char *out, const char *folder, const char *name) {
    if (snprintf(out, PATH_MAX, "%s/%s", folder, name) >= PATH_MAX) {
        fprintf(stderr, "Error: open %s/%s: file name too long\n", folder, name);
        exit(ASSUMED_EXIT_ERROR);
    }
}

static char *read_all(int fd) {
    char *text = malloc(MAX_FILE + 1);
    size_t length = 0;
    ssize_t got = 1;
    while (text && length < MAX_FILE && (got = read(fd, text + length, MAX_FILE - length)) > 0)
        length += (size_t)got;
    if (!text || got < 0) {
        free(text);
        return NULL;
    }
    text[length] = 0;
    return text;
}

char *read_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    char *text = read_all(fd);
    int error = errno;
    close(fd);
    errno = error;
    return text;
}

static bool write_all(int fd, const char *text) {
    size_t length = strlen(text);
    return pwrite(fd, text, length, 0) == (ssize_t)length && ftruncate(fd, (off_t)length) == 0;
}

/* "KEY: VALUE" without quotes and blanks; NULL where the line has another key. `line` is changed. */
static char *value_of(char *line, const char *key) {
    size_t length = strlen(key);
    if (strncmp(line, key, length))
        return NULL;
    char *value = line + length + strspn(line + length, " \t");
    value[strcspn(value, "\r")] = 0;
    size_t end = strlen(value);
    while (end && strchr(" \t", value[end - 1]))
        value[--end] = 0;
    if (end >= 2 && strchr("\"'", value[0]) && value[end - 1] == value[0]) {
        value[end - 1] = 0;
        value++;
    }
    return value;
}

/* "3s", "500ms", "1m" as Go writes durations of one unit; 0 where it is something else. */
static int duration_ms(const char *text) {
    char *unit;
    double value = strtod(text, &unit);
    double scale = !strcmp(unit, "ms") ? 1 : !strcmp(unit, "s") ? 1000 : !strcmp(unit, "m") ? 60000 : 0;
    return value > 0 && value * scale <= INT_MAX ? (int)(value * scale) : 0;
}

void parse_client(const char *text, struct config *config) {
    char *copy = strdup(text), *rest = copy, *line;
    bool in_auth = false;
    while (copy && (line = strsep(&rest, "\n"))) {
        size_t indent = strspn(line, " ");
        char *value;
        if (!indent && *line && *line != '#')
            in_auth = !strncmp(line, "authconfig:", 11);
        if (in_auth && indent && (value = value_of(line + indent, "token:")))
            snprintf(config->token, sizeof config->token, "%s", value);
        if (!indent && (value = value_of(line, ASSUMED_CLIENT_ID_KEY)) && strlen(value) == 36)
            snprintf(config->client_id, sizeof config->client_id, "%s", value);
        if (!indent && (value = value_of(line, "timeout:")) && duration_ms(value))
            config->timeout_ms = duration_ms(value);
    }
    free(copy);
}

/* What stands on a line of a servers.conf. */
struct word {
    const char *text;
    size_t length;
};

static bool is(struct word word, const char *text) {
    return word.length == strlen(text) && !strncmp(word.text, text, word.length);
}

static bool add_address(struct config *config, struct word word, char *why, size_t why_size) {
    const char *colon = memchr(word.text, ':', word.length);
    if (!colon || colon == word.text || word.length >= ADDRESS_SIZE || memchr(word.text, ' ', word.length)) {
        snprintf(why, why_size, "address %.*s: missing port in address", (int)word.length, word.text);
        return false;
    }
    if (config->address_count == MAX_SERVERS) {
        snprintf(why, why_size, "more than %d servers", MAX_SERVERS);
        return false;
    }
    snprintf(config->addresses[config->address_count++], ADDRESS_SIZE, "%.*s", (int)word.length, word.text);
    return true;
}

/* One line below "servers:". `wanted`: the next address is the first of its server, which is the one that is used. */
static bool parse_yaml_line(struct word word, struct config *config, bool *wanted, char *why, size_t why_size) {
    bool item = word.length > 2 && !strncmp(word.text, "- ", 2);
    if (item)
        word = (struct word){word.text + 2, word.length - 2};
    if (is(word, "addresses:")) {
        *wanted = true;
        return true;
    }
    /* Release 3.5 needs this key beside the addresses. */
    if (word.length >= 10 && !strncmp(word.text, "reachable:", 10))
        return true;
    if (!item || memchr(word.text, ' ', word.length)) {
        snprintf(why, why_size, "yaml: unknown key: %.*s", (int)word.length, word.text);
        return false;
    }
    bool first = *wanted;
    *wanted = false;
    return !first || add_address(config, word, why, why_size);
}

bool parse_servers(const char *text, struct config *config, char *why, size_t why_size) {
    bool yaml = false, wanted = false;
    config->address_count = 0;
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        struct word word = {.text = line + strspn(line, " \t")};
        word.length = strcspn(word.text, "\r\n");
        while (word.length && strchr(" \t", word.text[word.length - 1]))
            word.length--;
        if (!word.length || *word.text == '#')
            continue;
        if (is(word, "servers:"))
            yaml = true;
        else if (yaml ? !parse_yaml_line(word, config, &wanted, why, why_size)
                      : !add_address(config, word, why, why_size))
            return false;
    }
    return true;
}

/* client.yaml with a client id in it: the old file becomes a backup beside it. */
static void save_client_id(const char *path, const char *text, struct config *config, bool exists) {
    char backup[PATH_MAX + 32], stamp[32];
    time_t now = time(NULL);
    struct tm local;
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%S", localtime_r(&now, &local));
    snprintf(backup, sizeof backup, "%s.%s", path, stamp);
    if (exists && rename(path, backup)) {
        log_warn("Unable to backup old client config file: rename %s %s: %s", path, backup, errno_text(errno));
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t size = strlen(text) + 64;
    char *fresh = malloc(size);
    if (fd < 0 || !fresh) {
        log_warn("Unable to write client config file: open %s: %s", path, errno_text(errno));
        free(fresh);
        return;
    }
    size_t length = strlen(text);
    snprintf(fresh, size, "%s%s%s %s\n", text, length && text[length - 1] != '\n' ? "\n" : "", ASSUMED_CLIENT_ID_KEY,
             config->client_id);
    if (!write_all(fd, fresh))
        log_warn("Unable to write client config file: write %s: %s", path, errno_text(errno));
    close(fd);
    free(fresh);
}

static void load_client(const char *folder, struct config *config) {
    char path[PATH_MAX];
    path_of(path, folder, "client.yaml");
    char *text = read_file(path);
    bool exists = text || errno != ENOENT;
    if (!text && !exists)
        text = read_file(SITE "/client.yaml");
    if (!text) {
        fprintf(stderr, "Error: open %s: %s\n", exists ? path : SITE "/client.yaml", errno_text(errno));
        exit(ASSUMED_EXIT_ERROR);
    }
    parse_client(text, config);
    if (!config->token[0]) {
        fprintf(stderr, "Error: %s has no token under authconfig\n", exists ? path : SITE "/client.yaml");
        exit(ASSUMED_EXIT_ERROR);
    }
    if (!config->client_id[0]) {
        config->first_contact = true;
        new_uuid(config->client_id);
        save_client_id(path, text, config, exists);
    }
    free(text);
}

/* The plain form is rewritten as YAML, YAML as it was. */
static bool rewrite_servers(int fd, const char *text, const struct config *config) {
    if (strstr(text, "servers:"))
        return write_all(fd, text);
    char *fresh = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&fresh, &size);
    if (!out)
        return false;
    fprintf(out, "servers:\n");
    for (size_t i = 0; i < config->address_count; i++)
        fprintf(out, "- addresses:\n  - %s\n", config->addresses[i]);
    bool written = fclose(out) == 0 && write_all(fd, fresh);
    free(fresh);
    return written;
}

static void load_servers(const char *folder, struct config *config) {
    char path[PATH_MAX], why[400] = "";
    const char *source = path;
    path_of(path, folder, "servers.conf");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    bool created = fd < 0 && errno == ENOENT;
    char *text = NULL;
    if (created && !(text = read_file(SITE "/servers.conf"))) {
        source = SITE "/servers.conf";
        snprintf(why, sizeof why, "open %s: %s", source, errno_text(errno));
    }
    if (created && text)
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 && !why[0])
        snprintf(why, sizeof why, "open %.300s: %s", path, errno_text(errno));
    if (fd >= 0 && !created && !(text = read_all(fd)))
        snprintf(why, sizeof why, "read %.300s: %s", path, errno_text(errno));
    if (fd >= 0 && text && parse_servers(text, config, why, sizeof why) && !rewrite_servers(fd, text, config))
        snprintf(why, sizeof why, "write %.300s: %s", path, errno_text(errno));
    if (fd >= 0)
        close(fd);
    free(text);
    if (why[0]) {
        config->address_count = 0;
        log_warn("Failed to parse %s: %s", source, why);
    }
}

static void take_server_list(const char *list, struct config *config) {
    char why[400];
    for (const char *word = list;; word++) {
        size_t length = strcspn(word, ASSUMED_SERVER_LIST_SEPARATOR);
        if (!add_address(config, (struct word){word, length}, why, sizeof why)) {
            fprintf(stderr, "Error: --server_list: %s\n", why);
            exit(ASSUMED_EXIT_ERROR);
        }
        word += length;
        if (!*word)
            return;
    }
}

void load_config(struct config *config, const char *server_list) {
    *config = (struct config){.timeout_ms = DEFAULT_TIMEOUT_MS};
    const char *home = getenv("HOME");
    char folder[PATH_MAX];
    if (!home || !home[0]) {
        fprintf(stderr, "Error: $HOME is not defined\n");
        exit(ASSUMED_EXIT_ERROR);
    }
    path_of(folder, home, ".bitfusion");
    mkdir(folder, 0700);
    /* Every client of this user writes to the folder: one at a time. */
    int lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock >= 0)
        flock(lock, LOCK_EX);
    load_client(folder, config);
    if (server_list)
        take_server_list(server_list, config);
    else
        load_servers(folder, config);
    if (lock >= 0)
        close(lock);
}
