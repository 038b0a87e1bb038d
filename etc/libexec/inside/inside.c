/*
 * The first program of every container, whose folder the launcher binds into it as /.gpushare:
 *
 *   inside [DEVICE:INODE:PATH ...] [cd:PATH] -- COMMAND [ARGUMENT ...]
 *
 * It becomes COMMAND when each PATH is the very file or folder that the launcher checked on the host. The runtimes leave
 * out binds with a mere warning, and what a path leads to may be exchanged between check and use: no program may then
 * run without its data, or with other data. Where the runtime ignores binds altogether, this program is not there either.
 *
 * As srun in that folder, the last in a batch script's PATH, it says why there is none.
 *
 * Linked statically: nothing of the image, and no LD_PRELOAD, is run before COMMAND.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Exit statuses of slurm_gpushare/errors.py. */
enum { REFUSED = 77, BROKEN = 78, CANNOT_EXECUTE = 126, NOT_FOUND = 127 };

static _Noreturn void end(int status, const char *before, const char *name, const char *after)
{
	char line[8192];
	int length = snprintf(line, sizeof(line), "gpushare: %s'%s'%s", before, name, after);

	if (length >= (int)sizeof(line))
		length = (int)sizeof(line) - 1;
	/* A name may hold what would drive a terminal or begin another line. */
	for (int i = 0; i < length; i++) {
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	}
	line[length] = '\n';
	if (write(STDERR_FILENO, line, (size_t)length + 1) < 0)
		_exit(BROKEN);
	_exit(status);
}

/* One DEVICE:INODE:PATH. */
static void check(char *word)
{
	struct stat found;
	char *rest;
	uintmax_t device = strtoumax(word, &rest, 10), inode = 0;
	char *second = rest != word && *rest == ':' ? rest + 1 : rest;

	inode = strtoumax(second, &rest, 10);
	if (rest == second || *rest != ':' || rest[1] != '/')
		end(BROKEN, "", word, ": not understood in the container: install slurm-gpushare again");
	if (stat(rest + 1, &found) != 0 || found.st_dev != device || found.st_ino != inode)
		end(BROKEN, "", rest + 1,
		    " in the container is not what was checked on this node: the runtime left the mount out (its "
		    "configuration, such as `user bind control`), or somebody exchanged it meanwhile");
}

/* What plugstack.conf puts before the names of options. */
static const char *prefix(void)
{
	const char *given = getenv("SLURM_SPANK_GPUSHARE_PREFIX");

	return given != NULL ? given : "";
}

static void enter(const char *path)
{
	char before[256], after[256];

	if (chdir(path) == 0 && setenv("PWD", path, 1) == 0)
		return;
	snprintf(after, sizeof(after), " in the container: %s: write a folder that the image or a mount has",
		 strerror(errno));
	snprintf(before, sizeof(before), "--%.64scontainer-workdir: ", prefix());
	end(REFUSED, before, path, after);
}

int main(int argc, char **argv)
{
	const char *name = argc > 0 ? strrchr(argv[0], '/') : NULL;
	char after[256];
	int i = 1;

	if (strcmp(name != NULL ? name + 1 : argc > 0 ? argv[0] : "", "srun") == 0) {
		snprintf(after, sizeof(after),
			 ": this image has no Slurm: submit with --%.64scontainer-scope=tasks, by which the script runs "
			 "outside and what srun starts inside of the container",
			 prefix());
		end(NOT_FOUND, "", "srun", after);
	}
	for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strncmp(argv[i], "cd:", 3) == 0)
			enter(argv[i] + 3);
		else
			check(argv[i]);
	}
	if (i + 1 >= argc)
		end(BROKEN, "", argc > 0 ? argv[0] : "inside", ": no command: install slurm-gpushare again");
	argv += i + 1;
	execvp(argv[0], argv);
	snprintf(after, sizeof(after), " in the container: %s%s", strerror(errno),
		 errno == ENOENT ? ": no such program, or not what its first line names" : "");
	end(errno == ENOENT ? NOT_FOUND : CANNOT_EXECUTE, "", argv[0], after);
}
