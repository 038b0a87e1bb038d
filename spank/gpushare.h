#ifndef GPUSHARE_H
#define GPUSHARE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 11, 0)
#error "Slurm 23.11 or newer is needed: older ones have no spank_prepend_task_argv()"
#endif

/* sysexits.h EX_CONFIG: the status of a task that a broken installation must not let run. */
#define EXIT_BROKEN 78

/* Room for the longest refusal: a folder, a value (at most PATH_MAX bytes each) and the words around them. */
#define WHY_SIZE (2 * PATH_MAX + 512)

/* Arguments of the plugin's line in plugstack.conf; both are absolute and live as long as that line's argv. */
struct gpushare_config {
	const char *launcher;
	const char *run_dir;
	const char *prefix; /* stands before the names of the options for containers, "" where nothing does */
	bool see_images; /* whether hosts where jobs are submitted see what nodes see of --container-image */
};

#define PREFIX_MAX 32 /* bytes */

enum gpushare_option {
	OPTION_IMAGE,
	OPTION_MOUNTS,
	OPTION_DATASET,
	OPTION_SCOPE,
	OPTION_WORKDIR,
	OPTION_MOUNT_HOME,
	OPTION_NO_MOUNT_HOME,
	OPTION_ENV,
	OPTION_WRITABLE,
	OPTION_GPU_SHARE,
	OPTION_GPU_MEM,
	OPTION_GPU_BACKEND,
	OPTION_COUNT,
};

/* config.c: 0, or -1 with the reason in why. */
int gpushare_config_parse(struct gpushare_config *config, int argc, char **argv, char *why, size_t size);

/* options.c */
/* As users write it, and as all of this project but the plugin knows it: without the prefix. */
const char *gpushare_option_name(enum gpushare_option option);
const char *gpushare_option_key(enum gpushare_option option);
const char *gpushare_option_value(enum gpushare_option option, const char *value);
bool gpushare_option_is_for_task(enum gpushare_option option);
int gpushare_option_check(enum gpushare_option option, const char *value, char *why, size_t size);
int gpushare_options_register(spank_t spank, const char *prefix, spank_opt_cb_f callback);

/* submit.c: srun, sbatch, salloc and scrontab, as the user. */
int gpushare_submit_init(spank_t spank, int argc, char **argv);
void gpushare_submit_init_post_opt(spank_t spank);

/* remote.c: slurmstepd; init as root, task_init as the user between fork and execve. */
int gpushare_remote_init(spank_t spank, int argc, char **argv);
int gpushare_remote_task_init(spank_t spank, int argc, char **argv);

#endif
