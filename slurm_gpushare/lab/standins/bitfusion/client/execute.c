/* Running the user's command: its environment, the signals that are passed on, its exit status. */
#include "execute.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../assumed.h"
#include "log.h"

#define LIBRARIES "/opt/bitfusion/lib/x86_64-linux-gnu/"
#define INTERCEPT LIBRARIES "/bitfusion//lib/libsyscall_intercept.so"
#define LIBRARY_PATH                                                                                                   \
    LIBRARIES "/bitfusion//lib/nvml:/opt/intel/opencl/lib64:" LIBRARIES                                                \
              "/bitfusion//lib/cuda:/etc/bitfusion/icd:" LIBRARIES "/bitfusion//lib/"                                  \
              "opencl:" LIBRARIES "/bitfusion//lib"

static const int PASSED_ON[] = {SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
static const size_t PASSED_ON_COUNT = sizeof PASSED_ON / sizeof *PASSED_ON;

static volatile sig_atomic_t pending, command; /* a signal without a command to pass it to; the command's pid */

static void pass_on(int signal) {
    int error = errno;
    if (command)
        kill(command, signal);
    else
        pending = signal;
    errno = error;
}

void catch_signals(void) {
    struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART}, old;
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < PASSED_ON_COUNT; i++) {
        sigaction(PASSED_ON[i], NULL, &old);
        /* What the caller ignores (nohup) stays ignored. */
        if (old.sa_handler != SIG_IGN)
            sigaction(PASSED_ON[i], &action, NULL);
    }
}

int caught_signal(void) {
    return pending;
}

static void set(const char *name, const char *value) {
    if (setenv(name, value, 1)) {
        perror("setenv");
        _exit(ASSUMED_EXIT_ERROR);
    }
}

/* The variables that a command was seen with under the original, and the stand-in's own way to its GPUs. */
static void set_environment(const struct allocation *a) {
    char text[65536];
    const char *old = getenv("LD_LIBRARY_PATH");
    set("BF_BIN_PATH", LIBRARIES "//bin");
    set("BF_ADAPTOR_PATH", LIBRARIES);
    set("BF_ADAPTOR_RDMA", "1");
    /* An empty entry would be the working folder. */
    snprintf(text, sizeof text, "%s%s%s", LIBRARY_PATH, old && *old ? ":" : "", old ? old : "");
    set("LD_LIBRARY_PATH", text);
    /* A library that is not there would make the loader complain in every program. */
    if (!access(INTERCEPT, R_OK)) {
        const char *preload = getenv("LD_PRELOAD");
        snprintf(text, sizeof text, "%s:%s", preload ? preload : "", INTERCEPT);
        set("LD_PRELOAD", text);
    }
    snprintf(text, sizeof text, "tcp:%s:%d:%s:%s", a->ip, a->data_port, a->uuid, a->secret);
    set("NVML_STANDIN_ENDPOINT", text);
}

__attribute__((noreturn)) static void become(char **argv, const struct allocation *allocation, int report,
                                             const sigset_t *mask) {
    set_environment(allocation);
    for (size_t i = 0; i < PASSED_ON_COUNT; i++) {
        struct sigaction action;
        sigaction(PASSED_ON[i], NULL, &action);
        if (action.sa_handler != SIG_IGN)
            signal(PASSED_ON[i], SIG_DFL);
    }
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(argv[0], argv);
    int error = errno;
    if (write(report, &error, sizeof error) < 0)
        perror("write");
    _exit(ASSUMED_EXIT_ERROR);
}

static int status_of(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return ASSUMED_EXIT_ERROR;
    return WIFSIGNALED(status) ? ASSUMED_EXIT_SIGNAL_BASE + WTERMSIG(status) : WEXITSTATUS(status);
}

int execute(char **argv, const struct allocation *allocation, void (*started)(void *context), void *context) {
    sigset_t all, mask;
    int report[2], error;
    fflush(NULL);
    if (pipe2(report, O_CLOEXEC)) {
        fprintf(stderr, "Error: pipe: %s\n", errno_text(errno));
        return ASSUMED_EXIT_ERROR;
    }
    /* Between fork and the note of its pid no signal may be lost. */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &mask);
    int early = pending;
    pid_t child = early ? 0 : fork();
    if (!early && child == 0)
        become(argv, allocation, report[1], &mask);
    int fork_error = errno;
    command = child > 0 ? child : 0;
    sigprocmask(SIG_SETMASK, &mask, NULL);
    close(report[1]);
    ssize_t told;
    while ((told = read(report[0], &error, sizeof error)) < 0 && errno == EINTR)
        ;
    close(report[0]);
    if (early)
        return ASSUMED_EXIT_SIGNAL_BASE + early;
    if (child < 0) {
        fprintf(stderr, "Error: fork/exec %s: %s\n", argv[0], errno_text(fork_error));
        return ASSUMED_EXIT_ERROR;
    }
    if (told == (ssize_t)sizeof error) {
        command = 0;
        status_of(child);
        if (error == ENOENT && !strchr(argv[0], '/'))
            fprintf(stderr, "Error: exec: \"%s\": executable file not found in $PATH\n", argv[0]);
        else
            fprintf(stderr, "Error: fork/exec %s: %s\n", argv[0], errno_text(error));
        return ASSUMED_EXIT_ERROR;
    }
    started(context);
    int status = status_of(child);
    command = 0;
    return status;
}
