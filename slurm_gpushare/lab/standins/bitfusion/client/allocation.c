/* The allocation file: what `run` and `request_gpus` leave in TMPDIR for `client` and `release_gpus`. Its content is
 * this stand-in's own. */
#include "allocation.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../assumed.h"
#include "log.h"

#define PREFIX "bitfusion"

struct found {
    char path[PATH_MAX];
    struct timespec modified;
};

const char *temporary_folder(void) {
    const char *folder = getenv("TMPDIR");
    return folder && folder[0] ? folder : "/tmp";
}

bool save_allocation(const struct allocation *a, char path[PATH_MAX]) {
    int fd = -1;
    for (int tries = 0; fd < 0 && tries < 10000; tries++) {
        uint32_t random;
        random_bytes(&random, sizeof random);
        if (snprintf(path, PATH_MAX, "%s/" PREFIX "%09u", temporary_folder(), random % 1000000000u) >= PATH_MAX) {
            errno = ENAMETOOLONG;
            return false;
        }
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST)
            return false;
    }
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (!out)
        return false;
    fprintf(out,
            ASSUMED_FILE_HEADER
            "\nkind=%s\naddress=%s\nip=%s\nport=%d\ndispatcher_port=%d\ndata_port=%d\nversion=%s\nuuid=%s\nsecret=%s\n",
            a->kind, a->address, a->ip, a->port, a->dispatcher_port, a->data_port, a->version, a->uuid, a->secret);
    fprintf(out, "gpu_count=%d\ngpus=%s\nmebibytes=%ld\ntotal_mib=%ld\npartial=%s\n", a->gpu_count, a->gpus,
            a->mebibytes, a->total_mib, a->partial);
    if (fclose(out) == 0)
        return true;
    int error = errno;
    unlink(path);
    errno = error;
    return false;
}

static bool take_field(struct allocation *a, const char *key, const char *value) {
    const struct {
        const char *key;
        char *text;
        size_t size;
    } texts[] = {{"kind", a->kind, sizeof a->kind}, {"address", a->address, sizeof a->address},
                 {"ip", a->ip, sizeof a->ip},       {"version", a->version, sizeof a->version},
                 {"uuid", a->uuid, sizeof a->uuid}, {"secret", a->secret, sizeof a->secret},
                 {"gpus", a->gpus, sizeof a->gpus}, {"partial", a->partial, sizeof a->partial}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!strcmp(key, texts[i].key))
            return snprintf(texts[i].text, texts[i].size, "%s", value) < (int)texts[i].size;
    char *end;
    long number = strtol(value, &end, 10);
    if (!*value || *end || number < 0 || number > INT_MAX)
        return false;
    if (!strcmp(key, "port"))
        a->port = (int)number;
    else if (!strcmp(key, "dispatcher_port"))
        a->dispatcher_port = (int)number;
    else if (!strcmp(key, "data_port"))
        a->data_port = (int)number;
    else if (!strcmp(key, "gpu_count"))
        a->gpu_count = (int)number;
    else if (!strcmp(key, "mebibytes"))
        a->mebibytes = number;
    else if (!strcmp(key, "total_mib"))
        a->total_mib = number;
    else
        return false;
    return true;
}

bool load_allocation(const char *path, struct allocation *allocation) {
    *allocation = (struct allocation){0};
    char *text = read_file(path), *rest = text, *line;
    bool good = text && (line = strsep(&rest, "\n")) && !strcmp(line, ASSUMED_FILE_HEADER);
    while (good && rest && (line = strsep(&rest, "\n")) && *line) {
        char *value = strchr(line, '=');
        if ((good = value != NULL)) {
            *value++ = 0;
            good = take_field(allocation, line, value);
        }
    }
    free(text);
    return good && allocation->uuid[0] && allocation->secret[0] && allocation->address[0] && allocation->mebibytes;
}

static int newer_first(const void *left, const void *right) {
    const struct timespec *a = &((const struct found *)left)->modified, *b = &((const struct found *)right)->modified;
    if (a->tv_sec != b->tv_sec)
        return a->tv_sec < b->tv_sec ? 1 : -1;
    return (a->tv_nsec < b->tv_nsec) - (a->tv_nsec > b->tv_nsec);
}

bool newest_allocation(bool (*use)(const char *path, const struct allocation *allocation, void *context),
                       void *context) {
    DIR *folder = opendir(temporary_folder());
    struct found *found = NULL;
    size_t count = 0;
    struct dirent *entry;
    while (folder && (entry = readdir(folder))) {
        const char *digits = entry->d_name + strlen(PREFIX);
        struct stat status;
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) || strlen(digits) != 9 ||
            strspn(digits, "0123456789") != 9 || fstatat(dirfd(folder), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) ||
            !S_ISREG(status.st_mode) || status.st_uid != geteuid())
            continue;
        struct found *larger = realloc(found, (count + 1) * sizeof *found);
        if (!larger)
            break;
        found = larger;
        if (snprintf(found[count].path, PATH_MAX, "%s/%s", temporary_folder(), entry->d_name) < PATH_MAX)
            found[count++].modified = status.st_mtim;
    }
    if (folder)
        closedir(folder);
    if (count)
        qsort(found, count, sizeof *found, newer_first);
    bool used = false;
    struct allocation allocation;
    for (size_t i = 0; i < count && !used; i++)
        used = load_allocation(found[i].path, &allocation) && use(found[i].path, &allocation, context);
    free(found);
    return used;
}
