/* What of the host's hardware a machine can be given. The trees of /sys are looked at beneath descriptors, -1: the host has none. */
#pragma once

#include "base/error.h"

/* Below /sys/bus/usb/devices: the devices of a model ("046d:c52b") or at a place ("1-4.2"), as they are called below /dev/bus/usb
 * ("001/004"); strv_free them. NOT_FOUND; UNSUPPORTED: it is a hub. */
int host_usb_find(int sysfs, const char *wanted, char ***nodes, struct error *err);
