/* Dockerfiles, their words, .dockerignore files: any bytes are taken or refused, and what was taken is whole. */
#include "base/str.h"
#include "build/dockerfile.h"
#include "build/ignore.h"
#include "build/words.h"

static char *const env[] = {(char *)"a=1", (char *)"PATH=/bin:/x y", (char *)"empty=", NULL};

static void check_word(const char *word, char escape) {
	char *out = NULL, **words = NULL;
	if (word && word_expand(word, escape, env, &out, NULL) == 0)
		free(out);
	if (word && word_expand_split(word, escape, env, &words, NULL) == 0)
		strv_free(words);
}

static void check_instruction(const struct instruction *i, char escape) {
	if (!i->text || !*i->text)
		abort();
	for (char **a = i->args; a && *a; a++) {
		check_word(*a, escape);
		path_match(*a, "a/b.c", true);
	}
	for (size_t k = 0; k < i->pairs.n; k++) {
		check_word(i->pairs.items[k].key, escape);
		check_word(i->pairs.items[k].value, escape);
	}
	for (size_t k = 0; k < i->n_heredocs; k++) {
		char *text = NULL;
		text_expand(i->heredocs[k].content, escape, env, &text, NULL);
		free(text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct dockerfile d;
	struct ignore ig;
	if (dockerfile_parse((const char *)data, size, &d, NULL) == 0) {
		if (!d.n_stages)
			abort();
		for (size_t i = 0; i < d.n_stages; i++)
			for (size_t k = 0; k < d.stages[i].n; k++)
				check_instruction(&d.stages[i].items[k], d.escape);
		dockerfile_free(&d);
	}
	ignore_parse((const char *)data, size, &ig);
	ignore_fits(&ig, "a/b.c");
	ignore_free(&ig);
	return 0;
}
