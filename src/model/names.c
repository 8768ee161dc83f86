/* Names made up for instances that were given none. */
#include "model/instance.h"

#include <stdlib.h>
#include <sys/random.h>

static const char *const first[] = {
	"amber",  "azure",  "brave",  "bright", "brisk",  "calm",   "candid", "clear",  "clever", "copper", "coral",
	"crisp",  "curious", "dapper", "deft",  "dusky",  "eager",  "early",  "fair",   "fleet",  "fond",   "frosty",
	"gentle", "glad",   "golden", "grand",  "green",  "hale",   "hardy",  "honest", "humble", "ivory",  "jolly",
	"keen",   "kind",   "late",   "lively", "loyal",  "lucid",  "lunar",  "mellow", "merry",  "mild",   "misty",
	"modest", "neat",   "nimble", "noble",  "patient", "plain", "polar",  "proud",  "quick",  "quiet",  "rapid",
	"ready",  "rosy",   "royal",  "russet", "serene", "sharp",  "silent", "silver", "smooth", "snowy",  "solar",
	"solid",  "spry",   "steady", "still",  "sunny",  "swift",  "tender", "tidy",   "tranquil", "trim", "true",
	"vivid",  "warm",   "wild",   "windy",  "wise",   "witty",  "young",  "zesty",
};
static const char *const second[] = {
	"alder",  "aspen",  "badger", "bee",    "beech",  "birch",  "bison",  "brook",  "cedar",  "clover", "comet",
	"cove",   "crane",  "cricket", "deer",  "dove",   "dune",   "eagle",  "elm",    "falcon", "fern",   "finch",
	"fjord",  "fox",    "frog",   "gale",   "glade",  "goose",  "grove",  "gull",   "hare",   "hazel",  "heron",
	"hill",   "hive",   "ibex",   "ibis",   "island", "jay",    "kestrel", "lake",  "lark",   "larch",  "lily",
	"linden", "lynx",   "maple",  "marten", "meadow", "meteor", "mole",   "moon",   "moss",   "moth",   "newt",
	"oak",    "orchid", "osprey", "otter",  "owl",    "peak",   "pebble", "pine",   "plover", "poppy",  "puffin",
	"quail",  "raven",  "reef",   "ridge",  "river",  "robin",  "rowan",  "sage",   "seal",   "shore",  "spruce",
	"star",   "stork",  "swan",   "thistle", "thrush", "tide",  "trout",  "valley", "vole",   "willow", "wren",
};

char *instance_name_random(void) {
	uint32_t r[2];
	if (getrandom(r, sizeof r, 0) != sizeof r)
		abort(); /* up to 256 bytes always come */
	return str_format("%s_%s", first[r[0] % ARRAY_SIZE(first)], second[r[1] % ARRAY_SIZE(second)]);
}
