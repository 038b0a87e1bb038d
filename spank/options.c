/* The options that the plugin adds to srun, sbatch, salloc and scrontab, and what their values may be. */
#include <ctype.h>
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
		snprintf(why, size, "'%.200s' is not an absolute path: write --%s=%s/%s", value,
			 gpushare_option_name(OPTION_IMAGE), strcmp(here, "/") == 0 ? "" : here, value);
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
	snprintf(why, size, "'%.200s' is neither job nor tasks: write --%s=job or --%s=tasks", value,
		 gpushare_option_name(OPTION_SCOPE), gpushare_option_name(OPTION_SCOPE));
	return -1;
}

static int check_workdir(const char *value, char *why, size_t size)
{
	if (value[0] == '/')
		return 0;
	snprintf(why, size, "'%.200s' is not an absolute path: write the folder as it is in the container, from / on", value);
	return -1;
}

static int check_env(const char *value, char *why, size_t size)
{
	for (const char *name = value; name != NULL;) {
		size_t length = strcspn(name, ",");
		size_t good = 0;

		while (good < length && (isalpha((unsigned char)name[good]) || name[good] == '_' ||
					 (good > 0 && isdigit((unsigned char)name[good]))))
			good++;
		if (length == 0 || good < length) {
			snprintf(why, size, "'%.*s' is not the name of a variable: write NAME or NAME,NAME",
				 (int)(length < 200 ? length : 200), name);
			return -1;
		}
		name = name[length] == ',' ? name + length + 1 : NULL;
	}
	return 0;
}

static int check_flag(const char *value, char *why, size_t size)
{
	if (strcmp(value, "yes") == 0 || strcmp(value, "no") == 0)
		return 0;
	snprintf(why, size, "'%.200s' is neither yes nor no", value);
	return -1;
}

static int check_nothing(const char *value, char *why, size_t size)
{
	if (strcmp(value, "yes") == 0)
		return 0;
	snprintf(why, size, "'%.200s': it takes no value", value);
	return -1;
}

#define NUMBER_MAX 32 /* bytes of a share, an amount of memory or a backend's name */

/*
 * Read decimal digits with at most one point into value and return what follows them; NULL where there is no digit.
 * strtod() would take a locale's comma, signs, exponents, hexadecimal digits, inf and nan.
 */
static const char *read_decimal(const char *text, double *value)
{
	double scale = 1;
	int digits = 0;

	*value = 0;
	for (; isdigit((unsigned char)*text); text++, digits++)
		*value = *value * 10 + (*text - '0');
	if (*text == '.') {
		for (text++; isdigit((unsigned char)*text); text++, digits++)
			*value += (*text - '0') / (scale *= 10);
	}
	return digits > 0 ? text : NULL;
}

static int check_share(const char *value, char *why, size_t size)
{
	double share, whole = 1;
	const char *rest = strlen(value) > NUMBER_MAX ? NULL : read_decimal(value, &share);

	if (rest != NULL && strcmp(rest, "%") == 0) {
		whole = 100;
		rest++;
	} else if (rest != NULL && *rest == '/' && memchr(value, '.', (size_t)(rest - value)) == NULL) {
		const char *below = rest + 1;

		rest = strchr(below, '.') == NULL ? read_decimal(below, &whole) : NULL;
	}
	if (rest == NULL || *rest != '\0' || whole == 0) {
		snprintf(why, size, "'%.200s' is not a share of a GPU: write it as 0.25, 25%% or 1/4", value);
		return -1;
	}
	if (share == 0) {
		snprintf(why, size, "'%.200s' asks for nothing: write a share above 0, such as 0.25", value);
		return -1;
	}
	if (share > whole) {
		snprintf(why, size, "'%.200s' is more than one GPU: write a share up to 1, or --gres=gpu:N for N GPUs",
			 value);
		return -1;
	}
	return 0;
}

static int check_memory(const char *value, char *why, size_t size)
{
	double amount;
	const char *unit = strlen(value) > NUMBER_MAX ? NULL : read_decimal(value, &amount);

	if (unit == NULL || !isdigit((unsigned char)value[0]) || *unit == '\0' || strchr("KMGTkmgt", *unit) == NULL ||
	    (strcmp(unit + 1, "") != 0 && strcmp(unit + 1, "iB") != 0)) {
		snprintf(why, size, "'%.200s' is not an amount of memory: write it with its unit, as 8G or 500M", value);
		return -1;
	}
	if (amount == 0) {
		snprintf(why, size, "'%.200s' asks for nothing: write an amount above 0, such as 8G", value);
		return -1;
	}
	return 0;
}

static int check_backend(const char *value, char *why, size_t size)
{
	size_t length = strlen(value);

	for (const char *c = value; *c != '\0'; c++) {
		if (!isalnum((unsigned char)*c) && *c != '_' && *c != '-')
			length = 0;
	}
	if (length == 0 || length > NUMBER_MAX) {
		snprintf(why, size, "'%.200s' is not the name of a backend: write one that the site has, such as shard",
			 value);
		return -1;
	}
	return 0;
}

static const struct {
	char *name;
	char *arginfo;
	char *usage;
	check_f check;
	bool for_task; /* whether the launcher is told */
	int has_arg; /* as SPANK has it: 0 none, 1 one, 2 one that may be left out, which means yes */
} options[OPTION_COUNT] = {
	[OPTION_IMAGE] = {
		.name = "container-image",
		.arginfo = "PATH",
		.usage = "[gpushare] run in this image: the absolute path of an image file or folder, or docker://... where "
			 "the site allows it",
		.check = check_image,
		.for_task = true,
		.has_arg = 1,
	},
	[OPTION_MOUNTS] = {
		.name = "container-mounts",
		.arginfo = "SRC:DST[:ro][,...]",
		.usage = "[gpushare] folders to show inside the container, each as SRC:DST or SRC:DST:ro",
		.check = check_mounts,
		.for_task = true,
		.has_arg = 1,
	},
	[OPTION_DATASET] = {
		.name = "dataset",
		.arginfo = "NAME[:DST][,...]",
		.usage = "[gpushare] datasets to show inside the container, by the names of `gpushare datasets`, each at DST "
			 "instead of the site's place",
		.check = check_dataset,
		.for_task = true,
		.has_arg = 1,
	},
	[OPTION_SCOPE] = {
		.name = "container-scope",
		.arginfo = "job|tasks",
		.usage = "[gpushare] job (default): all runs in the container; tasks: the batch script stays outside, "
			 "what srun starts runs in it",
		.check = check_scope,
		.for_task = true,
		.has_arg = 1,
	},
	[OPTION_WORKDIR] = {
		.name = "container-workdir",
		.arginfo = "PATH",
		.usage = "[gpushare] folder of the container to start in, instead of the job's own working folder",
		.check = check_workdir,
		.for_task = true,
		.has_arg = 1,
	},
	[OPTION_MOUNT_HOME] = {
		.name = "container-mount-home",
		.arginfo = "yes|no",
		.usage = "[gpushare] show the home folder inside the container",
		.check = check_flag,
		.for_task = true,
		.has_arg = 2,
	},
	[OPTION_NO_MOUNT_HOME] = {
		.name = "no-container-mount-home",
		.arginfo = "",
		.usage = "[gpushare] do not show the home folder inside the container",
		.check = check_nothing,
		.for_task = true,
		.has_arg = 0,
	},
	[OPTION_ENV] = {
		.name = "container-env",
		.arginfo = "NAME[,...]",
		.usage = "[gpushare] variables that the container has from the job whatever its image sets, such as PATH",
		.check = check_env,
		.for_task = true,
		.has_arg = 1,
	},
	[OPTION_WRITABLE] = {
		.name = "container-writable",
		.arginfo = "yes|no",
		.usage = "[gpushare] let programs write into the image's folders; what they write is gone at each task's end",
		.check = check_flag,
		.for_task = true,
		.has_arg = 2,
	},
	/* These say what the job is given, which is settled before it starts: steps and tasks have nothing to do with them. */
	[OPTION_GPU_SHARE] = {
		.name = "gpu-share",
		.arginfo = "F",
		.usage = "[gpushare] share of one GPU on each node of the job: 0.25, 25% or 1/4",
		.check = check_share,
		.has_arg = 1,
	},
	[OPTION_GPU_MEM] = {
		.name = "gpu-mem",
		.arginfo = "SIZE",
		.usage = "[gpushare] memory of a GPU, such as 8G: alone it says how large the share is, beside a share it is a "
			 "limit within it",
		.check = check_memory,
		.has_arg = 1,
	},
	[OPTION_GPU_BACKEND] = {
		.name = "gpu-backend",
		.arginfo = "NAME",
		.usage = "[gpushare] what gives the share, where the site leaves the choice",
		.check = check_backend,
		.has_arg = 1,
	},
};

/* The names with the prefix, of those that have it. */
static char prefixed[OPTION_COUNT][SPANK_OPTION_MAXLEN + 1];

const char *gpushare_option_name(enum gpushare_option option)
{
	return prefixed[option][0] != '\0' ? prefixed[option] : options[option].name;
}

const char *gpushare_option_key(enum gpushare_option option)
{
	return options[option].name;
}

/* Return what Slurm gave for an option; of one that stands alone that is nothing, "" or, in an environment, "(null)". */
const char *gpushare_option_value(enum gpushare_option option, const char *value)
{
	bool nothing = value == NULL || value[0] == '\0' || strcmp(value, "(null)") == 0;

	return nothing && options[option].has_arg != 1 ? "yes" : value;
}

bool gpushare_option_is_for_task(enum gpushare_option option)
{
	return options[option].for_task;
}

/* Return 0 when value may stand for the option; otherwise -1 and, in why, the option, the value and what to write. */
int gpushare_option_check(enum gpushare_option option, const char *value, char *why, size_t size)
{
	const char *name = gpushare_option_name(option);
	int used = snprintf(why, size, "--%s: ", name);

	why += used;
	size -= (size_t)used;

	if (value == NULL || value[0] == '\0') {
		snprintf(why, size, "the value is empty: write --%s=%s", name, options[option].arginfo);
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

/* Slurm says of a name that another plugin has, too, no more than a line; it is the first one's then. */
int gpushare_options_register(spank_t spank, const char *prefix, spank_opt_cb_f callback)
{
	for (int i = 0; i < OPTION_COUNT; i++) {
		if (prefix[0] != '\0' && options[i].for_task)
			snprintf(prefixed[i], sizeof(prefixed[i]), "%s%s", prefix, options[i].name);

		struct spank_option option = {
			.name = (char *)gpushare_option_name((enum gpushare_option)i),
			.arginfo = options[i].arginfo,
			.usage = options[i].usage,
			.has_arg = options[i].has_arg,
			.val = i,
			.cb = callback,
		};

		if (spank_option_register(spank, &option) != ESPANK_SUCCESS) {
			slurm_error("gpushare: init: couldn't register option --%s", option.name);
			return -1;
		}
	}
	return 0;
}
