#ifndef MOCK_SPANK_H
#define MOCK_SPANK_H

#include <stdbool.h>
#include <stdint.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

/* The phases of plugstack(8) that the plugin has callbacks for; what may be called depends on them. */
enum mock_phase { PHASE_NONE, PHASE_INIT, PHASE_TASK_INIT };

struct mock {
	spank_context_t context;
	enum mock_phase phase;
	uint32_t job, step;
	int fail_at; /* which of the plugin's calls into Slurm or for memory is to fail, from 1 on; 0 for none */
	int calls;
};

extern struct mock mock;

spank_t mock_handle(void);
void mock_setenv(const char *name, const char *value);
/* What srun, sbatch and salloc do with --NAME=VALUE, and slurmstepd with what they sent; the callback's result. */
int mock_option(const char *name, const char *value);
/* The options that srun, sbatch and salloc find in their environment, which they read before the command line. */
void mock_environment(void);
void mock_report(void);

#endif
