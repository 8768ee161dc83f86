/* All commands, in the order of the help. */
#include "cli/command.h"

extern const struct command command_run, command_create, command_start, command_stop, command_restart,
	command_kill, command_pause, command_unpause, command_rm, command_rename, command_update, command_exec,
	command_attach, command_logs, command_top, command_stats, command_cp, command_diff, command_commit,
	command_export, command_wait, command_ls, command_show, command_events, command_image_ls, command_image_pull,
	command_image_push, command_image_bootstrap, command_image_load, command_image_save, command_image_import,
	command_image_export, command_image_show, command_image_tag, command_image_rm, command_image_prune,
	command_task_ls, command_task_show, command_task_cancel, command_daemon, command_shutdown, command_version,
	command_info, command_oci, command_completion, command_clone, command_pool_create, command_pool_ls, command_pool_show, command_pool_update, command_pool_rm, command_volume_create, command_volume_ls, command_volume_show, command_volume_update, command_volume_rename, command_volume_rm, command_volume_prune, command_volume_copy, command_volume_move, command_volume_attach, command_volume_detach, command_volume_export, command_volume_import, command_snapshot_create, command_snapshot_ls, command_snapshot_restore, command_snapshot_update, command_snapshot_rm;

const struct command *const commands[] = {
	&command_run, &command_create, &command_start, &command_stop, &command_restart, &command_kill,
	&command_pause, &command_unpause, &command_rm, &command_rename, &command_update, &command_exec,
	&command_attach, &command_logs, &command_top, &command_stats, &command_cp, &command_diff,
	&command_commit, &command_export, &command_clone, &command_wait, &command_ls, &command_show, &command_events,
	&command_image_ls, &command_image_pull, &command_image_push, &command_image_bootstrap,
	&command_image_load, &command_image_save, &command_image_import, &command_image_export,
	&command_image_show, &command_image_tag, &command_image_rm, &command_image_prune, &command_pool_create, &command_pool_ls, &command_pool_show, &command_pool_update, &command_pool_rm, &command_volume_create, &command_volume_ls, &command_volume_show, &command_volume_update, &command_volume_rename, &command_volume_rm, &command_volume_prune, &command_volume_copy, &command_volume_move, &command_volume_attach, &command_volume_detach, &command_volume_export, &command_volume_import, &command_snapshot_create, &command_snapshot_ls, &command_snapshot_restore, &command_snapshot_update, &command_snapshot_rm, &command_task_ls,
	&command_task_show, &command_task_cancel, &command_daemon, &command_shutdown, &command_version,
	&command_info, &command_oci, &command_completion, NULL,
};
