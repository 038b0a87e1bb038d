/*
 * Another site's SPANK plugin: registers the names that pyxis has for containers, and says in the task what it was given.
 */
#include <stdio.h>
#include <string.h>

#include <slurm/spank.h>

SPANK_PLUGIN(pyxis, 1)

static char image[4096];

static int keep(int number, const char *value, int remote)
{
	(void)remote;
	if (number == 0)
		snprintf(image, sizeof(image), "%s", value != NULL ? value : "");
	return 0;
}

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	static const char *const names[] = {
		"container-image",	    "container-mounts",		   "container-workdir",	    "container-name",
		"container-save",	    "container-mount-home",	   "no-container-mount-home", "container-remap-root",
		"no-container-remap-root",  "container-entrypoint",	   "no-container-entrypoint", "container-entrypoint-log",
		"container-writable",	    "container-readonly",	   "container-env",
	};

	(void)argc;
	(void)argv;
	for (int i = 0; i < (int)(sizeof(names) / sizeof(names[0])); i++) {
		struct spank_option option = {
			.name = (char *)names[i],
			.arginfo = "VALUE",
			.usage = "[pyxis] of another plugin",
			.has_arg = strstr(names[i], "home") || strstr(names[i], "root") || strstr(names[i], "entrypoint") ||
						   strstr(names[i], "writable") || strstr(names[i], "readonly") ?
					   0 :
					   1,
			.val = i,
			.cb = keep,
		};

		if (spank_option_register(spank, &option) != ESPANK_SUCCESS)
			return -1;
	}
	return 0;
}

int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
	(void)spank;
	(void)argc;
	(void)argv;
	if (image[0] != '\0')
		fprintf(stderr, "foreign: image %s\n", image);
	return 0;
}
