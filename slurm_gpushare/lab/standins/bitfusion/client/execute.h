/* Running the user's command: its environment, the signals that are passed on, its exit status. */
#ifndef EXECUTE_H
#define EXECUTE_H

#include "allocation.h"

/* Catch the signals that ask this program to stop or that its command may want: from here on they end nothing by
 * themselves. */
void catch_signals(void);

/* The signal that arrived while there was no command to pass it to, or 0. */
int caught_signal(void);

/* Run the command on the allocation, call `started` once it runs, pass signals on, and return its exit status: 128+n
 * where signal n ended it, or arrived before it was started. A command that cannot be executed gives a line on stderr
 * and the status of an error. */
int execute(char **argv, const struct allocation *allocation, void (*started)(void *context), void *context);

#endif
