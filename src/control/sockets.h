/* The sockets that control serves, one for each dialect that has its own. */
#pragma once

#define CONTROL_SOCKETS_DIR "sockets" /* in STATE */

enum control_socket { CONTROL_NATIVE, CONTROL_DOCKER, CONTROL_SOCKETS };
