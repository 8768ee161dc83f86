/* What of the host's hardware a machine can be given. The trees of /sys are looked at beneath descriptors, -1: the host has none. */
#pragma once

#include "base/error.h"

#include <stdbool.h>

/* Below /sys/bus/usb/devices: the devices of a model ("046d:c52b") or at a place ("1-4.2"), as they are called below /dev/bus/usb
 * ("001/004"); strv_free them. NOT_FOUND; UNSUPPORTED: it is a hub. */
int host_usb_find(int sysfs, const char *wanted, char ***nodes, struct error *err);

/* Below /sys/bus/pci; addresses as the kernel writes them, "0000:01:00.0". The number of the IOMMU's group that the device is in: free it.
 * NOT_FOUND; UNSUPPORTED: there is no IOMMU. */
int host_pci_group(int sysfs, const char *address, char **group, struct error *err);
/* CONFLICT: the host uses another device of the group, which is none of `wanted`. */
int host_pci_check(int sysfs, const char *address, char *const *wanted, struct error *err);
bool host_pci_is_free(int sysfs, const char *address); /* vfio-pci has it already */
/* vfio-pci gets it, from whichever driver has it. UNSUPPORTED: it does not; then it is to be given back all the same. */
int host_pci_take(int sysfs, const char *address, struct error *err);
/* The kernel's own choice of a driver gets it. One that is gone is fine. */
int host_pci_give_back(int sysfs, const char *address, struct error *err);
