// Ends the process on a signal when JavaScript, whose thread a callback may block, does not.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// guardSignals(signals, graceMs): from now on each of these numbers, which JavaScript handles
// already, must be followed by signalSeen in so many milliseconds. One that comes within a second
// of another is not passed on: the two are one stop.
Napi::Value guard_signals(const Napi::CallbackInfo &info);

// signalSeen(): JavaScript has got the signals that have come so far.
Napi::Value signal_seen(const Napi::CallbackInfo &info);

// removeAtForcedEnd(files): what to delete then if it is still what the server has made, with
// { path, device, inode }: sockets, files, and folders that are empty by then. Replaces the last
// list. On the main thread.
Napi::Value remove_at_forced_end(const Napi::CallbackInfo &info);

} // namespace asyncnbd::addon
