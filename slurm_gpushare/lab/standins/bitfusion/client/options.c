/* The command line: the documented subcommands and options and no others. Errors read like those of Go's cobra, which
 * the original's look like. */
#include "options.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../assumed.h"
#include "words.h"

#define FLAGS_OF_REQUEST "nmpsF"

static const struct {
    const char *name;
    enum command command;
    const char *flags; /* n p m: -n -p -m; s: --server_list; F: --filter; f: -f; c: takes a command */
    const char *synopsis;
} COMMANDS[] = {
    {"run", RUN, FLAGS_OF_REQUEST "c", "-n num_gpus [flags] -- command [arguments]"},
    {"request_gpus", REQUEST_GPUS, FLAGS_OF_REQUEST, "-n num_gpus [flags]"},
    {"client", CLIENT, "c", "-- command [arguments]"},
    {"release_gpus", RELEASE_GPUS, "f", "[-f file]"},
    {"list_gpus", LIST_GPUS, "", ""},
    {"health", HEALTH, "", ""},
    {"smi", SMI, "", ""},
    {"version", VERSION, "", ""},
};
static const size_t COMMAND_COUNT = sizeof COMMANDS / sizeof *COMMANDS;

static const char *const FILTER_KEYS[] = {"server.addr",         "server.hostname",       "server.has-rdma",
                                          "server.cuda-version", "server.dirver-version", "server.driver-version",
                                          "device.id",           "device.name",           "device.phy-memory"};
static const size_t FILTER_KEY_COUNT = sizeof FILTER_KEYS / sizeof *FILTER_KEYS;

static size_t chosen; /* index into COMMANDS */

static void usage(FILE *out) {
    fprintf(out, "Usage:\n  bitfusion %s %s\n", COMMANDS[chosen].name, COMMANDS[chosen].synopsis);
    const char *flags = COMMANDS[chosen].flags;
    fprintf(out, "\nFlags:\n");
    if (strchr(flags, 'n'))
        fprintf(out, "  -n num_gpus            number of GPUs, all from one server (required)\n"
                     "  -p gpu_fraction        memory of each GPU as a fraction, > 0.0 and <= 1.0 (default 1)\n"
                     "  -m MBs_per_gpu         memory of each GPU in MB\n"
                     "      --server_list      servers to use, HOST:PORT, instead of those in servers.conf\n"
                     "      --filter           KEY=VALUE that the server or device must match (repeatable)\n");
    if (strchr(flags, 'f'))
        fprintf(out, "  -f file                allocation file to release\n");
    fprintf(out, "  -h, --help             help for %s\n", COMMANDS[chosen].name);
}

static void general_usage(FILE *out) {
    fprintf(out, "Usage:\n  bitfusion [command]\n\nAvailable Commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %s\n", COMMANDS[i].name);
    fprintf(out, "\nUse \"bitfusion [command] --help\" for more information about a command.\n");
}

__attribute__((noreturn, format(printf, 1, 2))) static void refuse(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "Error: ");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    usage(stderr);
    exit(ASSUMED_EXIT_ERROR);
}

void shortest(double value, char *out, size_t size) {
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, size, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            return;
    }
}

static long positive(const char *text, const char *flag) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end || strspn(text, "-+0123456789") != strlen(text))
        refuse("invalid argument \"%s\" for \"%s\" flag: strconv.ParseInt: parsing \"%s\": invalid syntax", text, flag,
               text);
    if (errno || value < 1 || value > INT_MAX)
        refuse("invalid argument \"%s\" for \"%s\" flag: must be at least 1", text, flag);
    return value;
}

static double fraction(const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || strspn(text, "+-.eE0123456789") != strlen(text))
        refuse("invalid argument \"%s\" for \"-p\" flag: strconv.ParseFloat: parsing \"%s\": invalid syntax", text,
               text);
    if (!(value > 0 && value <= 1))
        refuse(ASSUMED_TEXT_FRACTION, text);
    return value;
}

static void add_filter(struct options *options, const char *text) {
    const char *equals = strchr(text, '=');
    char keys[256] = "";
    for (size_t i = 0; i < FILTER_KEY_COUNT; i++) {
        size_t length = strlen(FILTER_KEYS[i]);
        if (equals && equals[1] && (size_t)(equals - text) == length && !strncmp(text, FILTER_KEYS[i], length)) {
            if (options->filter_count == MAX_FILTERS)
                refuse("more than %d filters", MAX_FILTERS);
            options->filters[options->filter_count++] = text;
            return;
        }
        snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s%s", i ? ", " : "", FILTER_KEYS[i]);
    }
    refuse(ASSUMED_TEXT_FILTER, text, keys);
}

struct given {
    bool n, p, m;
};

static void set_flag(struct options *options, struct given *given, char flag, const char *value) {
    switch (flag) {
    case 'n':
        options->gpus = (int)positive(value, "-n");
        given->n = true;
        break;
    case 'p':
        options->fraction = fraction(value);
        given->p = true;
        break;
    case 'm':
        options->mebibytes = positive(value, "-m");
        given->m = true;
        break;
    case 's':
        options->server_list = value;
        break;
    case 'F':
        add_filter(options, value);
        break;
    default:
        options->file = value;
    }
}

/* Read one option at argv[*at]; *at is left on its last word. */
static void take_option(int argc, char **argv, int *at, struct options *options, struct given *given) {
    const char *word = argv[*at], *flags = COMMANDS[chosen].flags, *value;
    if (!strcmp(word, "-h") || !strcmp(word, "--help")) {
        usage(stdout);
        exit(0);
    }
    char flag = 0;
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        if (length == strlen("server_list") && !strncmp(word + 2, "server_list", length) && strchr(flags, 's'))
            flag = 's';
        else if (length == strlen("filter") && !strncmp(word + 2, "filter", length) && strchr(flags, 'F'))
            flag = 'F';
        else
            refuse("unknown flag: --%.*s", (int)length, word + 2);
        value = word[2 + length] ? word + 3 + length : NULL;
        if (!value && *at + 1 == argc)
            refuse("flag needs an argument: %s", word);
    } else {
        flag = word[1];
        if (!strchr("npmf", flag) || !strchr(flags, flag))
            refuse("unknown shorthand flag: '%c' in %s", flag, word);
        value = word[2] ? word + 2 + (word[2] == '=') : NULL;
        if (!value && *at + 1 == argc)
            refuse("flag needs an argument: '%c' in %s", flag, word);
    }
    set_flag(options, given, flag, value ? value : argv[++*at]);
}

/* The rest of the line is the command: after `--` as it stands; without `--` a single word is a whole command line. */
static void take_command(int argc, char **argv, int at, bool literal, struct options *options) {
    if (!strchr(COMMANDS[chosen].flags, 'c')) {
        if (at < argc)
            refuse("unknown command \"%s\" for \"bitfusion %s\"", argv[at], COMMANDS[chosen].name);
        return;
    }
    options->argv = argv + at;
    if (!literal && argc - at == 1 && !(options->argv = split_words(argv[at])))
        refuse("a quote is not closed in \"%s\"", argv[at]);
    if (!options->argv[0] || !options->argv[0][0])
        refuse(ASSUMED_TEXT_NO_COMMAND);
}

static void choose_command(int argc, char **argv, struct options *options) {
    if (argc < 2 || !strcmp(argv[1], "-h") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "help")) {
        general_usage(stdout);
        exit(0);
    }
    for (chosen = 0; chosen < COMMAND_COUNT; chosen++)
        if (!strcmp(argv[1], COMMANDS[chosen].name)) {
            options->command = COMMANDS[chosen].command;
            return;
        }
    if (argv[1][0] == '-')
        fprintf(stderr, "Error: unknown flag: %s\n", argv[1]);
    else
        fprintf(stderr, "Error: unknown command \"%s\" for \"bitfusion\"\nRun 'bitfusion --help' for usage.\n",
                argv[1]);
    exit(ASSUMED_EXIT_ERROR);
}

void parse_options(int argc, char **argv, struct options *options) {
    *options = (struct options){.fraction = 1};
    struct given given = {0};
    choose_command(argc, argv, options);
    int at = 2;
    bool literal = false;
    /* Options end at the first word that is none. */
    for (; at < argc && argv[at][0] == '-' && argv[at][1]; at++) {
        if (!strcmp(argv[at], "--")) {
            literal = true;
            at++;
            break;
        }
        take_option(argc, argv, &at, options, &given);
    }
    if (strchr(COMMANDS[chosen].flags, 'n') && !given.n)
        refuse("required flag(s) \"n\" not set");
    if (given.p && given.m)
        refuse(ASSUMED_TEXT_EXCLUSIVE);
    take_command(argc, argv, at, literal, options);
}
