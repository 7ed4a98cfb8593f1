// Ends the process where JavaScript does not: its thread or the plugin may hang, with locks held.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// guardSignals(signals, graceMs): from now on each of these numbers, which JavaScript handles
// already, must be followed by signalSeen in so many milliseconds. One that comes within a second
// of another is not passed on: the two are one stop.
Napi::Value guard_signals(const Napi::CallbackInfo &info);

// signalSeen(): JavaScript has got the signals that have come so far.
Napi::Value signal_seen(const Napi::CallbackInfo &info);

// armWatchdog(ms, status, lastLine): the server's end has come so far. Unless the next call of this
// or the end of the process comes within so many milliseconds, the process ends with that status,
// and that line of the log. On the main thread.
Napi::Value arm_watchdog(const Napi::CallbackInfo &info);

// endNow(status): the process ends here. Nothing of a plugin's runs any more: no destructor, under
// which one of its threads might still be at work.
Napi::Value end_now(const Napi::CallbackInfo &info);

// removeAtForcedEnd(files): what to delete then if it is still what the server has made, with
// { path, device, inode }: sockets, files, and folders that are empty by then. Replaces the last
// list. On the main thread.
Napi::Value remove_at_forced_end(const Napi::CallbackInfo &info);

} // namespace asyncnbd::addon
