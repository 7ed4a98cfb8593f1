// Mends what the loader binds differently for a plugin opened with RTLD_DEEPBIND than for a plugin
// of nbdkit: see bindings.cpp.
#pragma once

namespace asyncnbd::host {

// To be called before a plugin is opened: what is loaded by then is not the plugin's.
void note_loaded_objects();
// To be called after that.
void mend_bindings();

} // namespace asyncnbd::host
