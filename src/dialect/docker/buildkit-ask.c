/* What the client of a session is asked for: secrets, credentials, agents of ssh. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/buildkit.pb-c.h"

#define SECRET_MAX ((size_t)500 << 10)

static int broken(const char *what, struct error *err) {
	return error_set(err, ERROR_CORRUPT, "the client's answer about %s is no such message", what);
}

int bk_ask_secret(struct grpc_connection *c, const char *id, struct buf *out, struct error *err) {
	Bk__SecretRequest q = BK__SECRET_REQUEST__INIT;
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	q.id = (char *)id;
	bk_pack(&q.base, &message);
	int r = grpc_ask(c, "/moby.buildkit.secrets.v1.Secrets/GetSecret", &message, &message, err);
	if (r == -ERROR_NOT_FOUND || r == -ERROR_UNSUPPORTED) /* the latter: it has been given none at all */
		return error_set(err, ERROR_NOT_FOUND, "secret %s: not found", id);
	if (r < 0)
		return r;
	Bk__Bytes *answer = bk__bytes__unpack(NULL, message.len, (const uint8_t *)buf_str(&message));
	if (message.len)
		explicit_bzero(message.data, message.len);
	if (!answer)
		return broken("a secret", err);
	if (answer->data.len > SECRET_MAX)
		r = error_set(err, ERROR_TOO_LARGE, "secret %s has %zu bytes, more than %zu", id, answer->data.len, SECRET_MAX);
	else
		buf_add(out, answer->data.data, answer->data.len);
	if (answer->data.len)
		explicit_bzero(answer->data.data, answer->data.len);
	bk__bytes__free_unpacked(answer, NULL);
	return r;
}

/* Clients know Docker's own registry by the name that it has in their configuration. */
int bk_ask_login(struct grpc_connection *c, const char *registry, char **username, char **password, struct error *err) {
	Bk__CredentialsRequest q = BK__CREDENTIALS_REQUEST__INIT;
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	q.host = (char *)(str_same(registry, "docker.io") ? "registry-1.docker.io" : registry);
	bk_pack(&q.base, &message);
	int r = grpc_ask(c, "/moby.filesync.v1.Auth/Credentials", &message, &message, err);
	if (r < 0)
		return r;
	Bk__CredentialsResponse *answer = bk__credentials_response__unpack(NULL, message.len, (const uint8_t *)buf_str(&message));
	if (!answer)
		return broken("credentials", err);
	bool known = *answer->secret != '\0';
	/* an identity token has no name */
	*username = !known ? NULL : str_copy(*answer->username ? answer->username : "<token>");
	*password = known ? str_copy(answer->secret) : NULL;
	explicit_bzero(answer->secret, strlen(answer->secret));
	bk__credentials_response__free_unpacked(answer, NULL);
	return 0;
}

int bk_ask_agent(struct grpc_connection *c, const char *id, struct error *err) {
	Bk__AgentRequest q = BK__AGENT_REQUEST__INIT;
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	struct error why = ERROR_INIT;
	q.id = (char *)id;
	bk_pack(&q.base, &message);
	int r = grpc_ask(c, "/moby.sshforward.v1.SSH/CheckAgent", &message, &message, &why);
	if (r == 0)
		return 0;
	if (r == -ERROR_UNSUPPORTED) /* it has been given none at all */
		error_set(err, ERROR_NOT_FOUND, "no SSH key \"%s\" forwarded from the client", id);
	else if (r == -ERROR_UNAVAILABLE)
		return error_move(err, &why);
	else
		error_set(err, ERROR_NOT_FOUND, "%s", error_text(&why));
	error_free(&why);
	return -ERROR_NOT_FOUND;
}

void bk_forward_agent(struct grpc_connection *c, const char *id, int connection) {
	const struct grpc_header of = {"buildkit.ssh.id", id};
	_cleanup_(grpc_call_free_ptr) struct grpc_call *call = grpc_call(c, "/moby.sshforward.v1.SSH/ForwardAgent", &of, 1, NULL);
	if (call)
		bk_relay(call, connection, NULL);
}
