/* gpu-workload: a process that uses a part of a stand-in GPU for as long as it lives.
 *
 * It tells the endpoint "I use 20 % of the SMs and 3 GB of GPU 1", then waits, or becomes another program that keeps the
 * connection. Statically linked, so that it runs in any image. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../nvml/endpoint.h"

enum { EXIT_NO_GPU = 1, EXIT_USAGE = 2, EXIT_CANNOT_EXECUTE = 126, EXIT_NO_COMMAND = 127 };

#define OUT_OF_MEMORY 20
#define MAX_WORD 128
#define DEFAULT_PIPE_FOLDER "/tmp/nvidia-mps"

static const char usage[] =
    "usage: gpu-workload --gpu N --sm PERCENT --memory SIZE [--seconds S] [--fault S]\n"
    "                    [-- COMMAND ARGUMENT...]\n"
    "\n"
    "  --gpu N         which GPU; counted within CUDA_VISIBLE_DEVICES where that is set\n"
    "  --sm PERCENT    share of the SMs that this process keeps busy, 0 to 100\n"
    "  --memory SIZE   memory that it holds: bytes, or a number with K, M, G or T (also KiB, MiB, ...; powers of 1024)\n"
    "  --seconds S     end after S seconds; 0, the default: at a signal\n"
    "  --fault S       do after S seconds what is fatal to every context of its MPS server, or its own without MPS\n"
    "  COMMAND         is executed instead of waiting, and uses the GPU until it ends\n"
    "\n"
    "The GPUs are those of NVML_STANDIN_ENDPOINT: unix:PATH (default " ENDPOINT_DEFAULT ")\n"
    "or tcp:IP:PORT:ALLOCATION:TOKEN.\n"
    "Where an MPS daemon listens in CUDA_MPS_PIPE_DIRECTORY (default " DEFAULT_PIPE_FOLDER "), it computes as its client:\n"
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE and CUDA_MPS_PINNED_DEVICE_MEM_LIMIT tighten what the daemon allows.\n"
    "Exit status: 1 out of memory, no such GPU, or the GPUs cannot be reached or went away; 2 wrong usage;\n"
    "126 or 127 when the command cannot be executed or found; else the command's own.\n";

struct options {
    unsigned long long gpu, sm, memory, seconds, fault;
    bool has_gpu, has_sm, has_memory, has_seconds, has_fault;
    char **command;
};

static _Noreturn void refuse(const char *option, const char *value, const char *instead)
{
    fprintf(stderr, "gpu-workload: %s%s%s: %s\n", option, value ? " " : "", value ? value : "", instead);
    exit(EXIT_USAGE);
}

static unsigned long long number_of(const char *option, char *value, unsigned long long most, const char *instead)
{
    char *end = value;
    unsigned long long number;

    if (!read_number(&end, &number) || *end || end[-1] == ' ' || number > most)
        refuse(option, value, instead);
    return number;
}

static unsigned long long bytes_of(const char *option, char *value)
{
    static const char units[] = "KMGT";
    static const char instead[] = "must be bytes, or a number with K, M, G or T, such as 3G or 512MiB";
    char *end = value;
    unsigned long long number;
    unsigned shift = 0;

    if (!read_number(&end, &number) || end[-1] == ' ')
        refuse(option, value, instead);
    if (*end) {
        const char *unit = strchr(units, *end++);

        if (!unit || (*end && strcmp(end, "iB") != 0))
            refuse(option, value, instead);
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (number > (1ULL << 56) >> shift)
        refuse(option, value, "is more than any GPU has");
    return number << shift;
}

static struct options parse(char **arguments)
{
    struct options options = { 0 };

    for (char **next = arguments; *next; next++) {
        char *name = *next, *value;

        if (strcmp(name, "--") == 0) {
            options.command = next + 1;
            if (!*options.command)
                refuse("--", NULL, "a command must follow");
            break;
        }
        if (strcmp(name, "--help") == 0) {
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        }
        if (strcmp(name, "--gpu") != 0 && strcmp(name, "--sm") != 0 && strcmp(name, "--memory") != 0
            && strcmp(name, "--seconds") != 0 && strcmp(name, "--fault") != 0)
            refuse(name, NULL, "is no option: --gpu, --sm, --memory, --seconds, --fault and -- COMMAND are");
        value = *++next;
        if (!value)
            refuse(name, NULL, "needs a value");
        if (strcmp(name, "--gpu") == 0) {
            options.gpu = number_of(name, value, 9999, "must be a number, 0 for the first GPU");
            options.has_gpu = true;
        } else if (strcmp(name, "--sm") == 0) {
            options.sm = number_of(name, value, 100, "must be a whole number from 0 to 100");
            options.has_sm = true;
        } else if (strcmp(name, "--memory") == 0) {
            options.memory = bytes_of(name, value);
            options.has_memory = true;
        } else if (strcmp(name, "--fault") == 0) {
            options.fault = number_of(name, value, 1000000000, "must be a whole number of seconds");
            options.has_fault = true;
        } else {
            options.seconds = number_of(name, value, 1000000000, "must be a whole number of seconds");
            options.has_seconds = true;
        }
    }
    if (!options.has_gpu || !options.has_sm || !options.has_memory)
        refuse("--gpu, --sm and --memory", NULL, "all three must be given");
    if (options.command && options.has_seconds)
        refuse("--seconds", NULL, "does not go with a command, which ends by itself");
    if (options.has_fault && (options.command || options.has_seconds))
        refuse("--fault", NULL, "does not go with --seconds, nor with a command");
    return options;
}

static void ask(struct endpoint *endpoint, const char *request, int *code, char **values)
{
    if (endpoint_ask(endpoint, request, code, values))
        return;
    fprintf(stderr, "gpu-workload: %s: the server closed the connection\n", endpoint_name());
    exit(EXIT_NO_GPU);
}

/* As CUDA does: the first entry that names no GPU hides itself and all that follow. */
static bool visible_gpu(struct endpoint *endpoint, const char *visible, unsigned long long wanted, char *word)
{
    for (unsigned long long position = 0;; position++) {
        size_t length = strcspn(visible, ",");
        char request[MAX_WORD + 64], *values;
        int code;

        if (length == 0 || length >= MAX_WORD || memchr(visible, ' ', length) || memchr(visible, '\n', length))
            return false;
        memcpy(word, visible, length);
        word[length] = '\0';

        bool by_index = strspn(word, "0123456789") == length;

        if (!by_index && strncmp(word, "GPU-", 4) != 0 && strncmp(word, "MIG-", 4) != 0)
            return false;
        snprintf(request, sizeof request, "call nvmlDeviceGetHandleBy%s %s", by_index ? "Index" : "UUID", word);
        ask(endpoint, request, &code, &values);
        if (code != 0)
            return false;
        if (position == wanted)
            return true;
        if (visible[length] != ',')
            return false;
        visible += length + 1;
    }
}

static void print_bytes(const char *before, unsigned long long bytes)
{
    if (bytes % (1ULL << 20) == 0)
        fprintf(stderr, "%s%llu MiB", before, bytes >> 20);
    else
        fprintf(stderr, "%s%llu bytes", before, bytes);
}

/* Returns the value of a variable as a word of the request to an MPS daemon. */
static const char *word_of(const char *variable)
{
    const char *value = getenv(variable);

    if (!value || !*value)
        return "-";
    if (strpbrk(value, " \n"))
        refuse(variable, value, "must not hold blanks");
    return value;
}

/* Becomes a client of the MPS daemon; *gpus are then the UUIDs of what it may use. Where there is none, CUDA goes
 * on without MPS. */
static void join_mps(struct endpoint *daemon, const char **gpus)
{
    const char *folder = getenv("CUDA_MPS_PIPE_DIRECTORY");
    char path[512], request[4096], *values;
    unsigned long long server;
    int code;

    snprintf(path, sizeof path, "%s/control", folder && *folder ? folder : DEFAULT_PIPE_FOLDER);
    if (!endpoint_open_unix(daemon, path))
        return;
    snprintf(request, sizeof request, "client %s %s %s %s", word_of("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"),
             word_of("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"), word_of("CUDA_VISIBLE_DEVICES"),
             word_of("CUDA_MPS_SM_PARTITION"));
    if (!endpoint_ask(daemon, request, &code, &values)) {
        fputs("gpu-workload: MPS: the daemon closed the connection\n", stderr);
        exit(EXIT_NO_GPU);
    }
    if (code != 0) {
        const char *name = code == 807   ? "CUDA_ERROR_MPS_SERVER_NOT_READY"
                           : code == 808 ? "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED"
                           : code == 915 ? "CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION"
                                         : "CUDA_ERROR_MPS_CONNECTION_FAILED";

        fprintf(stderr, "gpu-workload: MPS: %s (%d): %s\n", name, code, values);
        exit(EXIT_NO_GPU);
    }
    read_number(&values, &server);
    *gpus = values;
}

static void attach(struct endpoint *endpoint, const struct options *options, const char *gpus_of_mps, char *word)
{
    const char *visible = gpus_of_mps ? gpus_of_mps : getenv("CUDA_VISIBLE_DEVICES");
    char request[MAX_WORD + 128], *values;
    unsigned long long asked, available;
    int code;

    snprintf(word, MAX_WORD, "%llu", options->gpu);
    if (visible && !visible_gpu(endpoint, visible, options->gpu, word)) {
        fprintf(stderr, "gpu-workload: GPU %llu: no such GPU within %s=%s\n", options->gpu,
                gpus_of_mps ? "those that MPS lets this process see" : "CUDA_VISIBLE_DEVICES", visible);
        exit(EXIT_NO_GPU);
    }

    int written = snprintf(request, sizeof request, "attach %s %llu %llu", word, options->sm, options->memory);

    if (!endpoint->sees_pid)
        snprintf(request + written, sizeof request - (size_t)written, " %ld", (long)getpid());
    ask(endpoint, request, &code, &values);
    if (code == 0)
        return;
    if (code == OUT_OF_MEMORY && strncmp(values, "out_of_memory asked ", 20) == 0) {
        values += 20;
        if (read_number(&values, &asked) && strncmp(values, "free ", 5) == 0) {
            values += 5;
            if (read_number(&values, &available)) {
                fprintf(stderr, "gpu-workload: GPU %llu: out of memory", options->gpu);
                print_bytes(" (asked ", asked);
                print_bytes(", free ", available);
                fputs(")\n", stderr);
                exit(EXIT_NO_GPU);
            }
        }
    }
    fprintf(stderr, "gpu-workload: GPU %llu: %s\n", options->gpu, values);
    exit(EXIT_NO_GPU);
}

static long long milliseconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* Ends the process with what the server says of its use of the GPU. */
static _Noreturn void report_loss(struct endpoint *endpoint, const struct options *options)
{
    char line[256];
    ssize_t got = recv(endpoint->fd, line, sizeof line - 1, 0);
    const char *reason = "the server closed the connection";

    if (got > 5 && memcmp(line, "lost ", 5) == 0) {
        line[got] = '\0';
        line[strcspn(line, "\n")] = '\0';
        reason = line + 5;
    }
    fprintf(stderr, "gpu-workload: GPU %llu: lost: %s\n", options->gpu, reason);
    exit(EXIT_NO_GPU);
}

/* Waits for the time to pass; what comes unasked is `lost REASON` or the end of the connection. */
static void hold(struct endpoint *endpoint, const struct options *options)
{
    struct pollfd connection = { .fd = endpoint->fd, .events = POLLIN };
    unsigned long long seconds = options->has_fault ? options->fault : options->seconds;
    bool forever = !options->has_fault && !options->seconds;
    long long end = milliseconds_now() + (long long)seconds * 1000;

    for (;;) {
        long long left = forever ? 60000 : end - milliseconds_now();

        if (left <= 0)
            return;
        if (poll(&connection, 1, left < 60000 ? (int)left : 60000) > 0)
            report_loss(endpoint, options);
    }
}

/* The answer to the request is the loss of what it used. */
static _Noreturn void fault(struct endpoint *endpoint, const struct options *options, const char *gpu)
{
    char request[MAX_WORD + 16];

    snprintf(request, sizeof request, "fault %s\n", gpu);
    if (send(endpoint->fd, request, strlen(request), MSG_NOSIGNAL) < 0)
        perror("gpu-workload: fault");
    report_loss(endpoint, options);
}

int main(int count, char **arguments)
{
    struct endpoint endpoint = ENDPOINT_INITIALIZER, daemon = ENDPOINT_INITIALIZER;
    const char *gpus_of_mps = NULL;
    char gpu[MAX_WORD];
    struct options options = parse(arguments + (count > 0));
    const char *problem = endpoint_open(&endpoint);

    if (problem) {
        fprintf(stderr, "gpu-workload: %s: the GPUs cannot be reached: %s\n", endpoint_name(), problem);
        return EXIT_NO_GPU;
    }
    if (endpoint.sees_pid)
        join_mps(&daemon, &gpus_of_mps);
    attach(&endpoint, &options, gpus_of_mps, gpu);
    if (!options.command) {
        hold(&endpoint, &options);
        if (options.has_fault)
            fault(&endpoint, &options, gpu);
        return EXIT_SUCCESS;
    }
    /* The command keeps the connections, and with them what was declared. */
    fcntl(endpoint.fd, F_SETFD, 0);
    if (daemon.fd >= 0)
        fcntl(daemon.fd, F_SETFD, 0);
    execvp(options.command[0], options.command);
    fprintf(stderr, "gpu-workload: %s: %s\n", options.command[0], strerror(errno));
    return errno == ENOENT ? EXIT_NO_COMMAND : EXIT_CANNOT_EXECUTE;
}
