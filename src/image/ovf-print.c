/* Writes OVF descriptors, of version 1.0 as every tool reads it. */
#include "image/ovf.h"

#include "base/buf.h"
#include "base/str.h"
#include "image/xml.h"

#define DMTF "http://schemas.dmtf.org/"
#define CIM DMTF "wbem/wscim/1/cim-schema/2/"
#define VMDK_STREAM "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"

struct printer {
	struct buf out;
	const struct ovf *o;
	unsigned id; /* of the last item */
};

static void add_text(struct printer *p, const char *indent, const char *element, const char *text) {
	buf_addf(&p->out, "%s<%s>", indent, element);
	xml_escape(&p->out, text);
	buf_addf(&p->out, "</%s>\n", element);
}

static void add_references(struct printer *p, const uint64_t *sizes) {
	buf_adds(&p->out, "  <References>\n");
	for (size_t i = 0; i < p->o->n; i++) {
		buf_addf(&p->out, "    <File ovf:id=\"file%zu\" ovf:href=\"", i + 1);
		xml_escape(&p->out, p->o->disks[i].file);
		buf_addf(&p->out, "\" ovf:size=\"%llu\"/>\n", (unsigned long long)sizes[i]);
	}
	buf_adds(&p->out, "  </References>\n  <DiskSection>\n    <Info>The disks of the machine</Info>\n");
	for (size_t i = 0; i < p->o->n; i++)
		buf_addf(&p->out, "    <Disk ovf:diskId=\"disk%zu\" ovf:fileRef=\"file%zu\" ovf:capacity=\"%lld\" ovf:capacityAllocationUnits=\"byte\" "
			 "ovf:format=\"" VMDK_STREAM "\"/>\n", i + 1, i + 1, (long long)p->o->disks[i].capacity);
	buf_adds(&p->out, "  </DiskSection>\n");
}

static void add_networks(struct printer *p) {
	char **all = p->o->machine.networks, **seen = NULL;
	if (!strv_len(all))
		return;
	buf_adds(&p->out, "  <NetworkSection>\n    <Info>The networks of its cards</Info>\n");
	for (char **name = all; *name; name++) {
		if (strv_has(seen, *name))
			continue;
		strv_add(&seen, *name);
		buf_adds(&p->out, "    <Network ovf:name=\"");
		xml_escape(&p->out, *name);
		buf_adds(&p->out, "\">\n");
		add_text(p, "      ", "Description", *name);
		buf_adds(&p->out, "    </Network>\n");
	}
	strv_free(seen);
	buf_adds(&p->out, "  </NetworkSection>\n");
}

/* What an item has, in the order of CIM's schema, which is that of the alphabet. */
struct item {
	const char *address, *on_parent, *unit, *connection, *description, *name, *resource, *make;
	unsigned parent;
	int type;
	int64_t quantity; /* 0: none */
};

static void add_field(struct printer *p, const char *name, const char *text) {
	_cleanup_(free_ptr) char *element = str_format("rasd:%s", name);
	if (text)
		add_text(p, "        ", element, text);
}

static unsigned add_item(struct printer *p, const struct item *i, bool required) {
	_cleanup_(free_ptr) char *parent = i->parent ? str_format("%u", i->parent) : NULL, *id = str_format("%u", ++p->id),
				 *type = str_format("%d", i->type), *quantity = i->quantity ? str_format("%lld", (long long)i->quantity) : NULL;
	buf_addf(&p->out, "      <Item%s>\n", required ? "" : " ovf:required=\"false\"");
	add_field(p, "Address", i->address);
	add_field(p, "AddressOnParent", i->on_parent);
	add_field(p, "AllocationUnits", i->unit);
	add_field(p, "AutomaticAllocation", i->connection ? "true" : NULL);
	add_field(p, "Connection", i->connection);
	add_field(p, "Description", i->description);
	add_field(p, "ElementName", i->name);
	add_field(p, "HostResource", i->resource);
	add_field(p, "InstanceID", id);
	add_field(p, "Parent", parent);
	add_field(p, "ResourceSubType", i->make);
	add_field(p, "ResourceType", type);
	add_field(p, "VirtualQuantity", quantity);
	buf_adds(&p->out, "      </Item>\n");
	return p->id;
}

/* Other tools have no virtio disks as wabe has: their nearest is the SCSI controller of that family. */
static unsigned add_controller(struct printer *p) {
	static const struct {
		const char *bus, *make, *name;
		int type;
	} known[] = {
		{"ide", "PIIX4", "IDE controller", 5}, {"sata", "AHCI", "SATA controller", 20}, {"nvme", "vmware.nvme.controller", "NVMe controller", 20},
		{"scsi", "VirtioSCSI", "SCSI controller", 6}, {"virtio", "virtio", "virtio controller", 6},
	};
	const char *bus = p->o->machine.disk_bus ? p->o->machine.disk_bus : "virtio";
	size_t i = 0;
	while (i < ARRAY_SIZE(known) - 1 && !str_same(known[i].bus, bus))
		i++;
	return add_item(p, &(struct item){.address = "0", .name = known[i].name, .make = known[i].make, .type = known[i].type}, true);
}

static void add_disks(struct printer *p) {
	unsigned controller = add_controller(p);
	for (size_t i = 0; i < p->o->n; i++) {
		_cleanup_(free_ptr) char *at = str_format("%zu", i), *name = str_format("disk %zu", i + 1), *resource = str_format("ovf:/disk/disk%zu", i + 1);
		add_item(p, &(struct item){.on_parent = at, .name = name, .resource = resource, .parent = controller, .type = 17}, true);
	}
}

static void add_cards(struct printer *p) {
	const char *model = p->o->machine.nic_model;
	const char *make = str_same(model, "e1000") ? "E1000" : str_same(model, "e1000e") ? "E1000e" : model ? model : "virtio";
	for (char **name = p->o->machine.networks; name && *name; name++)
		add_item(p, &(struct item){.connection = *name, .name = "network card", .make = make, .type = 10}, true);
}

static void add_hardware(struct printer *p) {
	const struct machine_hardware *m = &p->o->machine;
	buf_adds(&p->out, "    <VirtualHardwareSection>\n      <Info>What the machine consists of</Info>\n      <System>\n");
	buf_adds(&p->out, "        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n        <vssd:InstanceID>0</vssd:InstanceID>\n");
	add_text(p, "        ", "vssd:VirtualSystemIdentifier", p->o->name ? p->o->name : "machine");
	add_text(p, "        ", "vssd:VirtualSystemType", "virtualbox-2.2");
	buf_adds(&p->out, "      </System>\n");
	add_item(p, &(struct item){.unit = "hertz * 10^6", .description = "Number of processors", .name = "processors", .type = 3, .quantity = MAX(m->cpus, 1)}, true);
	add_item(p, &(struct item){.unit = "byte * 2^20", .description = "Memory", .name = "memory", .type = 4, .quantity = MAX(m->memory >> 20, 1)}, true);
	add_disks(p);
	add_cards(p);
	for (int64_t i = 0; i < m->drives; i++)
		add_item(p, &(struct item){.name = "CD drive", .type = 15}, false);
	if (m->video && !str_same(m->video, "none"))
		add_item(p, &(struct item){.name = "graphics card", .type = 24}, false);
	if (m->usb)
		add_item(p, &(struct item){.name = "USB controller", .type = 23}, false);
	if (m->audio)
		add_item(p, &(struct item){.name = "sound card", .type = 35}, false);
	if (m->tpm)
		add_item(p, &(struct item){.name = "TPM", .make = "vmware.vtpm", .type = 1}, false);
	if (str_same(m->firmware, "uefi"))
		buf_adds(&p->out, "      <vmw:Config ovf:required=\"false\" vmw:key=\"firmware\" vmw:value=\"efi\"/>\n");
	if (m->secure_boot)
		buf_adds(&p->out, "      <vmw:Config ovf:required=\"false\" vmw:key=\"bootOptions.efiSecureBootEnabled\" vmw:value=\"true\"/>\n");
	buf_adds(&p->out, "    </VirtualHardwareSection>\n");
}

char *ovf_print(const struct ovf *o, const uint64_t *sizes) {
	struct printer p = {.o = o};
	const char *name = o->name ? o->name : "machine";
	buf_adds(&p.out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Envelope ovf:version=\"1.0\" xml:lang=\"en-US\" xmlns=\"" DMTF
		 "ovf/envelope/1\" xmlns:ovf=\"" DMTF "ovf/envelope/1\"\n  xmlns:rasd=\"" CIM "CIM_ResourceAllocationSettingData\" xmlns:vssd=\"" CIM
		 "CIM_VirtualSystemSettingData\"\n  xmlns:vmw=\"http://www.vmware.com/schema/ovf\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n");
	add_references(&p, sizes);
	add_networks(&p);
	buf_adds(&p.out, "  <VirtualSystem ovf:id=\"");
	xml_escape(&p.out, name);
	buf_adds(&p.out, "\">\n    <Info>A virtual machine</Info>\n");
	add_text(&p, "    ", "Name", name);
	buf_adds(&p.out, "    <OperatingSystemSection ovf:id=\"1\">\n      <Info>The system that is on its disks</Info>\n      <Description>Other</Description>\n"
		 "    </OperatingSystemSection>\n");
	if (o->notes) {
		buf_adds(&p.out, "    <AnnotationSection>\n      <Info>What it is</Info>\n");
		add_text(&p, "      ", "Annotation", o->notes);
		buf_adds(&p.out, "    </AnnotationSection>\n");
	}
	add_hardware(&p);
	buf_adds(&p.out, "  </VirtualSystem>\n</Envelope>\n");
	return buf_steal(&p.out);
}
