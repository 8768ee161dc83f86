/* Balancers: a port of the host leads to a chain with one rule, which picks a target: any, or always the same for one
 * source. For the latter there are BUCKETS of sources, and each bucket goes to the target whose hash together with
 * the bucket is the greatest: when a target goes, only its own sources move, and a new one takes its share from all. */
#include "driver/network/firewall-priv.h"

#include "base/str.h"

#define BUCKETS 1024u
#define SEED 0x77616265u /* the same after every load: the kernel would pick another each time */

int64_t balancer_port(const struct balancer *b) {
	return b->spec.host_port ? b->spec.host_port : b->spec.port;
}

/* The backends of one family. */
static char **targets_of(const struct balancer *b, int af) {
	char **v = NULL, address[46];
	for (char *const *p = b->backends; p && *p; p++)
		if (ip_of(*p, af, address))
			strv_add(&v, address);
	return v;
}

/* The policy of the network that the first target's address is in. */
static bool is_open(const struct firewall_state *s, const struct balancer *b) {
	struct ip ip;
	struct cidr subnet;
	if (!b->backends || !b->backends[0] || ip_parse(b->backends[0], &ip) < 0)
		return false;
	for (size_t i = 0; i < s->n_networks; i++)
		for (size_t k = 0; k < s->networks[i]->spec.subnets.n; k++)
			if (cidr_parse(s->networks[i]->spec.subnets.items[k].cidr, &subnet) == 0 && cidr_contains(&subnet, &ip))
				return network_publishes_open(s->networks[i]);
	return false;
}

bool balancer_needs_detour(const struct firewall_state *s, const struct balancer *b) {
	return !b->spec.inside && b->backends && b->backends[0] && !is_open(s, b);
}

static uint64_t weight(uint64_t bucket, const char *target) {
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ bucket;
	for (; *target; target++)
		h = (h ^ (uint8_t)*target) * UINT64_C(0x100000001b3);
	h = (h ^ h >> 33) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ h >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}

static const char *target_of(uint64_t bucket, char *const *targets) {
	const char *best = targets[0];
	for (char *const *p = targets; *p; p++)
		if (weight(bucket, *p) > weight(bucket, best))
			best = *p;
	return best;
}

static void add_rule(struct script *c, const struct family *f, const struct balancer *b, char *const *targets) {
	bool source = str_same(b->spec.affinity, "source");
	size_t n = !targets ? 0 : source ? BUCKETS : strv_len(targets);
	buf_addf(c->out, "add rule %s wabe_%s balance_%s ", f->name, c->s->tag, b->id);
	if (!n) /* nobody has it: nor has the host */
		return buf_adds(c->out, "drop\n");
	if (!b->spec.inside)
		buf_addf(c->out, "meta l4proto %s ", b->spec.protocol);
	buf_adds(c->out, "dnat to ");
	if (source)
		buf_addf(c->out, "jhash %s saddr mod %zu seed 0x%x map {", f->name, n, SEED);
	else
		buf_addf(c->out, "numgen random mod %zu map {", n);
	for (size_t i = 0; i < n; i++) {
		buf_addf(c->out, "%s %zu : %s", i ? "," : "", i, source ? target_of(i, targets) : targets[i]);
		if (!b->spec.inside)
			buf_addf(c->out, " . %lld", (long long)b->spec.port);
	}
	buf_adds(c->out, " }\n");
}

/* The way to the chain. */
static void add_elements(struct script *c, const struct family *f, const struct balancer *b, const char *address, bool open) {
	long long port = balancer_port(b);
	if (b->spec.inside)
		return script_element(c, f->name, "inside", "%s : goto balance_%s", address, b->id);
	if (address)
		script_element(c, f->name, "balance", "%s . %s . %lld : goto balance_%s", address, b->spec.protocol, port, b->id);
	else
		script_element(c, f->name, "balance_any", "%s . %lld : goto balance_%s", b->spec.protocol, port, b->id);
	publish_policy(c, f, address, b->spec.protocol, port, open);
}

static void remove_family(struct script *c, const struct family *f, const struct balancer *b, const char *address) {
	bool removing = c->removing;
	script_line(c, "add chain", f->name, "balance_%s", b->id);
	c->removing = true;
	add_elements(c, f, b, address, false);
	c->removing = removing;
	script_line(c, "flush chain", f->name, "balance_%s", b->id);
	script_line(c, "delete chain", f->name, "balance_%s", b->id);
}

void balancer_script(struct script *c, const struct balancer *b) {
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct family *f = &families[i];
		char buffer[46];
		const char *address = ip_of(b->spec.address, f->af, buffer);
		_cleanup_(strv_free_ptr) char **targets = targets_of(b, f->af);
		_cleanup_(free_ptr) char *chain = str_format("balance_%s", b->id);
		if (b->spec.address && !address)
			continue;
		if (c->removing || (!targets && !b->spec.inside)) {
			if (!c->seen) /* a whole table has nothing to take away */
				remove_family(c, f, b, address);
			continue;
		}
		script_chain(c, f->name, chain);
		add_rule(c, f, b, targets);
		add_elements(c, f, b, address, is_open(c->s, b));
	}
}
