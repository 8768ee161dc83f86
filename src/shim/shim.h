/* wabe-shim: the parent of one process of a container. How it is started:
 *
 *   wabe-shim --id ID --pid PID --dir DIR [--log PATH|none] [--log-max-size BYTES] [--log-max-files N]
 *             [--stdin-once] [--tty] [--wait-attach] [--exec] [--held N]
 *
 * by exec from the process whose child PID is, with these descriptors (one that is not open is not there):
 *   3  a listening unix socket, bound at DIR/socket; it speaks shim/protocol.h
 *   4  the write end of the process's standard input if clients may write to it, or with --tty the terminal's master
 *   5  the read end of its standard output      (not with --tty)
 *   6  the read end of its standard error       (not with --tty)
 *   7  readiness: gets one byte and is closed when the shim serves; closed without one when it cannot, with
 *      the reason on standard error
 *   8  and so on: N sockets that are held open until the shim ends, and not used (reserved ports)
 * All others are closed, 0 to 2 become /dev/null.
 *
 * --log          none is the default. Lines of the CRI form "2026-11-22T23:09:46.123456789Z stdout F text";
 *                P instead of F: the line goes on in the next entry of the same stream. Output is never held
 *                back for the end of its line. Entries have at most 16 KiB of text.
 * --log-max-size when the log would pass this many bytes, PATH becomes PATH.1, PATH.1 becomes PATH.2 …;
 *                0, the default: never
 * --log-max-files how many files there are at most with PATH itself, default 5. 1: PATH starts anew
 * --stdin-once   an empty SHIM_STDIN frame closes the process's standard input. Without it, and on a terminal,
 *                the frame has no effect; a client that goes away never closes anything
 * --wait-attach  output is not read before a client has attached for it, but after ten seconds at the latest:
 *                the first client misses nothing
 * --exec         the process is a further one of a container; shows in the name: wabe-exec
 *
 * When the process has ended, DIR/exit appears at once, complete ("137 9 1763852986123456789\n": status, or
 * 128 + signal; signal or 0; time in ns since the epoch). Then the rest of the output is read: until its end,
 * or, if other processes hold it open, until 100 ms pass without any (two seconds at most). Then all clients
 * get SHIM_EXIT, and the shim exits with status 0: the log is complete when it has ended. */
#pragma once

#define SHIM_FD_LISTEN 3
#define SHIM_FD_STDIN 4
#define SHIM_FD_STDOUT 5
#define SHIM_FD_STDERR 6
#define SHIM_FD_READY 7
