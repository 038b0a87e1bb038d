/*
 * The part of Slurm that the plugin calls, as src/common/spank.c of Slurm 24.11 and 26.05 behaves.
 *
 * Prints what the plugin does, one tab-separated line each. A call that Slurm would refuse ends the program; one that
 * is not here at all does not link.
 */
#define _GNU_SOURCE /* vasprintf */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mock_spank.h"

#define OPTIONS_MAX 16
#define ENVIRONMENT_MAX 16

struct spank_handle {
	int magic;
};

struct mock mock;

static struct spank_handle handle;
static struct spank_option options[OPTIONS_MAX];
static char *forwarded[OPTIONS_MAX];
static int option_count;
static struct {
	const char *name, *value;
} environment[ENVIRONMENT_MAX];
static int environment_count;

static _Noreturn void misuse(const char *what)
{
	fprintf(stderr, "mock: %s\n", what);
	abort();
}

static bool fails(void)
{
	return ++mock.calls == mock.fail_at;
}

static void check(spank_t spank, bool allowed, const char *what)
{
	if (spank != &handle)
		misuse("not the handle that Slurm gave");
	if (!allowed)
		misuse(what);
}

spank_t mock_handle(void)
{
	return &handle;
}

void mock_setenv(const char *name, const char *value)
{
	if (environment_count == ENVIRONMENT_MAX)
		misuse("too many variables");
	environment[environment_count].name = name;
	environment[environment_count++].value = value;
}

int mock_option(const char *name, const char *value)
{
	for (int i = 0; i < option_count; i++) {
		int rv;

		if (strcmp(options[i].name, name) != 0)
			continue;
		/* Of an option that stands alone Slurm gives no value here, and an empty one in slurmstepd. */
		if (options[i].has_arg != 1 && *value == '\0' && mock.context != S_CTX_REMOTE)
			value = NULL;
		rv = options[i].cb(options[i].val, value, mock.context == S_CTX_REMOTE);
		if (value == NULL)
			value = "";
		if (rv == 0)
			forwarded[i] = (char *)value;
		printf("option\t%s\t%d\n", name, rv);
		return rv;
	}
	printf("unknown\t%s\n", name);
	return -1;
}

void mock_environment(void)
{
	for (int i = 0; i < option_count; i++) {
		char name[256];
		const char *value;

		snprintf(name, sizeof(name), "SLURM_SPANK__SLURM_SPANK_OPTION_gpushare_%s", options[i].name);
		for (char *c = name; *c != '\0'; c++)
			*c = isalnum((unsigned char)*c) ? *c : '_';
		if ((value = getenv(name)) != NULL)
			mock_option(options[i].name, value);
	}
}

void mock_report(void)
{
	for (int i = 0; i < option_count; i++) {
		if (forwarded[i] != NULL)
			printf("forward\t%s\t%s\n", options[i].name, forwarded[i]);
	}
	printf("calls\t%d\n", mock.calls);
}

spank_context_t spank_context(void)
{
	return mock.context;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
	check(spank, mock.phase == PHASE_INIT, "spank_option_register outside slurm_spank_init");
	if (option->name == NULL || option->usage == NULL || strlen(option->name) > SPANK_OPTION_MAXLEN)
		misuse("spank_option_register without name or usage");
	if (option_count == OPTIONS_MAX)
		misuse("too many options");
	if (fails())
		return ESPANK_BAD_ARG;
	printf("registered\t%s\t%s\t%s\n", option->name, option->arginfo, option->usage);
	options[option_count++] = *option;
	return ESPANK_SUCCESS;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
	va_list arguments;
	uint32_t *answer;

	check(spank, mock.context == S_CTX_REMOTE, "spank_get_item outside slurmstepd");
	if (item != S_JOB_ID && item != S_JOB_STEPID)
		misuse("spank_get_item of an item that the mock does not know");
	if (fails())
		return ESPANK_NOT_AVAIL;
	va_start(arguments, item);
	answer = va_arg(arguments, uint32_t *);
	va_end(arguments);
	*answer = item == S_JOB_ID ? mock.job : mock.step;
	return ESPANK_SUCCESS;
}

spank_err_t spank_getenv(spank_t spank, const char *name, char *buffer, int length)
{
	check(spank, mock.context == S_CTX_REMOTE, "spank_getenv outside slurmstepd");
	if (fails())
		return ESPANK_BAD_ARG;
	for (int i = 0; i < environment_count; i++) {
		if (strcmp(environment[i].name, name) == 0)
			return snprintf(buffer, (size_t)length, "%s", environment[i].value) < length ? ESPANK_SUCCESS :
												       ESPANK_NOSPACE;
	}
	return ESPANK_ENV_NOEXIST;
}

spank_err_t spank_prepend_task_argv(spank_t spank, int argc, const char *argv[])
{
	check(spank, mock.phase == PHASE_TASK_INIT, "spank_prepend_task_argv outside slurm_spank_task_init");
	if (fails())
		return ESPANK_NOT_TASK;
	for (int i = 0; i < argc; i++)
		printf("argv\t%s\n", argv[i]);
	return ESPANK_SUCCESS;
}

static spank_err_t job_environment(spank_t spank, const char *name, const char *value)
{
	check(spank, mock.context == S_CTX_LOCAL || mock.context == S_CTX_ALLOCATOR, "spank_job_control_ on a node");
	if (fails())
		return ESPANK_BAD_ARG;
	printf("job\t%s\t%s\n", name, value);
	return ESPANK_SUCCESS;
}

spank_err_t spank_job_control_setenv(spank_t spank, const char *name, const char *value, int overwrite)
{
	if (!overwrite || value == NULL)
		misuse("spank_job_control_setenv without a value, or that keeps another one");
	return job_environment(spank, name, value);
}

spank_err_t spank_job_control_unsetenv(spank_t spank, const char *name)
{
	return job_environment(spank, name, "(unset)");
}

static void print_log(const char *level, const char *format, va_list arguments)
{
	printf("log\t%s\t", level);
	vprintf(format, arguments);
	printf("\n");
}

void slurm_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_log("error", format, arguments);
	va_end(arguments);
}

void slurm_info(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print_log("info", format, arguments);
	va_end(arguments);
}

/* The linker puts these in the place of the C library's (--wrap), so that memory too can run out at every call. */
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **text, const char *format, ...)
{
	va_list arguments;
	int length;

	if (fails())
		return -1;
	va_start(arguments, format);
	length = vasprintf(text, format, arguments);
	va_end(arguments);
	return length;
}
