/* The client's own terminal. */
#include "cli/cli.h"

#include <stdio.h>
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

char *terminal_secret(const char *prompt, struct error *err) {
	struct termios before, quiet;
	char *line = NULL;
	size_t size = 0;
	bool hidden = tcgetattr(STDIN_FILENO, &before) == 0;
	if (hidden) {
		quiet = before;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
		fputs(prompt, stderr);
	}
	ssize_t n = getline(&line, &size, stdin);
	if (hidden) {
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
		fputc('\n', stderr);
	}
	while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		line[--n] = '\0';
	if (n > 0)
		return line;
	free(line);
	error_set(err, ERROR_INVALID, "there is nothing on standard input");
	return NULL;
}
