// The addon's entry: exports everything that src/addon/types.ts declares.
#include <napi.h>

#include "addon/c_filter_wrap.hpp"
#include "addon/chain_wrap.hpp"
#include "addon/counters_wrap.hpp"
#include "addon/disk_memory_wrap.hpp"
#include "addon/export_wrap.hpp"
#include "addon/hold_wrap.hpp"
#include "addon/js_queue.hpp"
#include "addon/latencies_wrap.hpp"
#include "addon/layouts.hpp"
#include "addon/listener_wrap.hpp"
#include "addon/log_wrap.hpp"
#include "addon/own_process.hpp"
#include "addon/plugin_wrap.hpp"
#include "addon/process.hpp"
#include "addon/script_bridge_wrap.hpp"
#include "addon/server_wrap.hpp"
#include "addon/session_wrap.hpp"
#include "addon/tls_wrap.hpp"
#include "addon/turns_wrap.hpp"
#include "addon/watchdog.hpp"
#include "host/log_scope.hpp"

namespace asyncnbd::addon {

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  host::know_thread_log();
  JsQueue::create(env);
  exports.Set("NativePlugin", PluginWrap::define(env));
  exports.Set("NativeCFilter", CFilterWrap::define(env));
  exports.Set("NativeScriptBridge", ScriptBridgeWrap::define(env));
  exports.Set("NativeDiskMemory", DiskMemoryWrap::define(env));
  exports.Set("NativeLog", LogWrap::define(env));
  exports.Set("NativeHold", HoldWrap::define(env));
  exports.Set("NativeServer", ServerWrap::define(env));
  exports.Set("NativeExport", ExportWrap::define(env));
  exports.Set("NativeSession", SessionWrap::define(env));
  exports.Set("NativeTurns", TurnsWrap::define(env));
  exports.Set("NativeTurn", TurnWrap::define(env));
  exports.Set("NativeCounters", CountersWrap::define(env));
  exports.Set("NativeLatencies", LatenciesWrap::define(env));
  exports.Set("NativeListener", ListenerWrap::define(env));
  exports.Set("guardSignals", Napi::Function::New(env, guard_signals));
  exports.Set("signalSeen", Napi::Function::New(env, signal_seen));
  exports.Set("armWatchdog", Napi::Function::New(env, arm_watchdog));
  exports.Set("endNow", Napi::Function::New(env, end_now));
  exports.Set("endWithoutDestructors", Napi::Function::New(env, end_without_destructors));
  exports.Set("removeAtForcedEnd", Napi::Function::New(env, remove_at_forced_end));
  exports.Set("ownProcess", Napi::Function::New(env, own_process));
  exports.Set("nameProcess", Napi::Function::New(env, name_process));
  exports.Set("layouts", layouts(env));
  define_listening_functions(env, exports);
  define_process_functions(env, exports);
  define_tls_functions(env, exports);
  define_chain_functions(env, exports);
  return exports;
}

NODE_API_MODULE(asyncnbd, init)

} // namespace asyncnbd::addon
