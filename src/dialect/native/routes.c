/* The one list of routes, for the server; and the OpenAPI document that is made of it and of the field tables. */
#include "dialect/native/native-priv.h"

#include "model/task.h"

static const struct native_route *const tables[] = {host_routes, instance_routes, machine_routes, migration_routes, image_routes, network_routes,
						    storage_routes, workload_routes, NULL};

const struct http_route *native_routes(void) {
	static struct http_route routes[192];
	size_t n = 0;
	for (size_t t = 0; tables[t]; t++)
		for (const struct native_route *r = tables[t]; r->method && n + 1 < ARRAY_SIZE(routes); r++)
			routes[n++] = (struct http_route){r->method, r->path, r->handler, r->flags, r};
	return routes;
}

static json_t *schema_ref(const struct field_table *t, json_t *schemas) {
	if (!json_object_get(schemas, t->name))
		fields_schema(t, schemas);
	return json_pack("{s:{s:{s:o}}}", JSON_TYPE, "schema", "$ref",
			 json_sprintf("#/components/schemas/%s", t->name));
}

static json_t *parameter(const char *name, size_t len, const char *in) {
	return json_pack("{s:s%, s:s, s:b, s:{s:s}}", "name", name, len, "in", in, "required", str_same(in, "path"), "schema",
			 "type", "string");
}

static json_t *parameters(const struct native_route *r) {
	json_t *list = json_array();
	for (const char *p = r->path; (p = strchr(p, '{')); p++)
		json_array_append_new(list, parameter(p + 1, strcspn(p + 1, "}"), "path"));
	struct str rest = str_view(r->query);
	while (rest.len) {
		struct str name = str_cut(&rest, ' ');
		json_array_append_new(list, parameter(name.p, name.len, "query"));
	}
	return list;
}

static json_t *operation(const struct native_route *r, json_t *schemas) {
	json_t *op = json_pack("{s:s, s:o}", "summary", r->summary, "parameters", parameters(r));
	if (r->request)
		json_object_set_new(op, "requestBody", json_pack("{s:o}", "content", schema_ref(r->request, schemas)));
	json_t *answer = json_pack("{s:s}", "description", r->what ? r->what : r->reply ? r->reply->doc : "nothing");
	if (r->reply)
		json_object_set_new(answer, "content", schema_ref(r->reply, schemas));
	json_t *answers = json_object();
	char status[8];
	snprintf(status, sizeof status, "%d", r->status);
	json_object_set_new(answers, status, answer);
	json_object_set_new(answers, "default", json_pack("{s:s}", "$ref", "#/components/responses/error"));
	json_object_set_new(op, "responses", answers);
	return op;
}

static json_t *error_response(void) {
	return json_pack("{s:s, s:{s:{s:{s:s, s:{s:{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}}}}}}}}", "description", "What went wrong",
			 "content", JSON_TYPE, "schema", "type", "object", "properties", "error", "type", "object",
			 "properties", "kind", "type", "string", "message", "type", "string", "field", "type", "string");
}

static void method_name(const char *method, char out[8]) {
	size_t i = 0;
	for (; method[i] && i < 7; i++)
		out[i] = (char)(method[i] | 0x20);
	out[i] = 0;
}

json_t *openapi_document(void) {
	json_t *schemas = json_object(), *paths = json_object();
	fields_schema(&event_table, schemas);
	for (size_t t = 0; tables[t]; t++)
		for (const struct native_route *r = tables[t]; r->method; r++) {
			char method[8];
			method_name(r->method, method);
			json_t *path = json_object_get(paths, r->path);
			if (!path) {
				path = json_object();
				json_object_set_new(paths, r->path, path);
			}
			json_object_set_new(path, method, operation(r, schemas));
		}
	return json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o, s:{s:o}}}", "openapi", "3.1.0", "info", "title", "wabe", "version",
			 WABE_VERSION, "paths", paths, "components", "schemas", schemas, "responses", "error", error_response());
}
