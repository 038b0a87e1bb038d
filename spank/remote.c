/*
 * The node's side: puts the launcher in front of a task's command.
 *
 * Whatever goes wrong here ends the task with one line on its stderr. A return of -1 would not do: where the
 * administrator wrote "optional" in plugstack.conf, Slurm then runs the task as if there were no plugin.
 */
#define _GNU_SOURCE /* asprintf */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gpushare.h"

#define NODE_MAX 256

static char *given[OPTION_COUNT];
static bool lost; /* an option arrived and could not be kept */

__attribute__((format(printf, 1, 2))) static _Noreturn void refuse(const char *format, ...)
{
	char line[WHY_SIZE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	fprintf(stderr, "gpushare: %s\n", line);
	_exit(EXIT_BROKEN);
}

/* Slurm only logs what is refused here, so the values are kept and checked in the task, where a refusal counts. */
static int remote_option(int number, const char *value, int remote)
{
	char *copy;

	(void)remote;
	if (number >= 0 && number < OPTION_COUNT)
		value = gpushare_option_value((enum gpushare_option)number, value);
	if (number < 0 || number >= OPTION_COUNT || value == NULL || (copy = strdup(value)) == NULL) {
		lost = true;
		return -1;
	}
	free(given[number]);
	given[number] = copy;
	return 0;
}

int gpushare_remote_init(spank_t spank, int argc, char **argv)
{
	struct gpushare_config config;
	char why[WHY_SIZE];

	if (gpushare_config_parse(&config, argc, argv, why, sizeof(why)) != 0) {
		slurm_error("gpushare: %s", why);
		return -1;
	}
	if (gpushare_options_register(spank, config.prefix, remote_option) != 0) {
		lost = true;
		return -1;
	}
	return 0;
}

/* The step as the launcher is told it, in text; false for a step that runs nothing of the user's. */
static bool read_step(spank_t spank, char *text, size_t size)
{
	uint32_t step = 0;

	if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS)
		refuse("Slurm did not tell which step this is");
	if (step == SLURM_EXTERN_CONT)
		return false;
	if (step == SLURM_BATCH_SCRIPT)
		snprintf(text, size, "batch");
	else if (step == SLURM_INTERACTIVE_STEP)
		snprintf(text, size, "interactive");
	else if (step <= SLURM_MAX_NORMAL_STEP_ID)
		snprintf(text, size, "%" PRIu32, step);
	else
		refuse("step %" PRIu32 " is of a kind that this plugin does not know", step);
	return true;
}

/* Several slurmd may share a machine: slurmstepd sets the variable, over the user's own, right before task_init. */
static void read_node(spank_t spank, char *node, int size)
{
	if (spank_getenv(spank, "SLURMD_NODENAME", node, size) != ESPANK_SUCCESS)
		refuse("Slurm did not tell the node's name in SLURMD_NODENAME");
	if (node[0] == '\0' || strcmp(node, ".") == 0 || strcmp(node, "..") == 0 || strchr(node, '/') != NULL)
		refuse("SLURMD_NODENAME is not the name of a node");
}

/* Whether prolog left a launch record; a thing in its place that root did not write ends the task. */
static bool has_record(const char *path)
{
	struct stat found;

	if (lstat(path, &found) != 0) {
		if (errno == ENOENT)
			return false;
		refuse("couldn't look for the launch record %s: %s", path, strerror(errno));
	}
	if (!S_ISREG(found.st_mode) || found.st_uid != 0 || (found.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		refuse("the launch record %s is not a regular file that root alone may write", path);
	return true;
}

/* Whether Slurm's own --container is meant, by which the runtime of oci.conf looks for the command in that container. */
static bool in_slurms_container(spank_t spank)
{
	char bundle[PATH_MAX];
	spank_err_t answer = spank_getenv(spank, "SLURM_CONTAINER", bundle, sizeof(bundle));

	if (answer == ESPANK_ENV_NOEXIST)
		return false;
	if (answer != ESPANK_SUCCESS && answer != ESPANK_NOSPACE)
		refuse("Slurm did not tell whether the task has a container of Slurm's own");
	return bundle[0] != '\0';
}

/* Whether all that a launch record tells is which GPUs Slurm gave, which the launcher would leave as they are. */
static bool tells_gpus_alone(const char *path)
{
	static const char *const nothing[] = { "\"grant\":null", "\"container\":null", "\"refused\":null" };
	char text[8192];
	FILE *file = fopen(path, "re");
	size_t length = file != NULL ? fread(text, 1, sizeof(text), file) : 0;
	bool alone = length > 0 && length < sizeof(text);

	if (file != NULL)
		fclose(file);
	text[alone ? length : 0] = '\0';
	/* No text of the user's looks like these: JSON has a backslash before each quotation mark in it. */
	for (int i = 0; i < (int)(sizeof(nothing) / sizeof(nothing[0])); i++)
		alone = alone && strstr(text, nothing[i]) != NULL;
	return alone;
}

static void check_launcher(const char *path)
{
	struct stat found;

	if (stat(path, &found) != 0 || access(path, X_OK) != 0)
		refuse("the launcher %s cannot be executed on this node: %s", path, strerror(errno));
	if (!S_ISREG(found.st_mode))
		refuse("the launcher %s is not a regular file", path);
}

int gpushare_remote_task_init(spank_t spank, int argc, char **argv)
{
	struct gpushare_config config;
	uint32_t job = 0;
	char node[NODE_MAX], record[PATH_MAX], step[32], why[WHY_SIZE];
	char *record_argument = NULL, *step_argument = NULL, *prefix_argument = NULL;
	char *option_arguments[OPTION_COUNT] = { NULL };
	const char *prefix[5 + OPTION_COUNT];
	int length = 0, options = 0;

	if (!read_step(spank, step, sizeof(step)))
		return 0;
	if (lost)
		refuse("an option of this step could not be read on this node");
	if (gpushare_config_parse(&config, argc, argv, why, sizeof(why)) != 0)
		refuse("%s", why);
	if (spank_get_item(spank, S_JOB_ID, &job) != ESPANK_SUCCESS)
		refuse("Slurm did not tell which job this is");
	read_node(spank, node, sizeof(node));
	if ((size_t)snprintf(record, sizeof(record), "%s/%s/jobs/%" PRIu32 "/launch.json", config.run_dir, node, job) >=
	    sizeof(record))
		refuse("run_dir in plugstack.conf is too long");

	for (int i = 0; i < OPTION_COUNT; i++) {
		if (given[i] == NULL || !gpushare_option_is_for_task((enum gpushare_option)i))
			continue;
		if (gpushare_option_check((enum gpushare_option)i, given[i], why, sizeof(why)) != 0)
			refuse("%s", why);
		/* The launcher knows one option of the two. */
		if (i == OPTION_MOUNT_HOME && given[OPTION_NO_MOUNT_HOME] != NULL)
			continue;
		if (i == OPTION_NO_MOUNT_HOME) {
			if (asprintf(&option_arguments[options], "--%s=no", gpushare_option_key(OPTION_MOUNT_HOME)) < 0)
				refuse("out of memory");
			options++;
			continue;
		}
		if (asprintf(&option_arguments[options], "--%s=%s", gpushare_option_key((enum gpushare_option)i),
			     given[i]) < 0)
			refuse("out of memory");
		options++;
	}
	/* Prolog leaves no record of a job that asked for nothing of ours; its steps may still ask for a container. */
	if (!has_record(record) && options == 0)
		return 0;
	if (in_slurms_container(spank)) {
		if (options == 0 && tells_gpus_alone(record))
			return 0;
		refuse("--container: Slurm's own containers get no share of a GPU, and no image of ours runs in them: leave it "
		       "out, or write --%s=PATH instead", gpushare_option_name(OPTION_IMAGE));
	}
	check_launcher(config.launcher);

	if (asprintf(&record_argument, "--record=%s", record) < 0 || asprintf(&step_argument, "--step=%s", step) < 0)
		refuse("out of memory");
	prefix[length++] = config.launcher;
	prefix[length++] = record_argument;
	prefix[length++] = step_argument;
	if (config.prefix[0] != '\0') {
		if (asprintf(&prefix_argument, "--prefix=%s", config.prefix) < 0)
			refuse("out of memory");
		prefix[length++] = prefix_argument;
	}
	for (int i = 0; i < options; i++)
		prefix[length++] = option_arguments[i];
	prefix[length++] = "--";
	if (spank_prepend_task_argv(spank, length, prefix) != ESPANK_SUCCESS)
		refuse("Slurm did not let the launcher be put in front of the command");

	free(record_argument);
	free(step_argument);
	free(prefix_argument);
	for (int i = 0; i < options; i++)
		free(option_arguments[i]);
	return 0;
}
