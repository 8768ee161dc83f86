/* Manifests of OVAs: a line for each file, "SHA256(name)= hexadecimal". */
#include "image/ova.h"

#include "base/str.h"

#include <strings.h>

static const char *const kinds[] = {"SHA1", "SHA256", "SHA512"};

/* Splits "KIND(name)= sum" in place. */
static bool split(char *line, char **kind, char **name, char **sum) {
	char *open = strchr(line, '('), *close = strrchr(line, ')');
	if (!open || !close || close < open)
		return false;
	*kind = line;
	*name = open + 1;
	*close = *open = '\0';
	for (char *end = open; end > line && end[-1] == ' '; end--)
		end[-1] = '\0';
	*sum = close + 1 + strspn(close + 1, " ");
	if (**sum != '=')
		return false;
	*sum += 1 + strspn(*sum + 1, " \t");
	(*sum)[strcspn(*sum, " \t")] = '\0';
	return true;
}

static int check_line(char *line, const struct ova_file *files, size_t n, bool *seen, struct error *err) {
	_cleanup_(free_ptr) char *whole = text_shown(line);
	char *kind, *name, *sum;
	size_t k = 0, i = 0;
	if (!split(line, &kind, &name, &sum))
		return error_set(err, ERROR_CORRUPT, "the OVA's manifest has a line that is none: %s", whole);
	while (k < ARRAY_SIZE(kinds) && strcasecmp(kinds[k], kind) != 0)
		k++;
	if (k == ARRAY_SIZE(kinds))
		return error_set(err, ERROR_UNSUPPORTED, "the OVA's manifest has digests that are not known here (SHA1, SHA256, SHA512 are): %s", whole);
	while (i < n && !str_same(files[i].name, name))
		i++;
	_cleanup_(free_ptr) char *shown = text_shown(name);
	if (i == n)
		return error_set(err, ERROR_CORRUPT, "the OVA's manifest names the file %s, which is not in it", shown);
	if (strcasecmp(files[i].sums[k], sum) != 0)
		return error_set(err, ERROR_CORRUPT, "the OVA's file %s is not the one of its manifest: its %s is %s", shown, kinds[k], files[i].sums[k]);
	seen[i] = true;
	return 0;
}

/* The manifest and what is signed with it stand in no manifest. */
static bool is_listed(const char *name) {
	size_t n = strlen(name);
	return !(n > 3 && strcasecmp(name + n - 3, ".mf") == 0) && !(n > 5 && strcasecmp(name + n - 5, ".cert") == 0);
}

int ova_manifest_check(const char *text, const struct ova_file *files, size_t n, struct error *err) {
	_cleanup_(free_ptr) bool *seen = alloc_array(n + 1, sizeof *seen);
	_cleanup_(free_ptr) char *copy = str_copy(text);
	char *rest = copy;
	int r = 0;
	for (char *line; r == 0 && (line = strsep(&rest, "\r\n"));)
		if (line[strspn(line, " \t")])
			r = check_line(line, files, n, seen, err);
	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_(free_ptr) char *shown = text_shown(files[i].name);
		if (!seen[i] && is_listed(files[i].name))
			r = error_set(err, ERROR_CORRUPT, "the OVA's manifest has no digest of its file %s", shown);
	}
	return r;
}
