/* wabe oci: the runtime alone, with the command line of the OCI runtimes. */
#include "cli/cli.h"
#ifdef WABE_OCI
#include "oci/oci.h"
#endif

static int run(UNUSED struct invocation *in, UNUSED struct error *err) {
#ifdef WABE_OCI
	_cleanup_(strv_free_ptr) char **args = NULL;
	strv_add(&args, "wabe oci");
	for (size_t i = 0; i < in->n_args; i++)
		strv_add(&args, in->args[i]);
	return oci_main((int)strv_len(args), args);
#else
	return error_set(err, ERROR_UNSUPPORTED, "this build has no OCI runtime");
#endif
}

const struct command command_oci = {
	.name = "oci",
	.group = "Daemon",
	.usage = "COMMAND …",
	.doc = "The runtime alone: create, start, state, kill, delete, run, exec … of OCI bundles",
	.examples = "wabe oci run --bundle DIR ID",
	.raw = true,
	.max_args = SIZE_MAX,
	.run = run,
};
