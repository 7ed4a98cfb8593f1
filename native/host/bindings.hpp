// Mends what the loader binds differently for a plugin opened with RTLD_DEEPBIND than for a plugin
// of nbdkit: see bindings.cpp.
#pragma once

namespace asyncnbd::host {

// Before a plugin is opened: what is loaded by now is none of its own.
void note_loaded_objects();
// After it.
void mend_bindings();

} // namespace asyncnbd::host
