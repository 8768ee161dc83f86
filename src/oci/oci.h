/* `wabe oci`: the container driver as a runtime of the Open Container Initiative, with runc's command line,
 * for podman, containerd and the specification's own tests. */
#pragma once

/* argv[0] is the name to show; then global options, a command, its options. Gives the exit status. */
int oci_main(int argc, char **argv);
