/* What the client of a session is asked for: secrets and credentials. */
#include "dialect/docker/buildkit-priv.h"
#include "dialect/buildkit.pb-c.h"

#define SECRET_MAX ((size_t)500 << 10)

static void pack(const ProtobufCMessage *m, struct buf *out) {
	size_t n = protobuf_c_message_get_packed_size(m);
	char *room = buf_room(out, n);
	if (room)
		buf_grown(out, protobuf_c_message_pack(m, (uint8_t *)room));
}

static int broken(const char *what, struct error *err) {
	return error_set(err, ERROR_CORRUPT, "the client's answer about %s is no such message", what);
}

int bk_ask_secret(struct grpc_connection *c, const char *id, struct buf *out, struct error *err) {
	Bk__SecretRequest q = BK__SECRET_REQUEST__INIT;
	_cleanup_(buf_free) struct buf message = BUF_INIT;
	q.id = (char *)id;
	pack(&q.base, &message);
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
	pack(&q.base, &message);
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
