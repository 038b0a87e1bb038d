/* The submitting side: refuses a value that can never work while the user is still there to read why. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpushare.h"

static char *given[OPTION_COUNT];

/* Whether value is what the surrounding job hands to the steps started in it, which Slurm does by environment. */
static bool is_inherited(const char *name, const char *value)
{
	char variable[128];
	const char *inherited;

	snprintf(variable, sizeof(variable), "SLURM_SPANK__SLURM_SPANK_OPTION_gpushare_%s", name);
	for (char *c = variable; *c != '\0'; c++) {
		if (!isalnum((unsigned char)*c))
			*c = '_';
	}
	inherited = getenv(variable);
	return inherited != NULL && strcmp(inherited, value) == 0;
}

/* Slurm calls this for the lines of a batch script, then for the environment, then for the command line. */
static int submit_option(int number, const char *value, int remote)
{
	const char *name;
	char *copy;
	char why[WHY_SIZE];

	(void)remote;
	if (number < 0 || number >= OPTION_COUNT)
		return -1;
	name = gpushare_option_name((enum gpushare_option)number);
	if (gpushare_option_check((enum gpushare_option)number, value, why, sizeof(why)) != 0) {
		slurm_error("gpushare: %s", why);
		return -1;
	}
	/* Slurm passes on the last value alone: right where the command line overrides the script or the job. */
	if (given[number] != NULL && strcmp(given[number], value) != 0 && !is_inherited(name, given[number])) {
		if (spank_context() == S_CTX_LOCAL) {
			slurm_error("gpushare: --%s is given as '%.200s' and as '%.200s': write it once%s", name,
				    given[number], value,
				    number == OPTION_MOUNTS || number == OPTION_DATASET ? ", with commas" : "");
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
	return gpushare_options_register(spank, submit_option);
}
