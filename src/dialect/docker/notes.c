/* What differs field by field, for docs/docker.md. A field that is not listed works as Docker documents it. */
#include "dialect/docker/docker-priv.h"

const struct docker_field_note docker_field_notes[] = {
	{"HostConfig.Cgroup", DOCKER_MISSING, "a container has a control group of its own"},
	{"HostConfig.CgroupParent", DOCKER_MISSING, "wabe keeps its containers in control groups of its own"},
	{"HostConfig.ConsoleSize", DOCKER_DIFFERS, "kept; the size comes with resize, as the docker client does it"},
	{"HostConfig.CpuRealtimePeriod", DOCKER_MISSING, "real-time scheduling is not divided among containers"},
	{"HostConfig.CpuRealtimeRuntime", DOCKER_MISSING, "real-time scheduling is not divided among containers"},
	{"HostConfig.DeviceRequests", DOCKER_MISSING, "refused as dockerd does without a driver for them"},
	{"HostConfig.IpcMode", DOCKER_DIFFERS, "none is refused; private may be shared, too"},
	{"HostConfig.Isolation", DOCKER_DIFFERS, "default alone, as on any Linux"},
	{"HostConfig.KernelMemory", DOCKER_MISSING, "the kernel has no such limit any more"},
	{"HostConfig.KernelMemoryTCP", DOCKER_MISSING, "the kernel has no such limit any more"},
	{"HostConfig.LogConfig", DOCKER_DIFFERS, "json-file, local and none with max-size, max-file, labels, env and tag; the files are in the format of the Kubernetes CRI"},
	{"HostConfig.MaskedPaths", DOCKER_DIFFERS, "the usual ones, or none ([])"},
	{"HostConfig.MemorySwappiness", DOCKER_DIFFERS, "left out with a warning, as dockerd does with cgroup v2"},
	{"HostConfig.Mounts", DOCKER_DIFFERS, "an image is mounted as a whole, to be read; types npipe and cluster are not there; "
	 "what is read-only is so with all below it, before 1.44 as well, and ReadOnlyNonRecursive is refused"},
	{"HostConfig.OomKillDisable", DOCKER_DIFFERS, "left out with a warning, as dockerd does with cgroup v2"},
	{"HostConfig.ReadonlyPaths", DOCKER_DIFFERS, "the usual ones, or none ([])"},
	{"HostConfig.Runtime", DOCKER_DIFFERS, "runc, wabe and default are the usual one; machine makes a virtual machine of the image, with a kernel of its own"},
	{"HostConfig.SecurityOpt", DOCKER_DIFFERS, "no-new-privileges, seccomp=PROFILE, seccomp=unconfined, systempaths=unconfined; no AppArmor and SELinux profiles"},
	{"HostConfig.StorageOpt", DOCKER_DIFFERS, "size alone"},
	{"HostConfig.UsernsMode", DOCKER_DIFFERS, "without host a container has a range of user ids of its own"},
	{"NetworkingConfig.EndpointsConfig", DOCKER_DIFFERS, "Links are to containers that are there already"},
	{"Plugin.*", DOCKER_MISSING, "no managed plugins"},
	{NULL},
};
