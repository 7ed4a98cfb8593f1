// Ends the process if JavaScript does not: its thread or the plugin may hang, with locks held.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// guardSignals(signals, graceMs): from now on each of these signals, which JavaScript already
// handles, must be followed by signalSeen within graceMs. A signal within a second of another is
// not passed on: the two count as one stop.
Napi::Value guard_signals(const Napi::CallbackInfo &info);

// signalSeen(): JavaScript has seen the signals that have arrived so far.
Napi::Value signal_seen(const Napi::CallbackInfo &info);

// armWatchdog(ms, status, lastLine): begins a stage of the server's end. If neither the next call
// of this nor the end of the process comes within `ms`, the process ends with that status, and that
// line in the log. On the main thread.
Napi::Value arm_watchdog(const Napi::CallbackInfo &info);

// endNow(status): ends the process here. No code of a plugin runs any more, so no destructor can
// break one of its threads.
Napi::Value end_now(const Napi::CallbackInfo &info);

// endWithoutDestructors(): when the process ends, for its own reasons and with its own status, no
// destructor runs from here on: a call of a plugin that nobody waits for may be using what they
// destroy. On any of JavaScript's threads.
Napi::Value end_without_destructors(const Napi::CallbackInfo &info);

// removeAtForcedEnd(files): what to delete when the watchdog ends the process, if { path, device,
// inode } are still the server's: sockets, files, and folders that are empty by then. Replaces the
// last list. On the main thread.
Napi::Value remove_at_forced_end(const Napi::CallbackInfo &info);

} // namespace asyncnbd::addon
