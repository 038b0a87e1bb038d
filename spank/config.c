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

int gpushare_config_parse(struct gpushare_config *config, int argc, char **argv, char *why, size_t size)
{
	*config = (struct gpushare_config){
		.launcher = "/opt/gpushare/libexec/gpushare-launch",
		.run_dir = "/run/gpushare",
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
		} else {
			snprintf(why, size,
				 "plugstack.conf: unknown argument '%.200s': write launcher=PATH, run_dir=PATH or see_images=no",
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
