/* One transaction of nft's commands through libnftables, which for these commands reads the tables, chains and sets
 * that there are, but no rule and no element. */
#include "driver/network/firewall-priv.h"

#include "base/log.h"
#include "base/str.h"

#include <nftables/libnftables.h>
#include <stdio.h>

/* nft's first line of an error, which says what; the others show the command. */
static void take_error(struct nft_ctx *nft, struct error *err) {
	struct str all = str_view(nft_ctx_get_error_buffer(nft)), line = str_cut(&all, '\n');
	const char *at = line.len ? memmem(line.p, line.len, "Error: ", 7) : NULL;
	if (at)
		line = (struct str){at + 7, line.len - (size_t)(at + 7 - line.p)};
	log_debug("nft: %.*s\n%.*s", (int)line.len, line.p, (int)all.len, all.p);
	struct str command = str_cut(&all, '\n');
	error_set(err, ERROR_INTERNAL, "nftables: %.*s (%.*s)", (int)line.len, line.p, (int)MIN(command.len, 200u), command.p);
}

int nft_run(const struct buf *script, struct error *err) {
	if (buf_overflowed(script))
		return error_set(err, ERROR_TOO_LARGE, "the rules for nftables are larger than %zu bytes", script->max);
	if (!script->len)
		return 0;
	int r = 0;
	if (nft_run_elements(script, &r, err))
		return r;
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!nft)
		return error_set(err, ERROR_UNAVAILABLE, "cannot speak to nftables");
	nft_ctx_buffer_output(nft);
	nft_ctx_buffer_error(nft);
	if (nft_run_cmd_from_buffer(nft, buf_str(script)) != 0) {
		take_error(nft, err);
		r = -ERROR_INTERNAL;
	}
	nft_ctx_free(nft);
	return r;
}
