// See export_wrap.hpp.
#include "addon/export_wrap.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "addon/chain_wrap.hpp"
#include "addon/js_queue.hpp"
#include "addon/plugin_wrap.hpp"
#include "addon/runtime.hpp"
#include "addon/session_wrap.hpp"
#include "backend/c_bottom.hpp"
#include "host/no_client.hpp"
#include "wire/commands.hpp"
#include "wire/wire.hpp"

namespace asyncnbd::addon {

// ---- requests --------------------------------------------------------------------------------

ExportRequests::Job *ExportRequests::new_job(size_t data_bytes) {
  auto job = std::make_unique<Job>();
  static_cast<backend::Request &>(*job) = {};
  if (data_bytes > 0 && (job->memory = memory_.get(data_bytes)) == nullptr)
    return nullptr;
  if (data_bytes > 0)
    job->data = job->memory->data;
  job->owner = shared_from_this();
  job->completers.reset(*this);
  return job.release();
}

void ExportRequests::submit(Job *job) {
  {
    std::lock_guard lock(mutex_);
    unanswered_++;
  }
  client_->backend->submit(*job, backend::Caller::must_not_block);
}

void ExportRequests::release_idle_memory() {
  constexpr size_t KEPT_BYTES = 1 << 20;
  if (memory_.free_bytes() > KEPT_BYTES)
    memory_.trim();
}

void ExportRequests::close() {
  std::unique_lock lock(mutex_);
  while (unanswered_ > 0) {
    lock.unlock();
    client_->backend->give_up_unanswered();
    lock.lock();
    answered_.wait_for(lock, backend::GIVE_UP_AGAIN_AFTER, [this] { return unanswered_ == 0; });
  }
  lock.unlock();
  client_->backend->close();
}

bool ExportRequests::has_given_up() {
  std::lock_guard lock(mutex_);
  return has_given_up_;
}

void ExportRequests::let_go(Job *job) {
  if (job->holders.fetch_sub(1) > 1)
    return;
  const std::shared_ptr<ExportRequests> owner = job->owner; // owns the memory too
  if (job->memory != nullptr)
    job->memory->unref();
  delete job;
}

void ExportRequests::settle(Job *job, int error) {
  job->error = error;
  // The job, and with it this object, may be gone when settle_ returns.
  std::shared_ptr<ExportRequests> self = job->owner;
  settle_(job);
  std::lock_guard lock(mutex_);
  unanswered_--;
  answered_.notify_all();
}

void ExportRequests::complete(backend::Request &request, int error) {
  auto *job = static_cast<Job *>(&request);
  request.take_answer(error);
  job->holders = 1; // the plugin has finished with it
  settle(job, error);
}

void ExportRequests::give_up(backend::Request &request, int error) {
  auto *job = static_cast<Job *>(&request);
  {
    std::lock_guard lock(mutex_);
    has_given_up_ = true;
  }
  settle(job, error);
}

void ExportRequests::release(backend::Request &request) {
  let_go(static_cast<Job *>(&request));
}

// ---- the JavaScript object -------------------------------------------------------------------

Napi::Function ExportWrap::define(Napi::Env env) {
  return DefineClass(env, "NativeExport",
                     with_plugin_calls({
                         InstanceMethod("request", &ExportWrap::request),
                         InstanceMethod("release", &ExportWrap::release),
                     }));
}

// new NativeExport(plugin or undefined, session, { threads, readonly, chain, isForAll }): for the
// session's client, which it keeps, or for all clients: then only the session's server matters.
ExportWrap::ExportWrap(const Napi::CallbackInfo &info) : PluginCalls(info) {
  SessionWrap *session = SessionWrap::Unwrap(info[1].As<Napi::Object>());
  client_->context = session->context();
  client_->hold = session->hold();
  if (!client_->context) {
    Napi::Error::New(info.Env(), "the client has disconnected").ThrowAsJavaScriptException();
    return;
  }
  Napi::Object options = info[2].As<Napi::Object>();
  if (options.Get("isForAll").ToBoolean()) {
    client_->context = std::make_shared<host::NoClient>(*client_->context);
    client_->hold = session->server_hold();
  } else {
    session->give_up_with(client_);
  }
  if (info[0].IsObject()) {
    client_->plugin = PluginWrap::Unwrap(info[0].As<Napi::Object>())->plugin();
    client_->context->instance = client_->plugin->instance();
  }
  client_->submitter = backend::Submitter::layers;
  client_->chain = chain_of(options.Get("chain"));
  client_->readonly = options.Get("readonly").As<Napi::Boolean>();
  client_->threads = options.Get("threads").As<Napi::Number>().Uint32Value();
  if (client_->plugin)
    client_->bottom =
        std::make_unique<backend::CBottom>(client_->plugin, *client_->context, client_->threads);
}

namespace {

// For each extent the length, and the lower and the upper half of the flags.
Napi::Value extents_to_js(Napi::Env env, const std::vector<backend::Extent> &extents) {
  Napi::Array list = Napi::Array::New(env, 3 * extents.size());
  for (uint32_t i = 0; i < extents.size(); i++) {
    list.Set(3 * i, static_cast<double>(extents[i].length_bytes));
    list.Set(3 * i + 1, static_cast<uint32_t>(extents[i].flags));
    list.Set(3 * i + 2, static_cast<uint32_t>(extents[i].flags >> 32));
  }
  return list;
}

// { errno, text?, offset? }
Napi::Value failure_to_js(Napi::Env env, int error, const backend::RequestExtras *extras) {
  Napi::Object failure = Napi::Object::New(env);
  failure.Set("errno", error);
  if (extras != nullptr && !extras->error_text.empty())
    failure.Set("text", extras->error_text);
  if (extras != nullptr && extras->error_offset)
    failure.Set("offset", static_cast<double>(*extras->error_offset));
  return failure;
}

uint32_t context_in(const Napi::Value &number) {
  return number.IsNumber() ? number.As<Napi::Number>().Uint32Value()
                           : backend::ContextStatus::ALLOCATION;
}

} // namespace

// request(command, flags, offset, count, buffer or undefined, context or undefined): resolves with
// undefined for success (a block status with its extents), else with { errno, … }. A read fills the
// buffer before it resolves; a write has copied the buffer's bytes when this returns.
Napi::Value ExportWrap::request(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  if (!requests_) {
    requests_ = std::make_shared<ExportRequests>(
        client_, [queue = JsQueue::of(env), this](ExportRequests::Job *job) {
          queue->post([this, job](Napi::Env env) { on_settled(env, job); });
        });
  }
  Pending pending{Napi::Promise::Deferred(env), {}};
  Napi::Value promise = pending.deferred.Promise();
  const auto length_bytes = static_cast<uint64_t>(info[3].As<Napi::Number>().Int64Value());
  const bool has_data = info[4].IsTypedArray();
  const auto type = static_cast<uint16_t>(info[0].As<Napi::Number>().Uint32Value());
  const auto offset = static_cast<uint64_t>(info[2].As<Napi::Number>().Int64Value());
  const uint64_t size_bytes = client_->backend->facts().size_bytes;
  // Middleware may ask for anything.
  if (type != wire::NBD_CMD_FLUSH &&
      (length_bytes == 0 || !backend::is_inside(offset, length_bytes, size_bytes))) {
    pending.deferred.Resolve(length_bytes == 0 ? env.Undefined()
                                               : failure_to_js(env, EINVAL, nullptr));
    return promise;
  }
  ExportRequests::Job *job = requests_->new_job(has_data ? length_bytes : 0);
  if (job == nullptr) {
    pending.deferred.Resolve(failure_to_js(env, ENOMEM, nullptr));
    return promise;
  }
  job->type = type;
  job->flags = static_cast<uint16_t>(info[1].As<Napi::Number>().Uint32Value());
  job->offset = offset;
  job->length_bytes = length_bytes;
  if (job->type == wire::NBD_CMD_BLOCK_STATUS)
    job->make_extras().statuses.push_back({0, context_in(info[5]), {}});
  if (has_data) {
    auto buffer = info[4].As<Napi::Uint8Array>();
    if (job->type == wire::NBD_CMD_WRITE)
      std::memcpy(job->data, buffer.Data(), length_bytes);
    else
      pending.buffer = Napi::Persistent(buffer);
  }
  if (pending_.empty())
    Ref();
  pending_.emplace(job, std::move(pending));
  requests_->submit(job);
  return promise;
}

void ExportWrap::on_settled(Napi::Env env, ExportRequests::Job *job) {
  auto found = pending_.find(job);
  Pending pending = std::move(found->second);
  pending_.erase(found);
  if (!pending.buffer.IsEmpty() && job->error == 0) {
    Napi::Uint8Array buffer = pending.buffer.Value();
    // A buffer that was detached meanwhile has no bytes any more.
    std::memcpy(buffer.Data(), job->data, std::min<size_t>(buffer.ByteLength(), job->length_bytes));
  }
  if (job->error != 0)
    pending.deferred.Resolve(failure_to_js(env, job->error, job->extras.get()));
  else if (job->type == wire::NBD_CMD_BLOCK_STATUS)
    pending.deferred.Resolve(extents_to_js(env, job->extras->statuses.front().extents));
  else
    pending.deferred.Resolve(env.Undefined());
  ExportRequests::let_go(job);
  if (!pending_.empty())
    return;
  requests_->release_idle_memory();
  Unref();
}

// The last call: what the object holds must not wait for a garbage collection.
Napi::Value ExportWrap::release(const Napi::CallbackInfo &info) {
  if (!requests_ || !requests_->has_given_up()) {
    client_->backend.reset();
    client_->context.reset();
  }
  return info.Env().Undefined();
}

// Waits for calls in progress, and gives up requests that the plugin does not answer.
Napi::Value ExportWrap::close_export(const Napi::CallbackInfo &info) {
  if (!requests_)
    return addon::close_export(info.Env(), client_);
  auto deferred = std::make_shared<Napi::Promise::Deferred>(info.Env());
  run_blocking(
      info.Env(), [requests = requests_] { requests->close(); },
      [deferred](Napi::Env env, bool) { deferred->Resolve(env.Undefined()); }, client_->hold);
  return deferred->Promise();
}

} // namespace asyncnbd::addon
