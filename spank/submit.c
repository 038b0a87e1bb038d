/* The submitting side: refuses a value that can never work while the user is still there to read why. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gpushare.h"

#define VARIABLE_MAX 192
#define HANDED_ON "_SLURM_SPANK_OPTION_gpushare_" /* in the job's environment of job_submit and prolog */
#define INHERITED "SLURM_SPANK_" HANDED_ON

static char *given[OPTION_COUNT];
static bool see_images;
static const char *prefix;

/* The variable of an option: before, and its name in capitals where it is the user's own. */
static void variable_of(char *variable, const char *before, const char *name, bool capitals)
{
	snprintf(variable, VARIABLE_MAX, "%s%s", before, name);
	for (char *c = variable + strlen(before); *c != '\0'; c++)
		*c = !isalnum((unsigned char)*c) ? '_' : capitals ? (char)toupper((unsigned char)*c) : *c;
}

/* Whether value is what the surrounding job, or a GPUSHARE_ variable, hands on by environment. */
static bool is_inherited(enum gpushare_option number, const char *value)
{
	char variable[VARIABLE_MAX];
	const char *inherited;

	variable_of(variable, INHERITED, gpushare_option_key(number), false);
	inherited = getenv(variable);
	return inherited != NULL && strcmp(gpushare_option_value(number, inherited), value) == 0;
}

/*
 * Let Slurm read the user's GPUSHARE_ variables as it reads what a job hands to its steps: after the lines of a batch
 * script and before the command line, which wins. What the job hands on wins too.
 */
static int take_variables(void)
{
	char variable[VARIABLE_MAX], own[VARIABLE_MAX];

	/* As one option with a value, a step's own --container-mount-home can replace it. */
	variable_of(variable, INHERITED, gpushare_option_key(OPTION_NO_MOUNT_HOME), false);
	if (getenv(variable) != NULL) {
		char one[VARIABLE_MAX];

		variable_of(one, INHERITED, gpushare_option_key(OPTION_MOUNT_HOME), false);
		if (unsetenv(variable) != 0 || setenv(one, "no", 1) != 0)
			return -1;
	}
	for (int i = 0; i < OPTION_COUNT; i++) {
		const char *name = gpushare_option_key((enum gpushare_option)i), *value;

		if (!gpushare_option_is_for_task((enum gpushare_option)i) || i == OPTION_NO_MOUNT_HOME)
			continue;
		variable_of(own, "GPUSHARE_", name, true);
		variable_of(variable, INHERITED, name, false);
		if ((value = getenv(own)) != NULL && value[0] != '\0' && setenv(variable, value, 0) != 0)
			return -1;
		if (prefix[0] == '\0')
			continue;
		/* Slurm looks for the name that it was told. */
		value = getenv(variable);
		variable_of(variable, INHERITED, gpushare_option_name((enum gpushare_option)i), false);
		if ((value == NULL ? unsetenv(variable) : setenv(variable, value, 1)) != 0)
			return -1;
	}
	return 0;
}

/* Slurm calls this for the lines of a batch script, then for the environment, then for the command line. */
static int submit_option(int number, const char *value, int remote)
{
	enum gpushare_option option = (enum gpushare_option)number;
	const char *name;
	char *copy;
	char why[WHY_SIZE];

	(void)remote;
	if (number < 0 || number >= OPTION_COUNT)
		return -1;
	name = gpushare_option_name(option);
	value = gpushare_option_value(option, value);
	if (gpushare_option_check(option, value, why, sizeof(why)) != 0) {
		slurm_error("gpushare: %s", why);
		return -1;
	}
	/* Slurm passes on the last value alone: right where the command line overrides the script or the job. */
	if (given[number] != NULL && strcmp(given[number], value) != 0 && !is_inherited(option, given[number])) {
		if (spank_context() == S_CTX_LOCAL) {
			slurm_error("gpushare: --%s is given as '%.200s' and as '%.200s': write it once%s", name,
				    given[number], value,
				    number == OPTION_MOUNTS || number == OPTION_DATASET || number == OPTION_ENV ?
					    ", with commas" : "");
			return -1;
		}
		slurm_info("gpushare: --%s='%.200s' replaces '%.200s', which was given before", name, value,
			   given[number]);
	}
	if ((copy = strdup(value)) == NULL) {
		slurm_error("gpushare: --%s: out of memory", name);
		return -1;
	}
	free(given[number]);
	given[number] = copy;
	return 0;
}

int gpushare_submit_init(spank_t spank, int argc, char **argv)
{
	struct gpushare_config config;
	char why[WHY_SIZE];

	if (gpushare_config_parse(&config, argc, argv, why, sizeof(why)) != 0) {
		slurm_error("gpushare: %s", why);
		return -1;
	}
	/* Slurm sets it in a container of its own; inherited, it would say to the node that this job has one. */
	if (unsetenv("SLURM_CONTAINER") != 0)
		return -1;
	see_images = config.see_images;
	prefix = config.prefix;
	if (gpushare_options_register(spank, prefix, submit_option) != 0)
		return -1;
	if (take_variables() != 0) {
		slurm_error("gpushare: out of memory");
		return -1;
	}
	return 0;
}

static bool is_printable(const char *text)
{
	while (*text != '\0' && !iscntrl((unsigned char)*text))
		text++;
	return *text == '\0';
}

/*
 * Tell job_submit where a path leads here, if that is another place than the one that is written. As advice alone: it
 * has the user say sooner what the node would refuse, which looks for itself.
 */
static void hand_on_real_path(spank_t spank, const char *variable, const char *path)
{
	static bool handed_on;
	char *real = path != NULL && path[0] == '/' ? realpath(path, NULL) : NULL;

	if (real != NULL && strcmp(real, path) != 0 && is_printable(real)) {
		spank_job_control_setenv(spank, variable, real, 1);
		handed_on = true;
	} else if (handed_on) {
		/* The components of a heterogeneous job have one environment, one after the other. */
		spank_job_control_unsetenv(spank, variable);
	}
	free(real);
}

/* Say which of the folders to be mounted are not here, and hand on where the others lead. */
static void look_for_mounts(spank_t spank, const char *value)
{
	char path[PATH_MAX + 1], variable[VARIABLE_MAX];
	struct stat found;
	int number = 1;

	for (const char *mount = value; mount != NULL; number++) {
		size_t length = strcspn(mount, ",");

		snprintf(path, sizeof(path), "%.*s", (int)strcspn(mount, ":"), mount);
		snprintf(variable, sizeof(variable), "GPUSHARE_REAL_MOUNT_%d", number);
		hand_on_real_path(spank, variable, path);
		if (stat(path, &found) != 0 && (errno == ENOENT || errno == ENOTDIR))
			slurm_info("gpushare: --%s: '%.200s' is not on this host: unless the nodes have it, the job will fail",
				   gpushare_option_name(OPTION_MOUNTS), path);
		mount = mount[length] == ',' ? mount + length + 1 : NULL;
	}
}

/* To a return of -1 Slurm would add two lines of its own, which say nothing to the user. */
__attribute__((format(printf, 1, 2))) static _Noreturn void refuse(const char *format, ...)
{
	char line[WHY_SIZE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	slurm_error("gpushare: %s", line);
	exit(EXIT_FAILURE);
}

/*
 * Let job_submit, prolog and the job's steps find the options by the names that they have without the prefix. What
 * they tell the user has it again by one variable more, without which they would merely name the options as they are.
 */
static void hand_on(spank_t spank)
{
	char variable[VARIABLE_MAX];

	if (prefix[0] == '\0')
		return;
	spank_job_control_setenv(spank, "GPUSHARE_PREFIX", prefix, 1);
	for (int i = 0; i < OPTION_COUNT; i++) {
		const char *name = gpushare_option_name((enum gpushare_option)i);

		if (given[i] == NULL || !gpushare_option_is_for_task((enum gpushare_option)i))
			continue;
		variable_of(variable, HANDED_ON, name, false);
		spank_job_control_unsetenv(spank, variable);
		variable_of(variable, HANDED_ON, gpushare_option_key((enum gpushare_option)i), false);
		if (spank_job_control_setenv(spank, variable, given[i], 1) != ESPANK_SUCCESS)
			refuse("--%s: Slurm did not hand it on", name);
	}
}

/* Slurm calls this when it has all options, and before it asks for an allocation. */
void gpushare_submit_init_post_opt(spank_t spank)
{
	const char *image = given[OPTION_IMAGE], *home = given[OPTION_MOUNT_HOME];
	struct stat found;

	if (given[OPTION_NO_MOUNT_HOME] != NULL && home != NULL && !is_inherited(OPTION_MOUNT_HOME, home))
		refuse("--%s and --%s: write one of them", gpushare_option_name(OPTION_MOUNT_HOME),
		       gpushare_option_name(OPTION_NO_MOUNT_HOME));
	hand_on(spank);
	/* Within a job this may be a container that does not see what its node has. */
	if (!see_images || getenv("SLURM_JOB_ID") != NULL)
		return;
	if (image != NULL && image[0] == '/' && stat(image, &found) != 0 && (errno == ENOENT || errno == ENOTDIR))
		refuse("--%s: there is no such image: %.200s", gpushare_option_name(OPTION_IMAGE), image);
	hand_on_real_path(spank, "GPUSHARE_REAL_IMAGE", image);
	look_for_mounts(spank, given[OPTION_MOUNTS]);
}
