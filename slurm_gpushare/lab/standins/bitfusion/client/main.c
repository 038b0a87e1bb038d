/* The `bitfusion` command of the stand-in: the documented subcommands over a pool of GPUs that exist only as a state.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../assumed.h"
#include "acquire.h"
#include "execute.h"
#include "log.h"

#define MAX_GPUS 64

static struct config config;
static struct options options;
static struct pool pool;

struct job {
    struct allocation allocation;
    struct channel channel;
    char path[PATH_MAX];
};

static int error(const char *what, const char *path) {
    fprintf(stderr, "Error: %s %s: %s\n", what, path, errno_text(errno));
    return ASSUMED_EXIT_ERROR;
}

/* Release and remove the file, with the two lines of the original. */
static int release_job(struct job *job) {
    char why[512];
    log_info("Releasing GPUs from config file '%s'...", job->path);
    enum answer answer = release(&job->allocation, &config, &job->channel, why, sizeof why);
    if (answer == FAILED) {
        log_warn(ASSUMED_TEXT_NOT_RELEASED, job->path, why);
        return ASSUMED_EXIT_ERROR;
    }
    if (answer == GONE)
        log_warn(ASSUMED_TEXT_GONE, job->path);
    /* Another release may have removed it. */
    if (unlink(job->path) && errno != ENOENT)
        return error("remove", job->path);
    log_info("Released GPUs on 1 servers and removed generated config file '%s'", job->path);
    return 0;
}

static int allocate(struct job *job) {
    catch_signals();
    int status = acquire(&pool, &config, &options, &job->allocation, &job->channel);
    if (status)
        return status;
    printf("Requested resources:\nServer List: %s\nClient idle timeout: 0 min\n", job->allocation.address);
    if (fflush(stdout) || !save_allocation(&job->allocation, job->path)) {
        char why[512];
        status = error("open", job->path[0] ? job->path : "standard output");
        if (release(&job->allocation, &config, &job->channel, why, sizeof why) == FAILED)
            log_warn(ASSUMED_TEXT_NOT_RELEASED, job->path, why);
    }
    return status;
}

static void announce_command(const struct allocation *a) {
    fflush(stdout);
    size_t size = 1;
    for (char **word = options.argv; *word; word++)
        size += strlen(*word) + 1;
    char *line = calloc(1, size);
    for (char **word = options.argv; line && *word; word++) {
        strcat(line, *word);
        if (word[1])
            strcat(line, " ");
    }
    log_info("Running client command '%s' on %d GPUs, with the following servers:", line ? line : options.argv[0],
             a->gpu_count);
    free(line);
    log_info("%s %d %s %d %s", a->ip, a->dispatcher_port, a->uuid, a->port, a->version);
    fputc('\n', stderr);
}

static void announce_start(void *context) {
    const struct job *job = context;
    log_info("Command started, launching telemetry process: %s | %s", config.client_id, job->allocation.address);
}

static int run(struct job *job) {
    int status = allocate(job);
    if (status)
        return status;
    log_info("Locked %d GPUs with partial memory %s, configuration saved to '%s'", job->allocation.gpu_count,
             job->allocation.partial, job->path);
    announce_command(&job->allocation);
    status = execute(options.argv, &job->allocation, announce_start, job);
    release_job(job);
    return status;
}

static int request(struct job *job) {
    int status = allocate(job);
    if (!status && caught_signal()) {
        release_job(job);
        status = ASSUMED_EXIT_SIGNAL_BASE + caught_signal();
    }
    return status;
}

static bool attach_to(const char *path, const struct allocation *allocation, void *context) {
    struct job *job = context;
    char why[512];
    enum answer answer = attach(allocation, &config, &job->channel, why, sizeof why);
    if (answer == FAILED)
        log_warn("Error contacting server %s: %s", allocation->address, why);
    if (answer != DONE)
        return false;
    job->allocation = *allocation;
    snprintf(job->path, sizeof job->path, "%s", path);
    return true;
}

static int client(struct job *job) {
    if (!newest_allocation(attach_to, job)) {
        fprintf(stderr, ASSUMED_TEXT_NO_ALLOCATION, temporary_folder());
        return ASSUMED_EXIT_ERROR;
    }
    catch_signals();
    announce_command(&job->allocation);
    int status = execute(options.argv, &job->allocation, announce_start, job);
    hang_up(&job->channel);
    return status;
}

static bool made_by_request(const char *path, const struct allocation *allocation, void *context) {
    struct job *job = context;
    job->allocation = *allocation;
    snprintf(job->path, sizeof job->path, "%s", path);
    return !strcmp(allocation->kind, "request_gpus");
}

static int release_gpus(struct job *job) {
    if (options.file) {
        if (snprintf(job->path, sizeof job->path, "%s", options.file) >= (int)sizeof job->path ||
            access(options.file, R_OK))
            return error("open", options.file);
        if (!load_allocation(job->path, &job->allocation)) {
            fprintf(stderr, "Error: %s is not an allocation file\n", options.file);
            return ASSUMED_EXIT_ERROR;
        }
    } else if (!newest_allocation(made_by_request, job)) {
        fprintf(stderr, ASSUMED_TEXT_NO_ALLOCATION, temporary_folder());
        return ASSUMED_EXIT_ERROR;
    }
    return release_job(job);
}

static void show_gpu(const struct gpu *gpu) {
    if (options.command == LIST_GPUS) {
        printf("   |- GPU [%d]: free memory (%ld / %ldMiB) %s (%s)\n", gpu->index, gpu->free_mib, gpu->total_mib,
               gpu->name, gpu->capability);
        return;
    }
    printf("   | %d  %s  %ldMiB / %ldMiB", gpu->index, gpu->name, gpu->total_mib - gpu->free_mib, gpu->total_mib);
    if (gpu->utilization >= 0)
        printf("  %d%%", gpu->utilization);
    printf("\n");
}

/* list_gpus as it was seen; health and smi in the same manner (their output is not public). */
static int list(void) {
    int status = ASSUMED_EXIT_ERROR;
    for (size_t i = 0; i < pool.count; i++) {
        const struct server *server = &pool.servers[i];
        struct gpu gpus[MAX_GPUS];
        char why[512];
        int tasks = 0,
            count = server->usable ? list_gpus_of(server, &config, gpus, MAX_GPUS, &tasks, why, sizeof why) : -1;
        if (server->usable && count < 0)
            log_warn("Error contacting server %s: %s", server->address, why);
        if (count >= 0)
            status = 0;
        if (options.command == HEALTH)
            printf(" - server %d [%s]: %s\n", server->index, server->address, count < 0 ? "unreachable" : "ok");
        if (options.command == HEALTH || count < 0)
            continue;
        printf(" - server %d %s[%s]: running %d tasks\n", server->index, server->leader ? "(leader)  " : "",
               server->address, tasks);
        for (int g = 0; g < count; g++)
            show_gpu(&gpus[g]);
    }
    return status;
}

int main(int argc, char **argv) {
    struct job job = {.channel = {.fd = -1}};
    parse_options(argc, argv, &options);
    if (options.command == VERSION) {
        printf("bitfusion version %s\n", ASSUMED_CLIENT_VERSION);
        return 0;
    }
    load_config(&config, options.server_list);
    if (options.command == CLIENT)
        return client(&job);
    if (options.command == RELEASE_GPUS)
        return release_gpus(&job);
    meet_servers(&pool, &config);
    switch (options.command) {
    case RUN:
        return run(&job);
    case REQUEST_GPUS:
        return request(&job);
    default:
        return list();
    }
}
