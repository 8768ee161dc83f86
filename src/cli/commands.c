/* All commands, in the order of the help. */
#include "cli/command.h"

extern const struct command command_run, command_create, command_start, command_stop, command_restart,
	command_kill, command_pause, command_unpause, command_rm, command_rename, command_update, command_exec,
	command_attach, command_logs, command_top, command_stats, command_cp, command_diff, command_commit,
	command_export, command_wait, command_ls, command_show, command_events, command_image_ls, command_image_pull,
	command_image_push, command_image_bootstrap, command_image_load, command_image_save, command_image_import,
	command_image_export, command_image_show, command_image_tag, command_image_rm, command_image_prune,
	command_task_ls, command_task_show, command_task_cancel, command_daemon, command_shutdown, command_version,
	command_info, command_oci, command_completion,
	command_network_create, command_network_ls, command_network_show, command_network_update, command_network_rm,
	command_network_prune, command_network_connect, command_network_disconnect, command_network_publish,
	command_network_published, command_network_unpublish, command_address_ls, command_address_reserve,
	command_address_release, command_rule_create, command_rule_ls, command_rule_show, command_rule_rm,
	command_rule_add, command_rule_remove;

const struct command *const commands[] = {
	&command_run, &command_create, &command_start, &command_stop, &command_restart, &command_kill,
	&command_pause, &command_unpause, &command_rm, &command_rename, &command_update, &command_exec,
	&command_attach, &command_logs, &command_top, &command_stats, &command_cp, &command_diff,
	&command_commit, &command_export, &command_wait, &command_ls, &command_show, &command_events,
	&command_image_ls, &command_image_pull, &command_image_push, &command_image_bootstrap,
	&command_image_load, &command_image_save, &command_image_import, &command_image_export,
	&command_image_show, &command_image_tag, &command_image_rm, &command_image_prune,
	&command_network_create, &command_network_ls, &command_network_show, &command_network_update,
	&command_network_rm, &command_network_prune, &command_network_connect, &command_network_disconnect,
	&command_network_publish, &command_network_published, &command_network_unpublish, &command_address_ls,
	&command_address_reserve, &command_address_release, &command_rule_create, &command_rule_ls, &command_rule_show,
	&command_rule_rm, &command_rule_add, &command_rule_remove,
	&command_task_ls,
	&command_task_show, &command_task_cancel, &command_daemon, &command_shutdown, &command_version,
	&command_info, &command_oci, &command_completion, NULL,
};
