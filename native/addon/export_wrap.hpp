// NativeExport of src/addon/types.ts: an export of a C plugin, or one behind native filters, for
// middleware in front of it: its requests come from JavaScript.
#pragma once

#include <atomic>
#include <functional>
#include <napi.h>
#include <unordered_map>

#include "addon/plugin_calls.hpp"
#include "addon/runtime.hpp"
#include "base/buffers.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::addon {

class ExportWrap;

// Requests on their way to the plugin and back. Lives until the last one is released; a request
// that the plugin never answers is never released.
class ExportRequests final : public backend::Maker,
                             public std::enable_shared_from_this<ExportRequests> {
public:
  struct Job : backend::Request {
    base::Buffer *memory = nullptr; // holds `data`
    std::shared_ptr<ExportRequests> owner;
    int error = 0;
    // JavaScript, and from the beginning the plugin, whose late reply may come before give_up. Each
    // decrement is a release and an acquire: one holder's use of the job happens before the other
    // ends it.
    std::atomic<int> holders{2};
  };
  static void let_go(Job *job);

  // `settle` is called once for each job, on any thread.
  ExportRequests(SharedPluginClient client, std::function<void(Job *)> settle)
      : client_(std::move(client)), settle_(std::move(settle)) {}

  // A request with `data_bytes` of data, if any; nullptr: no memory.
  Job *new_job(size_t data_bytes);
  void submit(Job *job);
  // Nothing is in flight: gives back memory, except a little.
  void release_idle_memory();
  // After the last submit: gives up unanswered requests, waits for calls that block, and closes.
  // May block.
  void close();
  // True: the plugin may go on using the export for ever.
  bool has_given_up();

private:
  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  void release(backend::Request &request) override;
  bool client_has_gone() const override { return false; }

  void settle(Job *job, int error);

  const SharedPluginClient client_;
  const std::function<void(Job *)> settle_;
  base::BufferPool memory_{resources().free_memory}; // belongs to one client: see buffers.hpp

  base::Mutex<base::LockRank::export_requests> mutex_; // guards what follows
  base::Condition answered_;
  size_t unanswered_ = 0;
  bool has_given_up_ = false;
};

class ExportWrap : public PluginCalls<ExportWrap> {
public:
  static Napi::Function define(Napi::Env env);
  explicit ExportWrap(const Napi::CallbackInfo &info);

private:
  struct Pending {
    Napi::Promise::Deferred deferred;
    Napi::Reference<Napi::Uint8Array> buffer; // for a read
  };

  Napi::Value close_export(const Napi::CallbackInfo &info) override;
  Napi::Value request(const Napi::CallbackInfo &info);
  Napi::Value release(const Napi::CallbackInfo &info);

  void on_settled(Napi::Env env, ExportRequests::Job *job);

  std::shared_ptr<ExportRequests> requests_;
  // Only JavaScript's thread may touch references, and only this object knows when that thread's
  // environment is gone.
  std::unordered_map<ExportRequests::Job *, Pending> pending_;
};

} // namespace asyncnbd::addon
