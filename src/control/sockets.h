/* The sockets that control serves, one for each dialect that has its own. */
#pragma once

enum control_socket { CONTROL_NATIVE, CONTROL_DOCKER, CONTROL_SOCKETS };
