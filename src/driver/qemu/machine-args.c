/* The arguments of QEMU: the board, its processors and memory, its firmware, the consoles. Nothing is there that is not
 * named here (-nodefaults, -no-user-config), and nothing of the host is named but what every host has in /usr: the rest comes
 * as descriptors. */
#include "driver/qemu/machine-priv.h"
#include "model/guest.h"

void build_arg(struct build *b, const char *option, const char *fmt, ...) {
	va_list ap;
	va_start(ap, fmt);
	strv_add(&b->args, option);
	strv_take(&b->args, str_vformat(fmt, ap));
	va_end(ap);
}

void build_json(struct build *b, const char *option, json_t *value) {
	strv_add(&b->args, option);
	strv_take(&b->args, json_print(value));
	json_decref(value);
}

void build_device(struct build *b, json_t *device) {
	build_json(b, "-device", device);
}

int build_pass(struct build *b, int fd) {
	b->pass = alloc_resize(b->pass, b->n_pass + 1, sizeof *b->pass);
	b->pass[b->n_pass++] = fd;
	return (int)b->n_pass + 2;
}

json_t *build_virtio(const struct build *b, const char *kind, const char *id) {
	_cleanup_(free_ptr) char *driver = str_format("%s-%s", kind, machine_is(b->m, "microvm") ? "device" : "pci");
	return json_pack("{s:s,s:s}", "driver", driver, "id", id);
}

static bool wants_video(const struct machine_spec *s) {
	return s->video && strcmp(s->video, "none") != 0;
}

/* --- the board --- */

/* Its memory is a file of QEMU's own. */
static bool is_memfd(const struct machine_config *m) {
	return m->n_shares || machine_hugepage(m->spec);
}

static void build_machine(struct build *b) {
	const struct machine_spec *s = b->m->spec;
	_cleanup_(buf_free) struct buf line = BUF_INIT;
	const char *board = b->m->board ? b->m->board : s->chipset ? s->chipset : "q35";
	buf_addf(&line, "%s,usb=off,dump-guest-core=off", board);
	if (!machine_is(b->m, "microvm"))
		buf_adds(&line, ",vmport=off");
	if (s->secure_boot)
		buf_adds(&line, ",smm=on");
	if (str_same(s->firmware, "uefi"))
		buf_adds(&line, ",pflash0=firmware,pflash1=variables");
	if (!s->numa.n && (is_memfd(b->m) || b->m->memory_fd >= 0))
		buf_addf(&line, ",memory-backend=%s", is_memfd(b->m) ? "memory" : machine_memory_block(b->m));
	build_arg(b, "-machine", "%s", buf_str(&line));
	build_arg(b, "-accel", b->m->kvm ? "kvm" : "tcg,thread=multi,tb-size=%d", TRANSLATION_MIB);
	/* tables of five levels only make the translator's work longer */
	build_arg(b, "-cpu", "%s", s->cpu_model ? s->cpu_model : b->m->kvm ? "host" : "max,la57=off");
}

static void build_processors(struct build *b) {
	const struct machine_spec *s = b->m->spec;
	int64_t cores = MAX(s->cores, 1), threads = MAX(s->threads, 1), most = machine_cpus_max(b->m);
	int64_t sockets = most / (cores * threads);
	build_arg(b, "-smp", "cpus=%lld,sockets=%lld,cores=%lld,threads=%lld,maxcpus=%lld", (long long)b->m->cpus, (long long)sockets,
		  (long long)cores, (long long)threads, (long long)most);
}

const char *machine_memory_block(const struct machine_config *m) {
	return machine_is(m, "microvm") ? "microvm.ram" : "pc.ram";
}

/* QEMU before 9.0, when it looks which pages the translator has written to, forgets to have it report the next write to them, if the
 * memory is a multiple of 256 KiB: what is told of such a machine while it runs is not what it has. */
int64_t machine_ram(const struct machine_config *m) {
	bool odd = !m->kvm && !m->spec->memory_max && !m->spec->numa.n && !is_memfd(m);
	return m->memory + (odd ? RAM_MORE : 0);
}

int64_t machine_hugepage(const struct machine_spec *s) {
	return str_same(s->hugepages, "2m") ? INT64_C(2) << 20 : str_same(s->hugepages, "1g") ? INT64_C(1) << 30 : 0;
}

bool machine_ram_is_told(const struct machine_spec *s, bool kvm) {
	return kvm || (!s->memory_max && !s->numa.n);
}

/* A file that is there already: what the guest changes is its own. */
static void build_memory_file(struct build *b) {
	_cleanup_(free_ptr) char *path = str_format("/proc/self/fd/%d", build_pass(b, b->m->memory_fd));
	build_json(b, "-object", json_pack("{s:s,s:s,s:I,s:s,s:b,s:b}", "qom-type", "memory-backend-file", "id",
					   machine_memory_block(b->m), "size", (json_int_t)machine_ram(b->m), "mem-path", path, "share", 0,
					   "x-use-canonical-path-for-ramblock-id", 0));
}

/* What virtiofsd is to see of it can be mapped by others. Huge pages need no mount and no right so. */
json_t *build_backend(const struct build *b, const char *id, int64_t size) {
	int64_t page = machine_hugepage(b->m->spec);
	json_t *memory = json_pack("{s:s,s:s,s:I,s:b}", "qom-type", is_memfd(b->m) ? "memory-backend-memfd" : "memory-backend-ram", "id", id,
				   "size", (json_int_t)size, "share", is_memfd(b->m));
	if (page)
		json_object_update_new(memory, json_pack("{s:b,s:I}", "hugetlb", 1, "hugetlbsize", (json_int_t)page));
	return memory;
}

static void build_memory(struct build *b) {
	long long size = (long long)(b->m->memory >> 20), more = (long long)(b->m->spec->memory_max >> 20) - size;
	if (more > 0) /* a slot has the board say where memory may come */
		build_arg(b, "-m", "size=%lldM,slots=1,maxmem=%lldM", size, size + more);
	else
		build_arg(b, "-m", "size=%lldK", (long long)(machine_ram(b->m) >> 10));
	if (more > 0)
		build_json(b, "-object", json_pack("{s:s,s:s,s:I,s:b}", "qom-type", b->m->n_shares ? "memory-backend-memfd" : "memory-backend-ram",
						   "id", "more-memory", "size", (json_int_t)(more << 20), "share", b->m->n_shares > 0));
	if (b->m->spec->numa.n)
		build_numa(b);
	else if (is_memfd(b->m))
		build_json(b, "-object", build_backend(b, "memory", b->m->memory));
}

/* --- firmware and kernel --- */

static void build_firmware(struct build *b) {
	const struct machine_spec *s = b->m->spec;
	if (!str_same(s->firmware, "uefi"))
		return;
	int fd = build_pass(b, b->m->vars_fd);
	_cleanup_(free_ptr) char *set = str_format("/dev/fdset/%d", fd);
	build_json(b, "-blockdev", json_pack("{s:s,s:s,s:s,s:b}", "driver", "file", "node-name", "firmware", "filename",
					     s->secure_boot ? OVMF_CODE_SECURE : OVMF_CODE, "read-only", 1));
	build_arg(b, "-add-fd", "fd=%d,set=%d", fd, fd);
	build_json(b, "-blockdev", json_pack("{s:s,s:s,s:s}", "driver", "file", "node-name", "variables", "filename", set));
	if (s->secure_boot)
		build_arg(b, "-global", "driver=cfi.pflash01,property=secure,value=on");
	if (machine_is(b->m, "q35"))
		build_arg(b, "-global", "ICH9-LPC.disable_s3=1");
}

static void build_kernel(struct build *b) {
	const struct machine_config *m = b->m;
	if (m->kernel_fd < 0)
		return;
	build_arg(b, "-kernel", "/proc/self/fd/%d", build_pass(b, m->kernel_fd));
	if (m->initrd_fd >= 0)
		build_arg(b, "-initrd", "/proc/self/fd/%d", build_pass(b, m->initrd_fd));
	if (m->append && *m->append)
		build_arg(b, "-append", "%s", m->append);
}

/* --- consoles and channels --- */

static void build_socket(struct build *b, const char *id, int fd) {
	build_arg(b, "-chardev", "socket,id=%s,fd=%d,server=on,wait=off", id, build_pass(b, fd));
}

static void build_monitor(struct build *b, const char *id, int fd) {
	if (fd < 0)
		return;
	build_socket(b, id, fd);
	build_arg(b, "-mon", "chardev=%s,mode=control", id);
}

static void build_channels(struct build *b) {
	const struct machine_config *m = b->m;
	build_arg(b, "-chardev", "stdio,id=serial0,signal=off");
	build_arg(b, "-serial", "chardev:serial0");
	build_monitor(b, "qmp", m->qmp_fd);
	build_monitor(b, "events", m->events_fd);
	if (m->guest_fd < 0)
		return;
	build_socket(b, "guest", m->guest_fd);
	build_device(b, build_virtio(b, "virtio-serial", "serial"));
	build_device(b, json_pack("{s:s,s:s,s:s}", "driver", "virtserialport", "chardev", "guest", "name", "org.qemu.guest_agent.0"));
	if (!m->n_shares)
		return;
	build_arg(b, "-chardev", "socket,id=input,path=" INPUT_SOCKET);
	build_device(b, json_pack("{s:s,s:s,s:s}", "driver", "virtserialport", "chardev", "input", "name", GUEST_INPUT));
}

static const char *watchdog_action(const struct machine_spec *s) {
	return s->watchdog && strcmp(s->watchdog, "none") != 0 ? s->watchdog : "none";
}

/* A comma ends a value unless it is doubled. */
static void build_name(struct build *b) {
	_cleanup_(buf_free) struct buf name = BUF_INIT;
	for (const char *p = b->m->name; p && *p; p++) {
		buf_addc(&name, *p);
		if (*p == ',')
			buf_addc(&name, ',');
	}
	if (name.len)
		build_arg(b, "-name", "guest=%s", buf_str(&name));
	if (b->m->uuid)
		build_arg(b, "-uuid", "%s", b->m->uuid);
}

/* For wabe-machine (src/shim/machine.c). Sandboxes of its own virtiofsd cannot make here, and what it could leave is QEMU's
 * container. Each finds its socket as descriptor 3. */
static void build_companions(struct build *b) {
	const struct machine_config *m = b->m;
	if (!m->n_shares && !m->spec->tpm)
		return;
	strv_add(&b->args, LAUNCHER);
	if (m->status_file)
		build_arg(b, "=", "%s", m->status_file);
	if (m->n_shares && m->guest_fd >= 0)
		build_arg(b, "<", INPUT_SOCKET);
	for (size_t i = 0; i < m->n_shares; i++) {
		build_arg(b, "++", SHARE_SOCKET, i);
		build_arg(b, VIRTIOFSD, "--fd=3");
		build_arg(b, "-f", "--rlimit-nofile=0");
		build_arg(b, "-o", "source=%s,sandbox=chroot,xattr,posix_acl,announce_submounts,log_level=err", m->shares[i].path);
	}
	if (m->spec->tpm) {
		build_arg(b, "+", TPM_SOCKET);
		build_arg(b, SWTPM, "socket");
		build_arg(b, "--tpm2", "--tpmstate");
		strv_take(&b->args, str_format("dir=%s,mode=0600", m->tpm_dir));
		build_arg(b, "--ctrl", "type=unixio,fd=3");
	}
	strv_add(&b->args, "--");
}

static void build_qemu(struct build *b) {
	strv_add(&b->args, QEMU);
	strv_add(&b->args, "-nodefaults");
	strv_add(&b->args, "-no-user-config");
	build_name(b);
	build_arg(b, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	build_machine(b);
	build_processors(b);
	build_memory(b);
	build_firmware(b);
	build_kernel(b);
	build_arg(b, "-boot", "strict=on");
	build_arg(b, "-rtc", "base=utc");
	/* a guest that dies of a panic is a process that fails */
	build_arg(b, "-action", "panic=exit-failure,watchdog=%s", watchdog_action(b->m->spec));
	build_arg(b, "-display", "none");
	if (wants_video(b->m->spec))
		build_arg(b, "-vnc", "none"); /* no socket: clients are handed over */
	build_channels(b);
	build_disks(b);
	build_nics(b);
	build_others(b);
	if (b->m->memory_fd >= 0)
		build_memory_file(b);
	if (b->m->incoming)
		build_arg(b, "-incoming", "defer");
	if (b->m->incoming || b->m->held)
		strv_add(&b->args, "-S");
}

char **machine_none_args(int monitor) {
	struct build b = {0};
	strv_add(&b.args, QEMU);
	strv_add(&b.args, "-nodefaults");
	strv_add(&b.args, "-no-user-config");
	build_arg(&b, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	build_arg(&b, "-machine", "none");
	build_arg(&b, "-accel", "tcg,tb-size=1");
	build_arg(&b, "-display", "none");
	build_arg(&b, "-chardev", "socket,id=qmp,fd=%d", monitor);
	build_arg(&b, "-mon", "chardev=qmp,mode=control");
	return b.args;
}

int machine_shape(const struct machine_config *m, char ***shape, struct error *err) {
	struct machine_config c = *m;
	struct machine_nic *nics = alloc_array(m->n_nics + 1, sizeof *nics);
	_cleanup_(free_ptr) int *pass = NULL;
	size_t n_pass;
	for (size_t i = 0; i < m->n_nics; i++) {
		nics[i] = m->nics[i];
		nics[i].id = nics[i].tap = "nic"; /* they follow from the network's id, which another daemon gives another one */
		nics[i].mac = NULL;
	}
	c.nics = nics;
	c.name = c.uuid = c.board = c.generation = NULL;
	c.incoming = c.held = false;
	c.memory_fd = -1;
	int r = machine_args(&c, shape, &pass, &n_pass, err);
	free(nics);
	return r;
}

int machine_args(const struct machine_config *m, char ***args, int **pass, size_t *n_pass, struct error *err) {
	struct build b = {.m = m};
	int r = machine_check(m, err);
	if (r < 0)
		return r;
	build_companions(&b);
	build_qemu(&b);
	*args = b.args;
	*pass = b.pass;
	*n_pass = b.n_pass;
	return 0;
}
