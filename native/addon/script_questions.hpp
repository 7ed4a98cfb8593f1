// A script as native code asks it, on behalf of a client: which exports there are, and to open one.
#pragma once

#include <memory>
#include <napi.h>
#include <optional>
#include <string>
#include <vector>

#include "backend/bottom.hpp"
#include "backend/script_bridge.hpp"

namespace asyncnbd::addon {

// What requests to such an export go through. `connection`: the script's number for it;
// `described`: { capabilities, description, blockSizes, turns, place }. JavaScript's thread.
std::unique_ptr<backend::Backend>
backend_of_script(const std::shared_ptr<backend::ScriptBridge> &bridge, uint32_t connection,
                  const Napi::Object &described);

// Functions that may be needed for longer than the clients for whom they were made. JavaScript's
// thread only.
using KeptFunctions = std::vector<std::shared_ptr<Napi::FunctionReference>>;

// What native filters ask, for a client, of what is in JavaScript behind them: one question after
// the other.
class ScriptQuestions {
public:
  // On JavaScript's thread. `answer(question, name, readonly, done)` calls done once: with nothing
  // if it has failed, and has logged that; else with
  //   "open": the export's number as a connection of the bridge, and what describes it,
  //   "preconnect": a boolean,
  //   "listExports": [{ name, description }, ...],
  //   "defaultExport": a string.
  // The function is released with this object; its owner, a JavaScript object, releases it with the
  // environment at the latest. `keeper`: the owner's list, from which it is removed when it is
  // released with this object; or nullptr.
  ScriptQuestions(Napi::Env env, std::weak_ptr<Napi::FunctionReference> answer,
                  std::shared_ptr<backend::ScriptBridge> bridge,
                  const std::shared_ptr<KeptFunctions> &keeper);
  ScriptQuestions(const ScriptQuestions &) = delete;
  ScriptQuestions &operator=(const ScriptQuestions &) = delete;

  // All wait for the script, so not on its thread. nullptr, false or std::nullopt on failure.
  std::unique_ptr<backend::Backend> open(const std::string &name, bool readonly);
  bool preconnect(bool readonly);
  std::optional<std::vector<backend::ExportEntry>> list_exports(bool readonly);
  std::optional<std::string> default_export(bool readonly);

  // Nobody waits any more, now or later. If the script still opens something, it must close it. Any
  // thread.
  void give_up();
  // The same, but only for the question that is being asked now.
  void abandon();

private:
  struct Answer;
  struct Shared;

  Answer ask(const char *question, const std::string &name, bool readonly);

  const std::shared_ptr<Shared> shared_;
};

} // namespace asyncnbd::addon
