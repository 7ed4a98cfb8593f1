// Mends what the loader binds differently for a plugin opened with RTLD_DEEPBIND than for a plugin
// of nbdkit: see bindings.cpp.
#pragma once

namespace asyncnbd::host {

// Call it before a plugin is opened: libraries that are loaded by then are not the plugin's.
void note_loaded_objects();
// Call it after that.
void mend_bindings();

} // namespace asyncnbd::host
