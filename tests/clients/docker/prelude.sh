# What the scripts beside this have: sourced by sh before each. Every command of theirs is a section of the output:
# the command, what it wrote to standard output, what it wrote to standard error (after "! "), and its status if that is not 0.
#   t COMMAND …         a section
#   ts 'SHELL COMMANDS' a section, for pipes and input
#   q COMMAND …         prepares: shown only when it fails
#   await 'COMMANDS'    until they succeed; for states that nothing announces
#   api METHOD PATH [BODY]   a section: status and JSON, with sorted members
#   host COMMAND …      in the network name space of the engine
section() {
	cat "$TMP/out"
	[ -z "$(tail -c 1 "$TMP/out")" ] || echo
	sed 's/^/! /' "$TMP/err"
	[ "$1" = 0 ] || echo "[$1]"
}
t() {
	printf '$ %s\n' "$*"
	"$@" >"$TMP/out" 2>"$TMP/err" </dev/null
	section $?
}
ts() {
	printf '$ %s\n' "$1"
	(eval "$1") >"$TMP/out" 2>"$TMP/err" </dev/null
	section $?
}
q() {
	"$@" >"$TMP/out" 2>&1 </dev/null && return
	printf '$ (failed) %s\n' "$*"
	cat "$TMP/out"
	[ -z "$(tail -c 1 "$TMP/out")" ] || echo
}
await() {
	tries=0
	until (eval "$1") >/dev/null 2>&1 </dev/null; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || { printf '$ (never) %s\n' "$1"; return 1; }
		sleep 0.1
	done
}
api() {
	printf '$ api %s\n' "$*"
	"$HERE/api" "$@" 2>&1
}
host() {
	nsenter --net="$NETSPACE" "$@"
}
