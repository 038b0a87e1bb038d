/* The options that the plugin adds to srun, sbatch, salloc and scrontab, and what their values may be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpushare.h"

#define VALUE_MAX 4096

typedef int (*check_f)(const char *value, char *why, size_t size);

static int check_image(const char *value, char *why, size_t size)
{
	char here[PATH_MAX];

	if (value[0] == '/' || strstr(value, "://") != NULL)
		return 0;
	/* Slurm sends the value as it was typed and another node may have another folder, so it cannot be completed. */
	if (getcwd(here, sizeof(here)) == NULL || value[0] == '~')
		snprintf(why, size, "'%.200s' is not an absolute path: write the whole path, from / on", value);
	else
		snprintf(why, size, "'%.200s' is not an absolute path: write --container-image=%s/%s", value,
			 strcmp(here, "/") == 0 ? "" : here, value);
	return -1;
}

/* One mount, SRC:DST or SRC:DST:ro, of length bytes. */
static int check_mount(const char *mount, size_t length)
{
	const char *end = mount + length;
	const char *target = memchr(mount, ':', length);
	const char *flag;

	if (mount[0] != '/' || target == NULL || target[1] != '/')
		return -1;
	target++;
	flag = memchr(target, ':', (size_t)(end - target));
	if (flag == NULL)
		return 0;
	return (size_t)(end - flag) == strlen(":ro") && memcmp(flag, ":ro", strlen(":ro")) == 0 ? 0 : -1;
}

static int check_mounts(const char *value, char *why, size_t size)
{
	for (const char *mount = value; mount != NULL;) {
		size_t length = strcspn(mount, ",");

		if (length == 0 || check_mount(mount, length) != 0) {
			snprintf(why, size, "'%.*s' is not a mount: write SRC:DST or SRC:DST:ro with absolute paths",
				 (int)(length < 200 ? length : 200), mount);
			return -1;
		}
		mount = mount[length] == ',' ? mount + length + 1 : NULL;
	}
	return 0;
}

static int check_dataset(const char *value, char *why, size_t size)
{
	for (const char *name = value; name != NULL;) {
		size_t length = strcspn(name, ",");

		if (length == 0) {
			snprintf(why, size, "'%.200s' has an empty name in it: write NAME or NAME,NAME", value);
			return -1;
		}
		name = name[length] == ',' ? name + length + 1 : NULL;
	}
	return 0;
}

static int check_scope(const char *value, char *why, size_t size)
{
	if (strcmp(value, "job") == 0 || strcmp(value, "tasks") == 0)
		return 0;
	snprintf(why, size, "'%.200s' is neither job nor tasks: write --container-scope=job or --container-scope=tasks",
		 value);
	return -1;
}

static const struct {
	char *name;
	char *arginfo;
	char *usage;
	check_f check;
} options[OPTION_COUNT] = {
	[OPTION_IMAGE] = {
		.name = "container-image",
		.arginfo = "PATH",
		.usage = "[gpushare] run in this image: the absolute path of an image file or folder",
		.check = check_image,
	},
	[OPTION_MOUNTS] = {
		.name = "container-mounts",
		.arginfo = "SRC:DST[:ro][,...]",
		.usage = "[gpushare] folders to show inside the container, each as SRC:DST or SRC:DST:ro",
		.check = check_mounts,
	},
	[OPTION_DATASET] = {
		.name = "dataset",
		.arginfo = "NAME[,...]",
		.usage = "[gpushare] datasets to show inside the container, by the names that the site gave them",
		.check = check_dataset,
	},
	[OPTION_SCOPE] = {
		.name = "container-scope",
		.arginfo = "job|tasks",
		.usage = "[gpushare] job (default): all runs in the container; tasks: the batch script stays outside, "
			 "what srun starts runs in it",
		.check = check_scope,
	},
};

const char *gpushare_option_name(enum gpushare_option option)
{
	return options[option].name;
}

/* Return 0 when value may stand for the option; otherwise -1 and, in why, the option, the value and what to write. */
int gpushare_option_check(enum gpushare_option option, const char *value, char *why, size_t size)
{
	int used = snprintf(why, size, "--%s: ", options[option].name);

	why += used;
	size -= (size_t)used;

	if (value == NULL || value[0] == '\0') {
		snprintf(why, size, "the value is empty: write --%s=%s", options[option].name, options[option].arginfo);
		return -1;
	}
	if (strlen(value) > VALUE_MAX) {
		snprintf(why, size, "the value is %zu bytes long: at most %d are allowed", strlen(value), VALUE_MAX);
		return -1;
	}
	for (const char *byte = value; *byte != '\0'; byte++) {
		/* The byte itself is not printed: it could drive the reader's terminal. */
		if ((unsigned char)*byte < 0x20 || *byte == 0x7f) {
			snprintf(why, size, "character %td of the value is a control character: leave it out",
				 byte - value + 1);
			return -1;
		}
	}
	return options[option].check(value, why, size);
}

int gpushare_options_register(spank_t spank, spank_opt_cb_f callback)
{
	for (int i = 0; i < OPTION_COUNT; i++) {
		struct spank_option option = {
			.name = options[i].name,
			.arginfo = options[i].arginfo,
			.usage = options[i].usage,
			.has_arg = 1,
			.val = i,
			.cb = callback,
		};

		if (spank_option_register(spank, &option) != ESPANK_SUCCESS) {
			slurm_error("gpushare: init: couldn't register option --%s", options[i].name);
			return -1;
		}
	}
	return 0;
}
