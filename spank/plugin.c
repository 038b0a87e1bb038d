/*
 * What Slurm loads: the plugin's name and its callbacks, each passed to the file of the context that it runs in.
 *
 * There is no slurm_spank_job_prolog() nor slurm_spank_job_epilog(): where any plugin has one, slurmd takes the
 * options of all plugins out of the environment before it runs the Prolog script, which reads them there.
 */
#include "gpushare.h"

SPANK_PLUGIN(gpushare, 1)

#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(25, 5, 0)
/* A plugstack line that cannot be read fails the job; the node is left to its administrator. */
int slurm_spank_init_failure_mode = ESPANK_JOB_FAILURE;
#endif

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
	switch (spank_context()) {
	case S_CTX_LOCAL:
	case S_CTX_ALLOCATOR:
		return gpushare_submit_init(spank, argc, argv);
	case S_CTX_REMOTE:
		return gpushare_remote_init(spank, argc, argv);
	case S_CTX_SLURMD:
	case S_CTX_JOB_SCRIPT:
		return 0;
	case S_CTX_ERROR:
		break;
	}
	slurm_error("gpushare: init: Slurm did not say in which context the plugin is loaded");
	return -1;
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (spank_context() == S_CTX_LOCAL || spank_context() == S_CTX_ALLOCATOR)
		gpushare_submit_init_post_opt(spank);
	return 0;
}

int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
	return gpushare_remote_task_init(spank, argc, argv);
}
