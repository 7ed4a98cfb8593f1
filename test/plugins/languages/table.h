// The table of a compiled disk's plugin; whoever includes it has the callbacks and LANGUAGE.

static struct nbdkit_plugin plugin = {
    .name = LANGUAGE,
    .load = disk_load,
    .unload = disk_unload,
    .config = disk_config,
    .open = disk_open,
    .close = disk_close,
    .get_size = disk_size,
    .pread = disk_read,
    .pwrite = disk_write,
};

NBDKIT_REGISTER_PLUGIN(plugin)
