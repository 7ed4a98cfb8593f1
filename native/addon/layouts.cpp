// See layouts.hpp.
#include "addon/layouts.hpp"

#include <cstddef>
#include <initializer_list>
#include <utility>

#include "backend/script_bridge.hpp"
#include "nbd/latency_counters.hpp"
#include "nbd/request_counters.hpp"

namespace asyncnbd::addon {

namespace {

using backend::ScriptBatch;
using Submission = ScriptBatch::Submission;
using Completion = ScriptBatch::Completion;

Napi::Object numbers_to_js(Napi::Env env,
                           std::initializer_list<std::pair<const char *, size_t>> numbers) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto &[name, number] : numbers)
    object.Set(name, static_cast<double>(number));
  return object;
}

} // namespace

Napi::Object layouts(Napi::Env env) {
  Napi::Object all = Napi::Object::New(env);
  all.Set("submission", numbers_to_js(env, {{"bytes", sizeof(Submission)},
                                            {"offset", offsetof(Submission, offset)},
                                            {"lengthBytes", offsetof(Submission, length_bytes)},
                                            {"operation", offsetof(Submission, operation)},
                                            {"connection", offsetof(Submission, connection)},
                                            {"slot", offsetof(Submission, slot)},
                                            {"command", offsetof(Submission, command)},
                                            {"flags", offsetof(Submission, flags)}}));
  all.Set("completion", numbers_to_js(env, {{"bytes", sizeof(Completion)},
                                            {"operation", offsetof(Completion, operation)},
                                            {"outcome", offsetof(Completion, outcome)}}));
  all.Set("script", numbers_to_js(env, {{"clientGone", backend::SCRIPT_CLIENT_GONE},
                                        {"close", backend::SCRIPT_CLOSE},
                                        {"mayHaveHoles", ScriptBatch::MAY_HAVE_HOLES},
                                        {"noSlot", ScriptBatch::NO_SLOT},
                                        {"keepsSlot", ScriptBatch::KEEPS_SLOT << 16},
                                        {"freesSlot", ScriptBatch::FREES_SLOT << 16}}));
  all.Set("counts", numbers_to_js(env, {{"commands", nbd::RequestCounters::COMMANDS},
                                        {"figures", sizeof(nbd::RequestCounters::OfCommand) /
                                                        sizeof(uint64_t)},
                                        {"exports", nbd::ExportLatencies::MAX_EXPORTS}}));
  return all;
}

} // namespace asyncnbd::addon
