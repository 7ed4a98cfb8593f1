// Makes a process of Node's what nbdkit's is to plugins and the programs they start.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// For every process in which a C plugin is opened, a program's too: streams that Node closes at
// exec stay open, or the first file of a program that the plugin starts becomes its standard error;
// and its signals are the default ones, or it never ends when nobody reads its output. Node's own
// children are given streams and signals of their own anyway. Once: what the process does to them
// later remains.
void share_with_children();

// ownProcess({ inheritedFds, reservedFds, ignoredSignals }): for the command, before it loads a
// plugin. Inherited descriptors are for programs of plugins too, as the standard streams are;
// reserved ones are /dev/null, and closed, so that plugins get their numbers. The signals were
// ignored when the command was started.
void own_process(const Napi::CallbackInfo &info);

// nameProcess(name): of the main thread, on which this is called, and so of the process.
void name_process(const Napi::CallbackInfo &info);

} // namespace asyncnbd::addon
