// See script_questions.hpp.
#include "addon/script_questions.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "addon/disk_memory_wrap.hpp"
#include "addon/js_queue.hpp"
#include "addon/runtime.hpp"
#include "addon/turns_wrap.hpp"
#include "backend/emulate.hpp"
#include "backend/turns.hpp"
#include "base/mutex.hpp"

namespace asyncnbd::addon {

namespace {

backend::Support support_of(const Napi::Value &word) {
  const std::string name = word.As<Napi::String>();
  if (name == "native")
    return backend::Support::native;
  return name == "emulate" ? backend::Support::emulate : backend::Support::none;
}

void take_capabilities(const Napi::Object &given, backend::Facts *facts) {
  auto can = [&given](const char *key) { return given.Get(key).As<Napi::Boolean>().Value(); };
  bool is_exact;
  facts->size_bytes = given.Get("sizeBytes").As<Napi::BigInt>().Uint64Value(&is_exact);
  facts->can_write = can("canWrite");
  facts->can_flush = can("canFlush");
  facts->is_rotational = can("isRotational");
  facts->can_trim = can("canTrim");
  facts->can_fast_zero = can("canFastZero");
  facts->can_multi_conn = can("canMultiConn");
  facts->serializes_connections = can("serializesConnections");
  facts->can_extents = can("canExtents");
  facts->zero = support_of(given.Get("zero"));
  facts->fua = support_of(given.Get("fua"));
  facts->cache = support_of(given.Get("cache"));
  facts->block_sizes_bind = can("blockSizesBind");
}

// [minimum, preferred, maximum]
backend::BlockSizes block_sizes_of(const Napi::Value &given) {
  Napi::Array sizes = given.As<Napi::Array>();
  auto size = [&sizes](uint32_t i) { return sizes.Get(i).As<Napi::Number>().Uint32Value(); };
  return {size(0), size(1), size(2)};
}

// { memory, begin }, or undefined.
backend::DiskPlace place_of(const Napi::Value &given) {
  if (!given.IsObject())
    return {};
  Napi::Object place = given.As<Napi::Object>();
  return {DiskMemoryWrap::Unwrap(place.Get("memory").As<Napi::Object>())->memory(),
          static_cast<uint64_t>(place.Get("begin").As<Napi::Number>().Int64Value())};
}

// [{ name, description }, …]
std::vector<backend::ExportEntry> exports_of(const Napi::Array &given) {
  std::vector<backend::ExportEntry> entries(given.Length());
  for (uint32_t i = 0; i < given.Length(); i++) {
    Napi::Object entry = given.Get(i).As<Napi::Object>();
    entries[i] = {entry.Get("name").As<Napi::String>(),
                  entry.Get("description").As<Napi::String>()};
  }
  return entries;
}

} // namespace

std::unique_ptr<backend::Backend>
backend_of_script(const std::shared_ptr<backend::ScriptBridge> &bridge, uint32_t connection,
                  const Napi::Object &described) {
  Napi::Value turns = described.Get("turns");
  backend::Facts told;
  take_capabilities(described.Get("capabilities").As<Napi::Object>(), &told);
  told.description = described.Get("description").As<Napi::String>();
  told.block_sizes = block_sizes_of(described.Get("blockSizes"));
  // A sparse read is several calls at once.
  told.has_sparse_reads = told.can_extents && !turns.IsObject();
  auto opened = std::make_unique<backend::ScriptBackend>(bridge, connection, std::move(told),
                                                         place_of(described.Get("place")));
  std::unique_ptr<backend::Backend> stack =
      std::make_unique<backend::Emulation>(std::move(opened), resources().of_backends.threads);
  if (turns.IsObject()) // a request of several calls keeps its turn for all of them
    stack = std::make_unique<backend::Turns>(std::move(stack),
                                             TurnsWrap::Unwrap(turns.As<Napi::Object>())->queue());
  return stack;
}

// Only the field that the question is about is set.
struct ScriptQuestions::Answer {
  std::unique_ptr<backend::Backend> opened;
  bool is_welcome = false;
  std::optional<std::vector<backend::ExportEntry>> exports;
  std::optional<std::string> name;
};

// Outlives its owner as long as the script works on a question, even if nobody waits for the
// answer.
struct ScriptQuestions::Shared {
  Shared(Napi::Env env, std::weak_ptr<Napi::FunctionReference> function,
         std::shared_ptr<backend::ScriptBridge> of_script, std::weak_ptr<KeptFunctions> of_keeper)
      : queue(JsQueue::of(env)), function(std::move(function)), bridge(std::move(of_script)),
        keeper(std::move(of_keeper)) {}
  // On any thread.
  ~Shared() {
    queue->post([function = function, keeper = keeper](Napi::Env) {
      const auto dropped = function.lock();
      if (dropped == nullptr)
        return;
      dropped->Reset();
      if (const auto kept = keeper.lock())
        kept->erase(std::remove(kept->begin(), kept->end(), dropped), kept->end());
    });
  }
  Shared(const Shared &) = delete;
  Shared &operator=(const Shared &) = delete;

  // By the script, once for each time that it is asked.
  void take(uint64_t number, Answer given) {
    std::unique_ptr<backend::Backend> unused;
    {
      std::lock_guard lock(mutex);
      if (is_given_up || number != asked || is_answered) {
        unused = std::move(given.opened);
      } else {
        answer = std::move(given);
        is_answered = true;
        changed.notify_one();
      }
    }
    if (unused != nullptr)
      unused->close_unused();
  }

  // What `done` was called with.
  Answer answer_of(const Napi::CallbackInfo &info) const {
    Answer given;
    if (info[0].IsNumber())
      given.opened =
          backend_of_script(bridge, info[0].As<Napi::Number>(), info[1].As<Napi::Object>());
    else if (info[0].IsBoolean())
      given.is_welcome = info[0].As<Napi::Boolean>();
    else if (info[0].IsArray())
      given.exports = exports_of(info[0].As<Napi::Array>());
    else if (info[0].IsString())
      given.name = info[0].As<Napi::String>().Utf8Value();
    return given;
  }

  const std::shared_ptr<JsQueue> queue;
  const std::weak_ptr<Napi::FunctionReference> function;
  const std::shared_ptr<backend::ScriptBridge> bridge;
  const std::weak_ptr<KeptFunctions> keeper;

  base::Mutex<base::LockRank::script_questions> mutex; // guards what follows
  base::Condition changed;
  uint64_t asked = 0; // questions so far
  bool is_answered = true;
  bool is_given_up = false;
  Answer answer;
};

ScriptQuestions::ScriptQuestions(Napi::Env env, std::weak_ptr<Napi::FunctionReference> answer,
                                 std::shared_ptr<backend::ScriptBridge> bridge,
                                 const std::shared_ptr<KeptFunctions> &keeper)
    : shared_(std::make_shared<Shared>(env, std::move(answer), std::move(bridge), keeper)) {}

ScriptQuestions::Answer ScriptQuestions::ask(const char *question, const std::string &name,
                                             bool readonly) {
  uint64_t number;
  {
    std::lock_guard lock(shared_->mutex);
    shared_->is_answered = false;
    number = ++shared_->asked;
  }
  shared_->queue->post([shared = shared_, number, question, name, readonly](Napi::Env env) {
    {
      std::lock_guard lock(shared->mutex);
      if (shared->is_given_up)
        return;
    }
    auto done = [shared, number](const Napi::CallbackInfo &info) {
      shared->take(number, shared->answer_of(info));
    };
    const auto function = shared->function.lock();
    if (function == nullptr)
      shared->take(number, {});
    else
      function->Call({Napi::String::New(env, question), Napi::String::New(env, name),
                      Napi::Boolean::New(env, readonly), Napi::Function::New(env, done)});
  });
  std::unique_lock lock(shared_->mutex);
  shared_->changed.wait(lock, [this] { return shared_->is_answered || shared_->is_given_up; });
  return std::exchange(shared_->answer, {});
}

std::unique_ptr<backend::Backend> ScriptQuestions::open(const std::string &name, bool readonly) {
  return ask("open", name, readonly).opened;
}

bool ScriptQuestions::preconnect(bool readonly) {
  return ask("preconnect", "", readonly).is_welcome;
}

std::optional<std::vector<backend::ExportEntry>> ScriptQuestions::list_exports(bool readonly) {
  return ask("listExports", "", readonly).exports;
}

std::optional<std::string> ScriptQuestions::default_export(bool readonly) {
  return ask("defaultExport", "", readonly).name;
}

void ScriptQuestions::abandon() {
  std::lock_guard lock(shared_->mutex);
  if (shared_->is_answered)
    return;
  shared_->is_answered = true; // with nothing
  shared_->changed.notify_one();
}

void ScriptQuestions::give_up() {
  std::lock_guard lock(shared_->mutex);
  shared_->is_given_up = true;
  shared_->changed.notify_one();
}

} // namespace asyncnbd::addon
