/* wabe-oci: the runtime as a program of its own. */
#include "oci/oci.h"

int main(int argc, char **argv) {
	return oci_main(argc, argv);
}
