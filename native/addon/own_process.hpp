// Makes Node's process look like nbdkit's, for plugins and the programs that they start.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// For every process that opens a C plugin, also with serve(). Streams that Node closes at exec stay
// open: otherwise the first file that a plugin's program opens becomes its standard error. Signals
// get their default actions: otherwise such a program never ends when nobody reads its output. Node
// gives its own children streams and signals anyway. Done once, so later changes by the process
// stay.
void share_with_children();

// ownProcess({ inheritedFds, reservedFds, ignoredSignals }): for the command, before it loads a
// plugin. Programs of plugins get the inherited descriptors too, like the standard streams.
// Reserved ones are /dev/null, and are closed here, so that plugins get their numbers. The signals
// were ignored when the command was started.
void own_process(const Napi::CallbackInfo &info);

// nameProcess(name): names the main thread, on which it is called, and so the process.
void name_process(const Napi::CallbackInfo &info);

} // namespace asyncnbd::addon
