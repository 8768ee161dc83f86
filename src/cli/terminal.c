/* The client's own terminal. */
#include "cli/cli.h"

#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static struct termios saved;
static bool is_raw;

bool terminal_size(int *rows, int *columns) {
	struct winsize w;
	for (int fd = 0; fd < 3; fd++)
		if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col) {
			*rows = w.ws_row;
			*columns = w.ws_col;
			return true;
		}
	return false;
}

void terminal_raw(void) {
	if (is_raw || tcgetattr(STDIN_FILENO, &saved) < 0)
		return;
	struct termios raw = saved;
	cfmakeraw(&raw);
	is_raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

void terminal_restore(void) {
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	is_raw = false;
}
