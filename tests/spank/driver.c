/*
 * Does with the plugin what its arguments say, in their order:
 *
 *   context=NAME  plugstack=ARGUMENT  job=ID  step=ID  env=NAME=VALUE  fail-at=CALL   set the scene
 *   init  environment  option=NAME=VALUE  init_post_opt  task_init                    call the plugin
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mock_spank.h"

#define PLUGSTACK_MAX 8

static const struct {
	const char *name;
	spank_context_t context;
} contexts[] = {
	{ "error", S_CTX_ERROR },	  { "local", S_CTX_LOCAL },   { "remote", S_CTX_REMOTE },
	{ "allocator", S_CTX_ALLOCATOR }, { "slurmd", S_CTX_SLURMD }, { "job_script", S_CTX_JOB_SCRIPT },
};

static _Noreturn void bad_word(const char *word)
{
	fprintf(stderr, "driver: not understood: %s\n", word);
	exit(2);
}

/* Cut NAME=VALUE in two and return VALUE. */
static char *cut(char *word)
{
	char *value = strchr(word, '=');

	if (value == NULL)
		bad_word(word);
	*value = '\0';
	return value + 1;
}

static spank_context_t context_named(const char *name)
{
	for (size_t i = 0; i < sizeof(contexts) / sizeof(contexts[0]); i++) {
		if (strcmp(contexts[i].name, name) == 0)
			return contexts[i].context;
	}
	bad_word(name);
}

int main(int argc, char **argv)
{
	char *plugstack[PLUGSTACK_MAX];
	int plugstack_count = 0;

	/* The plugin may end this process by _exit(), which would lose what is buffered. */
	setvbuf(stdout, NULL, _IONBF, 0);
	for (int i = 1; i < argc; i++) {
		char *word = argv[i], *value;

		if (strcmp(word, "init") == 0) {
			mock.phase = PHASE_INIT;
			printf("init\t%d\n", slurm_spank_init(mock_handle(), plugstack_count, plugstack));
			mock.phase = PHASE_NONE;
			continue;
		}
		if (strcmp(word, "init_post_opt") == 0) {
			printf("init_post_opt\t%d\n",
			       slurm_spank_init_post_opt(mock_handle(), plugstack_count, plugstack));
			continue;
		}
		if (strcmp(word, "task_init") == 0) {
			mock.phase = PHASE_TASK_INIT;
			printf("task_init\t%d\n", slurm_spank_task_init(mock_handle(), plugstack_count, plugstack));
			mock.phase = PHASE_NONE;
			continue;
		}
		if (strcmp(word, "environment") == 0) {
			mock_environment();
			continue;
		}
		value = cut(word);
		if (strcmp(word, "context") == 0) {
			mock.context = context_named(value);
		} else if (strcmp(word, "plugstack") == 0 && plugstack_count < PLUGSTACK_MAX) {
			plugstack[plugstack_count++] = value;
		} else if (strcmp(word, "job") == 0) {
			mock.job = (uint32_t)strtoul(value, NULL, 0);
		} else if (strcmp(word, "step") == 0) {
			mock.step = (uint32_t)strtoul(value, NULL, 0);
		} else if (strcmp(word, "fail-at") == 0) {
			mock.fail_at = atoi(value);
		} else if (strcmp(word, "env") == 0) {
			char *content = cut(value);

			mock_setenv(value, content);
		} else if (strcmp(word, "option") == 0) {
			char *content = cut(value);

			mock_option(value, content);
		} else {
			bad_word(word);
		}
	}
	mock_report();
	return 0;
}
