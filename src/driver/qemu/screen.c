/* Pictures come through a file in memory that QEMU only writes; keys go by their names in QEMU (qapi/ui.json, QKeyCode), text as
 * somebody at an American keyboard would type it. */
#include "driver/qemu/screen.h"

#include "base/fs.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define LENT "screen"   /* word of the picture's descriptor */
#define HOLD_MS 10      /* after each key that goes down or up: one that comes at once may be lost to the guest */
#define CHORD_MAX 8     /* keys held together */
#define AXIS_MAX 32767  /* QEMU's absolute axes */
#define PNG_HEAD 24     /* signature, and the first chunk up to its width and height */

/* --- the picture --- */

/* QEMU takes a descriptor of a set by the way in which it is open: it is to write alone. */
static int lend_file(struct qmp *q, int file, int64_t deadline, char **name, struct error *err) {
	char path[FD_PATH_MAX];
	_cleanup_(close_fd) int writer = open(fd_path(file, path), O_WRONLY | O_CLOEXEC);
	if (writer < 0)
		return error_errno(err, errno, "cannot open a file in memory");
	return qmp_lend(q, LENT, writer, deadline, name, err);
}

/* Width and height of a PNG; false: it is none. */
static bool png_size(const struct buf *png, uint32_t *width, uint32_t *height) {
	static const char head[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
	if (png->len < PNG_HEAD || memcmp(png->data, head, 16) != 0)
		return false;
	memcpy(width, png->data + 16, 4);
	memcpy(height, png->data + 20, 4);
	*width = ntohl(*width);
	*height = ntohl(*height);
	return *width && *height;
}

static int take_picture(int file, struct buf *png, struct error *err) {
	uint32_t width, height;
	if (lseek(file, 0, SEEK_SET) < 0)
		return error_errno(err, errno, "cannot read the picture");
	int r = fs_read_fd(file, SCREEN_MAX, png);
	if (r < 0)
		return error_errno(err, r, "cannot read the picture");
	return png_size(png, &width, &height) ? 0 : error_set(err, ERROR_CORRUPT, "what QEMU gives is no picture");
}

int screen_shot(struct qmp *q, int64_t deadline, struct buf *png, struct error *err) {
	_cleanup_(close_fd) int file = memfd_create("screen", MFD_CLOEXEC);
	_cleanup_(free_ptr) char *name = NULL;
	if (file < 0)
		return error_errno(err, errno, "cannot make a file in memory");
	int r = lend_file(q, file, deadline, &name, err);
	if (r < 0)
		return r;
	r = qmp_call(q, "screendump", json_pack("{s:s,s:s}", "filename", name, "format", "png"), -1, deadline, NULL, err);
	qmp_take_back(q, LENT, deadline);
	return r < 0 ? r : take_picture(file, png, err);
}

/* --- keys --- */

static const char *const keys[] = {
	"shift", "shift_r", "alt", "alt_r", "ctrl", "ctrl_r", "menu", "esc", "1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "minus",
	"equal", "backspace", "tab", "q", "w", "e", "r", "t", "y", "u", "i", "o", "p", "bracket_left", "bracket_right", "ret", "a",
	"s", "d", "f", "g", "h", "j", "k", "l", "semicolon", "apostrophe", "grave_accent", "backslash", "z", "x", "c", "v", "b", "n",
	"m", "comma", "dot", "slash", "asterisk", "spc", "caps_lock", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10",
	"f11", "f12", "num_lock", "scroll_lock", "kp_divide", "kp_multiply", "kp_subtract", "kp_add", "kp_enter", "kp_decimal",
	"kp_0", "kp_1", "kp_2", "kp_3", "kp_4", "kp_5", "kp_6", "kp_7", "kp_8", "kp_9", "kp_comma", "kp_equals", "sysrq", "less",
	"print", "home", "pgup", "pgdn", "end", "left", "up", "down", "right", "insert", "delete", "help", "meta_l", "meta_r",
	"compose", "pause", "power", "sleep", "wake", "audiomute", "volumeup", "volumedown", NULL,
};
/* What else people call them. */
static const char *const other_names[][2] = {
	{"control", "ctrl"}, {"del", "delete"}, {"enter", "ret"}, {"return", "ret"}, {"escape", "esc"}, {"space", "spc"},
	{"super", "meta_l"}, {"win", "meta_l"}, {"meta", "meta_l"}, {"pageup", "pgup"}, {"pagedown", "pgdn"}, {"ins", "insert"},
	{"altgr", "alt_r"}, {"period", "dot"}, {"bksp", "backspace"},
};

/* Its name in QEMU, or NULL. */
static const char *key_find(const char *name) {
	for (size_t i = 0; i < ARRAY_SIZE(other_names); i++)
		if (strcasecmp(name, other_names[i][0]) == 0)
			return other_names[i][1];
	for (size_t i = 0; keys[i]; i++)
		if (strcasecmp(name, keys[i]) == 0)
			return keys[i];
	return NULL;
}

/* "ctrl-alt-delete" as what send-key takes; NULL: it is none. */
static json_t *chord_parse(const char *text, struct error *err) {
	_cleanup_(strv_free_ptr) char **names = strv_split(text, '-');
	_cleanup_(json_free_ptr) json_t *all = json_array();
	if (strv_len(names) > CHORD_MAX) {
		error_field(err, "keys", "\"%s\" are more than %d keys at once", text, CHORD_MAX);
		return NULL;
	}
	for (char **n = names; *n; n++) {
		const char *key = key_find(*n);
		if (!key) {
			error_field(err, "keys", "\"%s\" is no key: they are named as in ctrl-alt-delete, f2, ret, pgup, a, minus", *n);
			return NULL;
		}
		json_array_append_new(all, json_pack("{s:s,s:s}", "type", "qcode", "data", key));
	}
	return TAKE_PTR(all);
}

/* The character's own key, and whether shift is held; NULL: it has none. */
static const char *key_of(char c, bool *shift) {
	static const char plain[] = "1234567890-=[];'`\\,./ \n\t", shifted[] = "!@#$%^&*()_+{}:\"~|<>?";
	static const char *const names[] = {
		"1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "minus", "equal", "bracket_left", "bracket_right", "semicolon",
		"apostrophe", "grave_accent", "backslash", "comma", "dot", "slash", "spc", "ret", "tab",
	};
	static const char letters[][2] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m",
					  "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x", "y", "z"};
	const char *at = c ? strchr(plain, c) : NULL, *above = c ? strchr(shifted, c) : NULL;
	*shift = above || (c >= 'A' && c <= 'Z');
	if (c >= 'a' && c <= 'z')
		return letters[c - 'a'];
	if (c >= 'A' && c <= 'Z')
		return letters[c - 'A'];
	return at ? names[at - plain] : above ? names[above - shifted] : NULL;
}

int screen_input_check(const struct machine_input *in, struct error *err) {
	for (char **k = in->keys; k && *k; k++) {
		json_t *chord = chord_parse(*k, err);
		if (!chord)
			return -ERROR_INVALID;
		json_decref(chord);
	}
	for (const char *p = in->text; p && *p; p++) {
		bool shift;
		if (!key_of(*p, &shift))
			return error_field(err, "text", "byte %zu is on no key of an American keyboard", (size_t)(p - in->text) + 1);
	}
	return 0;
}

/* QEMU presses and lets go in its own time and says nothing when it is done; its queue is short. The list is consumed. */
static int press(struct qmp *q, json_t *chord, int64_t deadline, struct error *err) {
	int64_t ms = 2 * HOLD_MS * (int64_t)json_array_size(chord);
	struct timespec rest = {.tv_nsec = ms * 1000000};
	int r = qmp_call(q, "send-key", json_pack("{s:o,s:i}", "keys", chord, "hold-time", HOLD_MS), -1, deadline, NULL, err);
	while (r == 0 && nanosleep(&rest, &rest) < 0 && errno == EINTR)
		;
	return r;
}

static int type(struct qmp *q, char c, int64_t deadline, struct error *err) {
	bool shift;
	const char *key = key_of(c, &shift);
	json_t *chord = json_array();
	if (shift)
		json_array_append_new(chord, json_pack("{s:s,s:s}", "type", "qcode", "data", "shift"));
	json_array_append_new(chord, json_pack("{s:s,s:s}", "type", "qcode", "data", key));
	return press(q, chord, deadline, err);
}

/* --- the pointer --- */

static int send_events(struct qmp *q, json_t *events, int64_t deadline, struct error *err) {
	return qmp_call(q, "input-send-event", json_pack("{s:o}", "events", events), -1, deadline, NULL, err);
}

static json_t *axis(const char *type, const char *name, int64_t value) {
	return json_pack("{s:s,s:{s:s,s:I}}", "type", type, "data", "axis", name, "value", (json_int_t)value);
}

/* Pixels are those of the screen as it is now. */
static int move_to(struct qmp *q, int64_t x, int64_t y, int64_t deadline, struct error *err) {
	_cleanup_(buf_free) struct buf png = BUF_INIT_MAX(SCREEN_MAX);
	uint32_t width, height;
	int r = screen_shot(q, deadline, &png, err);
	if (r < 0)
		return r;
	if (!png_size(&png, &width, &height) || x < 0 || y < 0 || x >= width || y >= height)
		return error_field(err, "x", "%lld,%lld is not on the screen, which has %u by %u points", (long long)x, (long long)y, width,
				   height);
	json_t *events = json_array();
	json_array_append_new(events, axis("abs", "x", x * AXIS_MAX / MAX(width - 1, 1)));
	json_array_append_new(events, axis("abs", "y", y * AXIS_MAX / MAX(height - 1, 1)));
	return send_events(q, events, deadline, err);
}

static int move_by(struct qmp *q, int64_t x, int64_t y, int64_t deadline, struct error *err) {
	json_t *events = json_array();
	json_array_append_new(events, axis("rel", "x", x));
	json_array_append_new(events, axis("rel", "y", y));
	return send_events(q, events, deadline, err);
}

static int click(struct qmp *q, const char *button, int64_t deadline, struct error *err) {
	const struct timespec rest = {.tv_nsec = HOLD_MS * 1000000};
	int r = 0;
	for (int down = 1; r == 0 && down >= 0; down--) {
		r = send_events(q, json_pack("[{s:s,s:{s:b,s:s}}]", "type", "btn", "data", "down", down, "button", button), deadline, err);
		nanosleep(&rest, NULL);
	}
	return r;
}

int screen_input(struct qmp *q, const struct machine_input *in, int64_t deadline, struct error *err) {
	int r = screen_input_check(in, err);
	for (char **k = in->keys; r == 0 && k && *k; k++)
		r = press(q, chord_parse(*k, NULL), deadline, err);
	for (const char *p = in->text; r == 0 && p && *p; p++)
		r = type(q, *p, deadline, err);
	if (r == 0 && in->move)
		r = str_same(in->move, "to") ? move_to(q, in->x, in->y, deadline, err) : move_by(q, in->x, in->y, deadline, err);
	for (int64_t i = 0; r == 0 && in->click && i < in->times; i++)
		r = click(q, in->click, deadline, err);
	return r;
}
