/* The client's configuration: ~/.bitfusion (which must be writable) over /etc/bitfusion. */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#define MAX_SERVERS 64
#define ADDRESS_SIZE 272

struct config {
    char token[256];
    char client_id[37];
    bool first_contact; /* this user had no client id yet */
    int timeout_ms;     /* of one exchange with a server */
    char addresses[MAX_SERVERS][ADDRESS_SIZE];
    size_t address_count; /* 0 where servers.conf cannot be read or written: the reason has been printed */
};

/* Read the configuration, make ~/.bitfusion from /etc/bitfusion where the user has none, and do to it what the original
 * does: client.yaml is backed up and given a client id, servers.conf is rewritten. `server_list` (or NULL) replaces
 * servers.conf. Ends the program without a token. */
void load_config(struct config *config, const char *server_list);

/* Read addresses from the text of a servers.conf, in its plain form (HOST:PORT a line) or as YAML; false with a reason
 * where it is neither. */
bool parse_servers(const char *text, struct config *config, char *why, size_t why_size);

/* Read token, client id and timeout from the text of a client.yaml. */
void parse_client(const char *text, struct config *config);

/* The text of a file in a malloc'ed string, or NULL with errno. */
char *read_file(const char *path);

#endif
