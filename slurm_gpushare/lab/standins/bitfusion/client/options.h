/* The command line: the documented subcommands and options and no others. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define MAX_FILTERS 32

enum command { RUN, REQUEST_GPUS, CLIENT, RELEASE_GPUS, LIST_GPUS, HEALTH, SMI, VERSION };

struct options {
    enum command command;
    int gpus;                         /* -n */
    double fraction;                  /* -p; 1 where neither -p nor -m is given */
    long mebibytes;                   /* -m; 0: not given */
    const char *server_list;          /* --server_list; NULL: not given */
    const char *filters[MAX_FILTERS]; /* --filter KEY=VALUE */
    size_t filter_count;
    const char *file; /* -f */
    char **argv;      /* the command to run, ended by NULL */
};

/* Fill `options`. Prints usage or an error and ends the program where there is nothing to do. */
void parse_options(int argc, char **argv, struct options *options);

/* A number as Go's %v prints it: the shortest text that reads back as the same number. */
void shortest(double value, char *out, size_t size);

#endif
