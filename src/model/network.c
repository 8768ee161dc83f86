/* The tables of networks, rules and balancers. Addresses as numbers are in address.c, checks and the texts of flags in
 * network-check.c. */
#include "model/network.h"

#include "model/instance.h"
#include "model/network-priv.h"

#define NAMES(...) (const char *const[]){__VA_ARGS__, NULL}
#define TABLE(var_, name_, struct_, fields_, doc_, ...) \
	const struct field_table var_ = {name_, doc_, sizeof(struct_), fields_, ARRAY_SIZE(fields_), ##__VA_ARGS__}

static const struct field subnet_fields[] = {
	FIELD(struct subnet, cidr, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 64, .check = cidr_check,
	      .doc = "10.84.0.0/20, fd00:1:2::/64"),
	FIELD(struct subnet, gateway, FIELD_STRING, .max = 64, .check = ip_check,
	      .doc = "The host's address in it; the first if not given"),
	FIELD(struct subnet, range, FIELD_STRING, .max = 64, .check = cidr_check,
	      .doc = "Part of it from which dynamic addresses come; all of it if not given"),
	FIELD(struct subnet, aside, FIELD_PAIRS, .max = 256, .doc = "Addresses that no instance gets, by what has them"),
};
TABLE(subnet_table, "subnet", struct subnet, subnet_fields, "Addresses of a network", subnet_validate);

static const struct field network_spec_fields[] = {
	FIELD(struct network_spec, name, FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_IMMUTABLE, .max = 128,
	      .check = network_name_check, .doc = "Its name"),
	FIELD(struct network_spec, driver, FIELD_ENUM, .flags = FIELD_IMMUTABLE, .def = "bridge",
	      .values = NAMES("bridge", "macvlan", "ipvlan", "physical", "vxlan"), .flag = "driver,d",
	      .placeholder = "DRIVER", .doc = "bridge, macvlan, ipvlan, physical or vxlan"),
	FIELD(struct network_spec, description, FIELD_STRING, .check = text_check, .flag = "description",
	      .placeholder = "TEXT", .doc = "What it is for"),
	FIELD(struct network_spec, labels, FIELD_PAIRS, .flag = "label,l", .placeholder = "KEY=VALUE", .doc = "Labels"),
	FIELD(struct network_spec, subnets, FIELD_LIST, .max = 2, .flags = FIELD_IMMUTABLE, .sub = &subnet_table,
	      .flag = "subnet", .placeholder = "CIDR[,gateway=IP][,range=CIDR]", .parse = parse_subnet,
	      .doc = "Its addresses, one subnet of each family; picked if not given"),
	FIELD(struct network_spec, ipv6, FIELD_BOOL, .flags = FIELD_IMMUTABLE, .flag = "ipv6",
	      .doc = "Picks an IPv6 subnet where none is given"),
	FIELD(struct network_spec, nat, FIELD_BOOL, .def = "true", .flag = "nat",
	      .doc = "Traffic to the outside has the host's address"),
	FIELD(struct network_spec, internal, FIELD_BOOL, .flag = "internal", .doc = "Nothing goes to or comes from outside"),
	FIELD(struct network_spec, isolated, FIELD_BOOL, .flag = "isolated",
	      .doc = "Its instances do not reach each other over it"),
	FIELD(struct network_spec, interface, FIELD_STRING, .flags = FIELD_IMMUTABLE, .max = 15, .check = interface_check,
	      .flag = "interface", .placeholder = "NAME", .doc = "Name of its bridge on the host; made up if not given"),
	FIELD(struct network_spec, interface_prefix, FIELD_STRING, .flags = FIELD_IMMUTABLE, .max = 11, .check = interface_check,
	      .flag = "interface-prefix", .placeholder = "PREFIX", .doc = "Interfaces inside are named PREFIX0, PREFIX1 …; eth if not given"),
	FIELD(struct network_spec, parent, FIELD_STRING, .flags = FIELD_IMMUTABLE, .max = 15, .check = interface_check,
	      .flag = "parent", .placeholder = "INTERFACE", .doc = "Interface of the host that it is made on"),
	FIELD(struct network_spec, mode, FIELD_ENUM, .flags = FIELD_IMMUTABLE,
	      .values = NAMES("bridge", "vepa", "private", "passthru", "l2", "l3"), .flag = "mode",
	      .placeholder = "MODE", .doc = "macvlan: bridge, vepa, private, passthru; ipvlan: l2, l3"),
	FIELD(struct network_spec, vlan, FIELD_INT, .flags = FIELD_IMMUTABLE, .max = 4094, .flag = "vlan",
	      .placeholder = "ID", .doc = "Tag on the parent; 0: none"),
	FIELD(struct network_spec, vni, FIELD_INT, .flags = FIELD_IMMUTABLE, .max = 16777215, .flag = "vni",
	      .placeholder = "ID", .doc = "vxlan: number of the network, 1 to 16777215"),
	FIELD(struct network_spec, vxlan_port, FIELD_INT, .flags = FIELD_IMMUTABLE, .min = 1, .max = 65535, .def = "4789",
	      .flag = "vxlan-port", .placeholder = "PORT", .doc = "vxlan: UDP port"),
	FIELD(struct network_spec, local, FIELD_STRING, .flags = FIELD_IMMUTABLE, .max = 64, .check = ip_check,
	      .flag = "local", .placeholder = "IP", .doc = "vxlan: the host's own end"),
	FIELD(struct network_spec, peers, FIELD_STRINGS, .max = 256, .check = ip_check, .flag = "peer",
	      .placeholder = "IP", .doc = "vxlan: the other hosts"),
	FIELD(struct network_spec, mtu, FIELD_INT, .max = 65535, .flag = "mtu", .placeholder = "BYTES",
	      .doc = "Largest packet, 576 to 65535; 0: the driver's own"),
	FIELD(struct network_spec, dns, FIELD_BOOL, .def = "true", .flag = "dns", .doc = "Names are resolved at the gateway"),
	FIELD(struct network_spec, dhcp, FIELD_BOOL, .def = "true", .flag = "dhcp",
	      .doc = "Gives machines their addresses"),
	FIELD(struct network_spec, boot_file, FIELD_STRING, .max = 127, .check = boot_file_check, .flag = "boot-file", .placeholder = "FILE",
	      .doc = "What machines boot from over the network: a file in --boot-dir, or a URL for iPXE"),
	FIELD(struct network_spec, boot_file_uefi, FIELD_STRING, .max = 127, .check = boot_file_check, .flag = "boot-file-uefi",
	      .placeholder = "FILE", .doc = "The same for machines with UEFI; --boot-file if not given"),
	FIELD(struct network_spec, boot_dir, FIELD_STRING, .max = 1024, .check = boot_dir_check, .flag = "boot-dir", .placeholder = "DIR",
	      .doc = "Directory of the host whose files, as far as everybody may read them, are served by TFTP"),
	FIELD(struct network_spec, domain, FIELD_STRING, .flags = FIELD_IMMUTABLE, .max = 253, .check = domain_check,
	      .flag = "domain", .placeholder = "NAME", .doc = "Domain of its names; NAME.wabe if not given"),
	FIELD(struct network_spec, publish_address, FIELD_STRING, .max = 64, .check = ip_check, .flag = "publish-address",
	      .placeholder = "IP", .doc = "The host's, on which ports are published that name none"),
	FIELD(struct network_spec, publish, FIELD_ENUM, .def = "host", .values = NAMES("host", "open"), .flag = "publish-policy",
	      .placeholder = "POLICY", .doc = "Published ports pass the host's own input rules (host) or do not (open)"),
	FIELD(struct network_spec, ingress, FIELD_ENUM, .def = "allow", .values = NAMES("allow", "deny"), .flag = "ingress",
	      .placeholder = "POLICY", .doc = "To its instances, what no rule decides: allow or deny"),
	FIELD(struct network_spec, egress, FIELD_ENUM, .def = "allow", .values = NAMES("allow", "deny"), .flag = "egress",
	      .placeholder = "POLICY", .doc = "From its instances, what no rule decides: allow or deny"),
	FIELD(struct network_spec, rules, FIELD_STRINGS, .max = 64, .check = instance_name_check, .flag = "rules",
	      .placeholder = "GROUP", .doc = "Rule groups for all its instances"),
	FIELD(struct network_spec, annotations, FIELD_PAIRS, .max = 64, .doc = "What dialects keep with it"),
};
TABLE(network_spec_table, "network_spec", struct network_spec, network_spec_fields, "What is wanted of a network",
      network_spec_validate);

static const struct field network_status_fields[] = {
	FIELD(struct network_status, state, FIELD_ENUM, .def = "down", .values = NAMES("up", "down", "failed"),
	      .doc = "Whether it works"),
	FIELD(struct network_status, interface, FIELD_STRING, .max = 15, .doc = "Its interface on the host"),
	FIELD(struct network_status, error, FIELD_STRING, .max = 65536, .doc = "Why it does not work"),
};
TABLE(network_status_table, "network_status", struct network_status, network_status_fields, "What a network is");

#define ID_FIELDS(struct_)                                                                                      \
	FIELD(struct_, id, FIELD_STRING, .flags = FIELD_READONLY | FIELD_REQUIRED, .check = instance_id_check,  \
	      .doc = "64 hexadecimal digits"),                                                                  \
	FIELD(struct_, project, FIELD_STRING, .flags = FIELD_READONLY, .def = "default", .max = 128,            \
	      .check = instance_name_check, .doc = "Whose it is"),                                              \
	FIELD(struct_, created_at, FIELD_TIME, .flags = FIELD_READONLY, .doc = "When it was made")

static const struct field network_fields[] = {
	ID_FIELDS(struct network),
	FIELD(struct network, spec, FIELD_OBJECT, .sub = &network_spec_table, .doc = "What is wanted"),
	FIELD(struct network, status, FIELD_OBJECT, .flags = FIELD_READONLY, .sub = &network_status_table, .doc = "What is"),
};
TABLE(network_table, "network", struct network, network_fields, "A network");

#define RATE(struct_, member_, doc_) \
	FIELD(struct_, member_, FIELD_INT, .def = "0", .max = INT64_C(1000000000000), .doc = doc_)
#define NIC_FIELDS(struct_)                                                                                        \
	FIELD(struct_, ipv4, FIELD_STRING, .max = 64, .check = ip_check, .doc = "Its IPv4 address"),               \
	FIELD(struct_, ipv6, FIELD_STRING, .max = 64, .check = ip_check, .doc = "Its IPv6 address"),               \
	FIELD(struct_, mac, FIELD_STRING, .max = 17, .check = mac_check, .doc = "Its MAC address"),                \
	FIELD(struct_, aliases, FIELD_STRINGS, .max = 64, .check = instance_name_check, .doc = "Further names on this network"), \
	FIELD(struct_, interface, FIELD_STRING, .max = 15, .check = interface_check, .doc = "Its name inside"),   \
	RATE(struct_, ingress_rate, "Bits a second to it; 0: unlimited"),                                         \
	RATE(struct_, egress_rate, "Bits a second from it; 0: unlimited"),                                        \
	FIELD(struct_, allow_spoofing, FIELD_BOOL, .doc = "Any MAC and address may be its source"),               \
	FIELD(struct_, share, FIELD_BOOL, .doc = "Others may want its addresses and MAC, too: who runs has them"), \
	FIELD(struct_, gateway_priority, FIELD_INT, .min = -INT32_MAX, .max = INT32_MAX, .doc = "The default route goes over the highest"), \
	FIELD(struct_, sysctls, FIELD_PAIRS, .max = 64, .check = nic_sysctl_check,                                 \
	      .doc = "Kernel parameters of the interface inside, net.ipv4.conf.IFNAME.log_martians and the like")

static const struct field attachment_fields[] = {
	FIELD(struct attachment, network, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 64, .check = network_name_check,
	      .doc = "Name or id"),
	NIC_FIELDS(struct attachment),
	FIELD(struct attachment, rules, FIELD_STRINGS, .max = 64, .check = instance_name_check, .doc = "Rule groups"),
};
TABLE(attachment_table, "attachment", struct attachment, attachment_fields, "A network that an instance is on",
      attachment_validate);

static const struct field nic_fields[] = {
	FIELD(struct nic, network_id, FIELD_STRING, .flags = FIELD_REQUIRED, .check = instance_id_check, .doc = "Of the network"),
	FIELD(struct nic, network, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 128, .check = network_name_check,
	      .doc = "Its name"),
	NIC_FIELDS(struct nic),
	FIELD(struct nic, rules, FIELD_STRINGS, .max = 64, .check = instance_id_check, .doc = "Ids of rule groups"),
};
TABLE(nic_table, "nic", struct nic, nic_fields, "A network interface of an instance");

#define PROTOCOL(struct_) \
	FIELD(struct_, protocol, FIELD_ENUM, .def = "tcp", .values = NAMES("tcp", "udp", "sctp"), .doc = "tcp, udp or sctp")

static const struct field port_fields[] = {
	FIELD(struct port, address, FIELD_STRING, .max = 64, .check = ip_check, .doc = "Of the host; all if not given"),
	FIELD(struct port, host_port, FIELD_INT, .max = 65535, .doc = "On the host; 0: any that is free"),
	FIELD(struct port, host_last, FIELD_INT, .max = 65535, .doc = "Any free one of host_port to this; 0: host_port itself"),
	FIELD(struct port, port, FIELD_INT, .min = 1, .max = 65535, .def = "1", .doc = "Inside"),
	FIELD(struct port, count, FIELD_INT, .min = 1, .max = 1024, .def = "1", .doc = "So many in a row"),
	PROTOCOL(struct port),
};
TABLE(port_table, "port", struct port, port_fields, "A published port", port_validate);

static const struct field rule_fields[] = {
	FIELD(struct rule, direction, FIELD_ENUM, .def = "ingress", .values = NAMES("ingress", "egress"),
	      .doc = "To the instance, or from it"),
	FIELD(struct rule, action, FIELD_ENUM, .def = "allow", .values = NAMES("allow", "deny", "reject"),
	      .doc = "deny: without an answer; reject: with one"),
	FIELD(struct rule, protocol, FIELD_STRING, .def = "any", .max = 8, .check = protocol_check,
	      .doc = "any, tcp, udp, sctp, icmp or a number"),
	FIELD(struct rule, ports, FIELD_STRING, .max = 256, .check = port_list_check,
	      .doc = "Of the destination: 80, 8000-8010, or several with commas"),
	FIELD(struct rule, source, FIELD_STRING, .max = 512, .check = peer_check,
	      .doc = "ingress: an address, CIDR, label:KEY=VALUE, group:NAME or network:NAME"),
	FIELD(struct rule, destination, FIELD_STRING, .max = 512, .check = peer_check, .doc = "egress: the same"),
	FIELD(struct rule, description, FIELD_STRING, .max = 256, .check = text_check, .doc = "What it is for"),
};
TABLE(rule_table, "rule", struct rule, rule_fields, "What a group lets through, or not", rule_validate);

static const struct field rule_group_spec_fields[] = {
	FIELD(struct rule_group_spec, name, FIELD_STRING, .flags = FIELD_REQUIRED | FIELD_IMMUTABLE, .max = 128,
	      .check = instance_name_check, .doc = "Its name"),
	FIELD(struct rule_group_spec, description, FIELD_STRING, .check = text_check, .flag = "description",
	      .placeholder = "TEXT", .doc = "What it is for"),
	FIELD(struct rule_group_spec, labels, FIELD_PAIRS, .flag = "label,l", .placeholder = "KEY=VALUE", .doc = "Labels"),
	FIELD(struct rule_group_spec, rules, FIELD_LIST, .max = 256, .sub = &rule_table, .doc = "Looked at in order"),
};
TABLE(rule_group_spec_table, "rule_group_spec", struct rule_group_spec, rule_group_spec_fields, "What a group of rules says");

static const struct field rule_group_fields[] = {
	ID_FIELDS(struct rule_group),
	FIELD(struct rule_group, spec, FIELD_OBJECT, .sub = &rule_group_spec_table, .doc = "What it says"),
};
TABLE(rule_group_table, "rule_group", struct rule_group, rule_group_fields, "Rules for instances and networks");

static const struct field balancer_spec_fields[] = {
	FIELD(struct balancer_spec, name, FIELD_STRING, .flags = FIELD_IMMUTABLE, .max = 128, .check = instance_name_check,
	      .flag = "name", .placeholder = "NAME", .doc = "Its name; made of target and port if not given"),
	FIELD(struct balancer_spec, description, FIELD_STRING, .check = text_check, .flag = "description",
	      .placeholder = "TEXT", .doc = "What it is for"),
	FIELD(struct balancer_spec, labels, FIELD_PAIRS, .flag = "label,l", .placeholder = "KEY=VALUE", .doc = "Labels"),
	FIELD(struct balancer_spec, target, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 512, .check = target_check,
	      .flag = "to", .placeholder = "TARGET", .parse = parse_target, .doc = "label:KEY=VALUE or instance:NAME"),
	FIELD(struct balancer_spec, inside, FIELD_BOOL, .flags = FIELD_IMMUTABLE, .flag = "inside",
	      .doc = "An address of the network, with all ports, instead of a port of the host"),
	FIELD(struct balancer_spec, names, FIELD_STRINGS, .max = 64, .check = instance_name_check, .flag = "alias",
	      .placeholder = "NAME", .doc = "What an address inside is known by on its network"),
	FIELD(struct balancer_spec, network, FIELD_STRING, .max = 64, .check = network_name_check, .flag = "network",
	      .placeholder = "NAME", .doc = "Of the targets' addresses; the first of each if not given"),
	FIELD(struct balancer_spec, address, FIELD_STRING, .flags = FIELD_IMMUTABLE, .max = 64, .check = ip_check,
	      .flag = "address", .placeholder = "IP", .doc = "Of the host; all if not given. Inside: of the network; picked if not given"),
	FIELD(struct balancer_spec, host_port, FIELD_INT, .flags = FIELD_IMMUTABLE, .max = 65535, .flag = "host-port",
	      .placeholder = "PORT", .doc = "On the host; the same as inside if not given"),
	FIELD(struct balancer_spec, port, FIELD_INT, .min = 1, .max = 65535, .def = "80", .flag = "port",
	      .placeholder = "PORT", .doc = "Inside the targets"),
	FIELD(struct balancer_spec, protocol, FIELD_ENUM, .flags = FIELD_IMMUTABLE, .def = "tcp",
	      .values = NAMES("tcp", "udp", "sctp"), .flag = "protocol", .placeholder = "NAME", .doc = "tcp, udp or sctp"),
	FIELD(struct balancer_spec, affinity, FIELD_ENUM, .def = "none", .values = NAMES("none", "source"),
	      .flag = "affinity", .placeholder = "HOW", .doc = "none, or source: a client's address always meets the same"),
};
TABLE(balancer_spec_table, "balancer_spec", struct balancer_spec, balancer_spec_fields, "What is wanted of a balancer",
      balancer_spec_validate);

static const struct field balancer_fields[] = {
	ID_FIELDS(struct balancer),
	FIELD(struct balancer, network_id, FIELD_STRING, .flags = FIELD_READONLY, .check = instance_id_check,
	      .doc = "Of the network that it is inside of"),
	FIELD(struct balancer, spec, FIELD_OBJECT, .sub = &balancer_spec_table, .doc = "What is wanted"),
	FIELD(struct balancer, backends, FIELD_STRINGS, .flags = FIELD_READONLY, .max = 4096, .check = ip_check,
	      .doc = "Addresses that get connections now"),
};
TABLE(balancer_table, "balancer", struct balancer, balancer_fields, "Connections spread over instances");

static const struct field address_fields[] = {
	FIELD(struct address, network, FIELD_STRING, .flags = FIELD_REQUIRED, .max = 64, .check = network_name_check,
	      .doc = "Name of the network"),
	FIELD(struct address, address, FIELD_STRING, .max = 64, .check = ip_check, .doc = "Picked if not given"),
	FIELD(struct address, mac, FIELD_STRING, .flags = FIELD_READONLY, .max = 17, .doc = "Of the interface that has it"),
	FIELD(struct address, instance, FIELD_STRING, .flags = FIELD_READONLY, .max = 128, .doc = "Who has it; none: reserved"),
	FIELD(struct address, description, FIELD_STRING, .check = text_check, .flag = "description", .placeholder = "TEXT",
	      .doc = "What it is reserved for"),
};
TABLE(address_table, "address", struct address, address_fields, "An address that is taken");
