/* Reads OVF descriptors. Sections and their parts are known by their local names, whatever prefixes and name spaces the
 * writer has chosen; oVirt's "Section" elements by their type. */
#include "image/ovf.h"

#include "base/str.h"
#include "image/disk.h"
#include "image/xml.h"

#include <ctype.h>
#include <strings.h>

#define SPACE "http://schemas.dmtf.org/ovf/envelope/"
#define ITEMS_MAX 256

enum resource {
	RESOURCE_OTHER = 1, RESOURCE_CPU = 3, RESOURCE_MEMORY = 4, RESOURCE_IDE = 5, RESOURCE_SCSI = 6, RESOURCE_NIC = 10,
	RESOURCE_FLOPPY = 14, RESOURCE_CD = 15, RESOURCE_DVD = 16, RESOURCE_DISK = 17, RESOURCE_STORAGE = 20, RESOURCE_SERIAL = 21,
	RESOURCE_PARALLEL = 22, RESOURCE_USB = 23, RESOURCE_GRAPHICS = 24, RESOURCE_OVIRT_GRAPHICS = 26,
	RESOURCE_SOUND = 35, RESOURCE_VENDOR = 0x8000,
};

struct reading {
	struct ovf *out;
	const struct xml *envelope, *system, *hardware, *disk_section;
	const char *configuration; /* of several that the package has, the one that is taken; NULL */
	struct {
		const struct xml *item;
		uint64_t type;
	} items[ITEMS_MAX];
	size_t n;
};

/* ---- sections ---- */

/* "DiskSection", or <Section xsi:type="ovf:DiskSection_Type">: free it. */
static char *section_name(const struct xml *x) {
	const char *type = xml_is(x, "Section") || xml_is(x, "Content") ? xml_attribute(x, "type") : NULL;
	if (!type)
		return str_copy(x->name);
	const char *colon = strchr(type, ':');
	type = colon ? colon + 1 : type;
	return str_copyn(type, str_ends(type, "_Type") ? strlen(type) - strlen("_Type") : strlen(type));
}

static struct xml *section(const struct xml *within, const char *name) {
	for (struct xml *x = within->first; x; x = x->next) {
		_cleanup_(free_ptr) char *is = section_name(x);
		if (strcasecmp(is, name) == 0)
			return x;
	}
	return NULL;
}

static bool is_required(const struct xml *x) {
	const char *text = xml_attribute(x, "required");
	return !text || (strcasecmp(text, "false") != 0 && !str_same(text, "0"));
}

static bool is_known(const char *name) {
	static const char *const known[] = {
		"References", "DiskSection", "NetworkSection", "ResourceAllocationSection", "AnnotationSection", "ProductSection",
		"EulaSection", "StartupSection", "DeploymentOptionSection", "OperatingSystemSection", "InstallSection",
		"VirtualHardwareSection", "VirtualSystem", "Strings", "Info", "Name", "SnapshotsSection",
	};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcasecmp(known[i], name) == 0)
			return true;
	return false;
}

/* oVirt has settings of its own as elements without a name space, or in OVF's: those are none of sections. */
static bool must_be_known(const struct xml *x, const char *name) {
	size_t n = strlen(name);
	bool is_section = xml_is(x, "Section") || (n >= 7 && strcasecmp(name + n - 7, "Section") == 0);
	bool foreign = *x->space && !str_starts(x->space, SPACE);
	return (is_section || foreign) && is_required(x);
}

static int check_sections(const struct xml *within, struct error *err) {
	for (const struct xml *x = within->first; x; x = x->next) {
		_cleanup_(free_ptr) char *name = section_name(x), *shown = NULL;
		if (strcasecmp(name, "VirtualSystemCollection") == 0)
			return error_set(err, ERROR_UNSUPPORTED, "it is of several machines (VirtualSystemCollection): export them one by one");
		if (is_known(name) || !must_be_known(x, name))
			continue;
		shown = text_shown(name);
		return error_set(err, ERROR_UNSUPPORTED, "it has a section %s that must be understood (ovf:required), and is not known here", shown);
	}
	return 0;
}

static int find_sections(struct reading *r, const struct xml *root, struct error *err) {
	r->envelope = root;
	if (!xml_is(root, "Envelope") || (*root->space && !str_starts(root->space, SPACE)))
		return error_set(err, ERROR_INVALID, "its first element is not the Envelope of an OVF descriptor");
	int result = check_sections(root, err);
	if (result < 0)
		return result;
	r->system = section(root, "VirtualSystem");
	if (!r->system)
		return error_set(err, ERROR_INVALID, "it has no VirtualSystem");
	for (const struct xml *x = r->system->next; x; x = x->next) {
		_cleanup_(free_ptr) char *name = section_name(x);
		if (strcasecmp(name, "VirtualSystem") == 0)
			return error_set(err, ERROR_UNSUPPORTED, "it is of several machines: export them one by one");
	}
	result = check_sections(r->system, err);
	r->hardware = section(r->system, "VirtualHardwareSection");
	r->disk_section = section(root, "DiskSection");
	if (result == 0 && !r->hardware)
		result = error_set(err, ERROR_INVALID, "its VirtualSystem has no VirtualHardwareSection");
	return result;
}

/* The one that says that it is, or the first. */
static const char *default_configuration(const struct xml *envelope) {
	const struct xml *options = section(envelope, "DeploymentOptionSection");
	const char *first = NULL;
	for (const struct xml *x = options ? options->first : NULL; x; x = x->next) {
		const char *id = xml_is(x, "Configuration") ? xml_attribute(x, "id") : NULL, *is = xml_attribute(x, "default");
		if (id && is && (strcasecmp(is, "true") == 0 || str_same(is, "1")))
			return id;
		first = first ? first : id;
	}
	return first;
}

/* ---- items ---- */

static bool word_in(const char *words, const char *word) {
	size_t n = strlen(word);
	for (const char *p = words; *p; p += strcspn(p, " \t\r\n")) {
		p += strspn(p, " \t\r\n");
		if (strncmp(p, word, n) == 0 && (!p[n] || isspace((unsigned char)p[n])))
			return true;
	}
	return false;
}

static bool is_item(const struct xml *x) {
	return xml_is(x, "Item") || xml_is(x, "StorageItem") || xml_is(x, "EthernetPortItem");
}

static uint64_t number(const struct xml *item, const char *name) {
	const char *text = xml_text(item, name);
	uint64_t n;
	return text && str_to_u64(text, 10, &n) == 0 ? n : 0;
}

static int refuse_item(const struct xml *item, uint64_t type, struct error *err) {
	const char *name = xml_text(item, "ElementName");
	_cleanup_(free_ptr) char *shown = text_shown(name ? name : "?"), *id = text_shown(xml_text(item, "InstanceID") ? xml_text(item, "InstanceID") : "?");
	return error_set(err, ERROR_UNSUPPORTED, "its hardware has an item %s (%s) of the kind %llu, which no machine here has", id, shown,
			 (unsigned long long)type);
}

static bool is_part(uint64_t type) {
	switch (type) {
	case 0: /* oVirt's own */
	case RESOURCE_OTHER: case RESOURCE_CPU: case RESOURCE_MEMORY: case RESOURCE_IDE: case RESOURCE_SCSI: case RESOURCE_NIC:
	case RESOURCE_FLOPPY: case RESOURCE_CD: case RESOURCE_DVD: case RESOURCE_DISK: case RESOURCE_STORAGE: case RESOURCE_SERIAL:
	case RESOURCE_PARALLEL: case RESOURCE_USB: case RESOURCE_GRAPHICS: case RESOURCE_OVIRT_GRAPHICS: case RESOURCE_SOUND:
		return true;
	default:
		return type >= RESOURCE_VENDOR;
	}
}

/* Those of the configuration that is taken, without bounds of what might be. */
static int collect_items(struct reading *r, struct error *err) {
	for (const struct xml *x = r->hardware->first; x; x = x->next) {
		const char *of = xml_attribute(x, "configuration"), *bound = xml_attribute(x, "bound");
		if (!is_item(x) || (of && !(r->configuration && word_in(of, r->configuration))) || (bound && *bound))
			continue;
		uint64_t type = number(x, "ResourceType");
		if (!is_part(type) && is_required(x))
			return refuse_item(x, type, err);
		if (r->n == ITEMS_MAX)
			return error_set(err, ERROR_TOO_LARGE, "its hardware has more than %d items", ITEMS_MAX);
		r->items[r->n].item = x;
		r->items[r->n++].type = type;
	}
	return 0;
}

/* ---- quantities ---- */

/* "byte * 2^20", "MegaBytes", "GB", "MB" … as a number of bits that it shifts by; -1: not known. */
static int unit_shift(const char *unit) {
	static const struct {
		const char *name;
		int shift;
	} names[] = {{"byte", 0}, {"bytes", 0}, {"kilobytes", 10}, {"kb", 10}, {"megabytes", 20}, {"mb", 20}, {"gigabytes", 30}, {"gb", 30},
		     {"terabytes", 40}, {"tb", 40}};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcasecmp(unit, names[i].name) == 0)
			return names[i].shift;
	if (strncasecmp(unit, "byte", 4) != 0)
		return -1;
	unit += 4 + strspn(unit + 4, " *");
	uint64_t shift;
	if (!str_starts(unit, "2^") || str_to_u64(unit + 2, 10, &shift) < 0 || shift > 40)
		return -1;
	return (int)shift;
}

static int quantity(const char *what, const char *text, const char *unit, int64_t *out, struct error *err) {
	uint64_t n;
	int shift = unit ? unit_shift(unit) : 0;
	if (text && str_to_u64(text, 10, &n) == 0 && shift >= 0 && n <= (uint64_t)DISK_SIZE_MAX >> shift) {
		*out = (int64_t)(n << shift);
		return 0;
	}
	_cleanup_(free_ptr) char *shown = text_shown(text ? text : ""), *of = text_shown(unit ? unit : "byte");
	return error_set(err, ERROR_INVALID, "its %s is \"%s\" in units of \"%s\", which is no size", what, shown, of);
}

/* ---- disks ---- */

static const struct xml *file_of(const struct reading *r, const char *ref) {
	const struct xml *references = section(r->envelope, "References");
	for (const struct xml *x = references ? references->first : NULL; x; x = x->next)
		if (xml_is(x, "File") && (str_same(xml_attribute(x, "id"), ref) || str_same(xml_attribute(x, "href"), ref)))
			return x;
	return NULL;
}

/* "ovf:/disk/ID", "/disk/ID", or oVirt's "GROUP/ID". */
static const struct xml *disk_named(const struct reading *r, const char *resource) {
	const char *last = strrchr(resource, '/');
	for (const struct xml *x = r->disk_section ? r->disk_section->first : NULL; x; x = x->next)
		if (xml_is(x, "Disk") && (str_same(xml_attribute(x, "diskId"), last ? last + 1 : resource) ||
					  str_same(xml_attribute(x, "fileRef"), resource)))
			return x;
	return NULL;
}

/* Where a raw disk is one: its bytes may look like anything. */
static const char *raw_format(const struct xml *disk) {
	const char *volume = xml_attribute(disk, "volume-format");
	return volume && strcasecmp(volume, "RAW") == 0 ? "raw" : NULL;
}

static int add_disk(struct reading *r, const struct xml *disk, const char *ref, struct error *err) {
	struct ovf *o = r->out;
	_cleanup_(free_ptr) char *shown = text_shown(ref);
	const struct xml *file = file_of(r, ref);
	const char *href = file ? xml_attribute(file, "href") : NULL, *packed = file ? xml_attribute(file, "compression") : NULL;
	if (!href)
		return error_set(err, ERROR_INVALID, "its References have no file %s, which a disk is to be in", shown);
	if ((packed && *packed && strcasecmp(packed, "identity") != 0) || xml_attribute(file, "chunkSize"))
		return error_set(err, ERROR_UNSUPPORTED, "its file %s is compressed or cut into pieces by itself: unpack it, and make the OVA anew", shown);
	if (o->n == OVF_DISKS_MAX)
		return error_set(err, ERROR_TOO_LARGE, "it has more than %d disks", OVF_DISKS_MAX);
	struct ovf_disk *d = &o->disks[o->n++];
	d->file = str_copy(href);
	d->id = str_copy(disk && xml_attribute(disk, "diskId") ? xml_attribute(disk, "diskId") : ref);
	const char *format = disk ? raw_format(disk) : NULL;
	d->format = format ? str_copy(format) : NULL;
	const char *capacity = disk ? xml_attribute(disk, "capacity") : NULL;
	return capacity ? quantity("disk's capacity", capacity, xml_attribute(disk, "capacityAllocationUnits"), &d->capacity, err) : 0;
}

static int take_disk(struct reading *r, const struct xml *item, struct error *err) {
	const char *resource = xml_text(item, "HostResource");
	if (!resource)
		return error_set(err, ERROR_INVALID, "one of its disks has no HostResource, which tells what is on it");
	if (str_starts(resource, "ovf:/"))
		resource += strlen("ovf:");
	if (str_starts(resource, "/file/"))
		return add_disk(r, NULL, resource + strlen("/file/"), err);
	const struct xml *disk = disk_named(r, resource);
	_cleanup_(free_ptr) char *shown = text_shown(resource);
	if (!disk)
		return error_set(err, ERROR_INVALID, "its DiskSection has no disk %s, which the hardware has", shown);
	const char *ref = xml_attribute(disk, "fileRef"), *parent = xml_attribute(disk, "parentRef");
	if (parent && *parent)
		return error_set(err, ERROR_UNSUPPORTED, "its disk %s is only what differs from another one: export a machine without snapshots", shown);
	if (!ref || !*ref)
		return error_set(err, ERROR_UNSUPPORTED, "its disk %s is empty (it has no file): take it out, and make a volume for the machine later",
				 shown);
	return add_disk(r, disk, ref, err);
}

/* Beside the same controller by their addresses. */
static void sort_disks(struct reading *r) {
	for (size_t i = 0; i < r->n; i++)
		for (size_t k = i + 1; r->items[i].type == RESOURCE_DISK && k < r->n; k++) {
			const struct xml *a = r->items[i].item, *b = r->items[k].item;
			if (r->items[k].type != RESOURCE_DISK || !str_same(xml_text(a, "Parent"), xml_text(b, "Parent")) ||
			    number(b, "AddressOnParent") >= number(a, "AddressOnParent"))
				continue;
			r->items[i].item = b;
			r->items[k].item = a;
		}
}

/* oVirt says which one is booted from. */
static void boot_disk_first(struct reading *r) {
	for (size_t i = 1; i < r->out->n; i++) {
		const struct xml *disk = disk_named(r, r->out->disks[i].id);
		const char *boot = disk ? xml_attribute(disk, "boot") : NULL;
		if (!boot || strcasecmp(boot, "true") != 0)
			continue;
		struct ovf_disk first = r->out->disks[i];
		memmove(&r->out->disks[1], &r->out->disks[0], i * sizeof first);
		r->out->disks[0] = first;
		return;
	}
}

/* ---- hardware ---- */

static void set(char **to, const char *value) {
	free(*to);
	*to = str_copy(value);
}

static bool says(const char *text, const char *word) {
	return text && strcasestr(text, word);
}

static int take_cpus(struct machine_hardware *m, const struct xml *item, struct error *err) {
	uint64_t n = number(item, "VirtualQuantity"), sockets = number(item, "num_of_sockets"), cores = number(item, "cpu_per_socket"),
		 threads = number(item, "threads_per_cpu");
	if (!n && sockets <= 256 && cores <= 256 && threads <= 256)
		n = MAX(sockets, 1) * MAX(cores, 1) * MAX(threads, 1);
	if (n < 1 || n > 256)
		return error_set(err, ERROR_INVALID, "it has %llu processors: 1 to 256 are possible", (unsigned long long)n);
	m->cpus = (int64_t)n;
	return 0;
}

/* A card that wabe has not becomes one that every system which could use the other has a driver for. */
static void take_nic(struct machine_hardware *m, const struct xml *item) {
	const char *model = xml_text(item, "ResourceSubType"), *network = xml_text(item, "Connection");
	_cleanup_(free_ptr) char *name = text_shown(network ? network : "");
	strv_add(&m->networks, name);
	if (m->nic_model)
		return;
	if (says(model, "virtio") || str_same(model, "3"))
		set(&m->nic_model, "virtio");
	else if (says(model, "e1000e") || says(model, "vmxnet"))
		set(&m->nic_model, "e1000e");
	else if (says(model, "rtl8139") || str_same(model, "1"))
		set(&m->nic_model, "rtl8139");
	else if (model)
		set(&m->nic_model, "e1000");
}

/* The bus is that of the controller, or oVirt's word, of the disk that is booted from. SCSI controllers of other makes become
 * SATA, for which every system has a driver. */
static const char *bus_of(uint64_t type, const char *make) {
	if (says(make, "nvme"))
		return "nvme";
	if (says(make, "virtio"))
		return says(make, "scsi") ? "scsi" : "virtio";
	return type == RESOURCE_IDE || says(make, "IDE") ? "ide" : "sata";
}

static void take_bus(struct reading *r, const struct xml *disk_item) {
	struct machine_hardware *m = &r->out->machine;
	const struct xml *disk = disk_named(r, xml_text(disk_item, "HostResource") ? xml_text(disk_item, "HostResource") : "");
	const char *parent = xml_text(disk_item, "Parent"), *told = disk ? xml_attribute(disk, "disk-interface") : NULL;
	if (told)
		set(&m->disk_bus, bus_of(0, told));
	for (size_t i = 0; !told && parent && i < r->n; i++) {
		uint64_t type = r->items[i].type;
		const char *id = xml_text(r->items[i].item, "InstanceID");
		if (str_same(id, parent) && (type == RESOURCE_IDE || type == RESOURCE_SCSI || type == RESOURCE_STORAGE))
			set(&m->disk_bus, bus_of(type, xml_text(r->items[i].item, "ResourceSubType")));
	}
	if (str_same(m->disk_bus, "ide"))
		set(&m->chipset, "pc");
}

static int take_item(struct reading *r, const struct xml *item, uint64_t type, struct error *err) {
	struct machine_hardware *m = &r->out->machine;
	const char *make = xml_text(item, "ResourceSubType");
	switch (type) {
	case RESOURCE_CPU:
		return take_cpus(m, item, err);
	case RESOURCE_MEMORY:
		return quantity("memory", xml_text(item, "VirtualQuantity"), xml_text(item, "AllocationUnits"), &m->memory, err);
	case RESOURCE_NIC:
		take_nic(m, item);
		return 0;
	case RESOURCE_DISK:
		if (!r->out->n)
			take_bus(r, item);
		return take_disk(r, item, err);
	case RESOURCE_CD:
	case RESOURCE_DVD:
		m->drives = MIN(m->drives + 1, 4);
		return 0;
	case RESOURCE_USB:
		m->usb = true;
		return 0;
	case RESOURCE_GRAPHICS:
	case RESOURCE_OVIRT_GRAPHICS:
		set(&m->video, "vga");
		return 0;
	case RESOURCE_SOUND:
		m->audio = true;
		return 0;
	default:
		m->tpm = m->tpm || says(make, "vtpm");
		return 0;
	}
}

static bool setting_is(const struct xml *within, const char *key, const char *value) {
	for (const struct xml *x = within->first; x; x = x->next)
		if ((xml_is(x, "Config") || xml_is(x, "ExtraConfig")) && str_same(xml_attribute(x, "key"), key) &&
		    xml_attribute(x, "value") && strcasecmp(xml_attribute(x, "value"), value) == 0)
			return true;
	return false;
}

/* VMware's settings beside the items, VirtualBox's own description of the machine, oVirt's number. */
static void take_firmware(struct reading *r) {
	struct machine_hardware *m = &r->out->machine;
	const struct xml *vbox = section(r->system, "Machine"), *hardware = vbox ? xml_child(vbox, "Hardware") : NULL;
	const struct xml *firmware = hardware ? xml_child(hardware, "Firmware") : NULL;
	uint64_t bios = number(r->system, "BiosType");
	bool efi = setting_is(r->hardware, "firmware", "efi") || bios == 3 || bios == 4 ||
		   (firmware && says(xml_attribute(firmware, "type"), "EFI"));
	if (!efi)
		return;
	set(&m->firmware, "uefi");
	m->secure_boot = bios == 4 || setting_is(r->hardware, "bootOptions.efiSecureBootEnabled", "true");
	/* OVMF is q35's */
	if (str_same(m->chipset, "pc")) {
		set(&m->chipset, "q35");
		set(&m->disk_bus, "sata");
	}
}

static void take_texts(struct reading *r) {
	const struct xml *annotation = section(r->system, "AnnotationSection");
	const char *name = xml_text(r->system, "Name"), *notes = annotation ? xml_text(annotation, "Annotation") : NULL;
	name = name ? name : xml_attribute(r->system, "id");
	r->out->name = name ? text_shown(name) : NULL;
	r->out->notes = notes ? text_shown(notes) : NULL;
}

static void take_files(struct reading *r) {
	const struct xml *references = section(r->envelope, "References");
	for (const struct xml *x = references ? references->first : NULL; x; x = x->next)
		if (xml_is(x, "File") && xml_attribute(x, "href"))
			strv_add(&r->out->files, xml_attribute(x, "href"));
}

static int read_machine(struct reading *r, struct error *err) {
	int result = 0;
	for (size_t i = 0; result == 0 && i < r->n; i++)
		result = take_item(r, r->items[i].item, r->items[i].type, err);
	if (result == 0 && !r->out->n)
		result = error_set(err, ERROR_INVALID, "its machine has no disk, so no image can be made of it");
	if (result < 0)
		return result;
	boot_disk_first(r);
	take_firmware(r);
	take_texts(r);
	take_files(r);
	return fields_validate(&machine_hardware_table, &r->out->machine, err);
}

int ovf_parse(const char *text, size_t n, struct ovf *out, struct error *err) {
	struct reading r = {.out = out};
	*out = (struct ovf){0};
	_cleanup_(xml_free_ptr) struct xml *root = xml_parse(text, n, err);
	int result = root ? find_sections(&r, root, err) : -ERROR_INVALID;
	if (result == 0) {
		r.configuration = default_configuration(root);
		result = collect_items(&r, err);
	}
	if (result == 0) {
		sort_disks(&r);
		result = read_machine(&r, err);
	}
	if (result == 0)
		return 0;
	ovf_free(out);
	return error_wrap(err, "the OVF descriptor");
}

void ovf_free(struct ovf *o) {
	for (size_t i = 0; i < o->n; i++) {
		free(o->disks[i].id);
		free(o->disks[i].file);
		free(o->disks[i].format);
	}
	free(o->name);
	free(o->notes);
	strv_free(o->files);
	fields_free(&machine_hardware_table, &o->machine);
	*o = (struct ovf){0};
}
