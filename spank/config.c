/* Reads the arguments of the plugin's line in plugstack.conf. */
#include <stdio.h>
#include <string.h>

#include "gpushare.h"

/* Return what follows "key=" in word, or NULL when word is not of that key. */
static const char *value_of(const char *word, const char *key)
{
	size_t length = strlen(key);

	if (strncmp(word, key, length) != 0 || word[length] != '=')
		return NULL;
	return word + length + 1;
}

/* Whether the names of options can begin so: the first of them must not become another's name. */
static bool is_prefix(const char *text)
{
	size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return length > 1 && length <= PREFIX_MAX && text[length] == '\0' && text[0] != '-' &&
	       text[length - 1] == '-' && strcmp(text, "no-") != 0;
}

int gpushare_config_parse(struct gpushare_config *config, int argc, char **argv, char *why, size_t size)
{
	*config = (struct gpushare_config){
		.launcher = "/opt/gpushare/libexec/gpushare-launch",
		.run_dir = "/run/gpushare",
		.prefix = "",
		.see_images = true,
	};

	for (int i = 0; i < argc; i++) {
		const char *path;

		if ((path = value_of(argv[i], "launcher")) != NULL) {
			config->launcher = path;
		} else if ((path = value_of(argv[i], "run_dir")) != NULL) {
			config->run_dir = path;
		} else if (strcmp(argv[i], "see_images=yes") == 0 || strcmp(argv[i], "see_images=no") == 0) {
			config->see_images = strcmp(argv[i], "see_images=yes") == 0;
			continue;
		} else if ((path = value_of(argv[i], "prefix")) != NULL) {
			if (!is_prefix(path)) {
				snprintf(why, size,
					 "plugstack.conf: '%.200s': write small letters, digits and -, at most %d, with - "
					 "at the end, as prefix=gpushare-",
					 argv[i], PREFIX_MAX);
				return -1;
			}
			config->prefix = path;
			continue;
		} else {
			snprintf(why, size,
				 "plugstack.conf: unknown argument '%.200s': write launcher=PATH, run_dir=PATH, "
				 "see_images=no or prefix=gpushare-",
				 argv[i]);
			return -1;
		}
		if (path[0] != '/') {
			snprintf(why, size, "plugstack.conf: '%.200s' is not an absolute path: it must begin with /",
				 argv[i]);
			return -1;
		}
	}
	return 0;
}
