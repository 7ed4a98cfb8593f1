// Exports that a script opens for a client, and again for a native filter in front that asks for
// it.
#pragma once

#include <memory>
#include <napi.h>
#include <vector>

#include "backend/script_bridge.hpp"

namespace asyncnbd::addon {

// What requests to such an export go through. `connection`: the script's number for it;
// `described`: { capabilities, description, blockSizes, turns }. JavaScript's thread.
std::unique_ptr<backend::Backend>
backend_of_script(const std::shared_ptr<backend::ScriptBridge> &bridge, uint32_t connection,
                  const Napi::Object &described);

// Functions that may be needed for longer than the clients for whom they were made. JavaScript's
// thread's alone.
using KeptFunctions = std::vector<std::shared_ptr<Napi::FunctionReference>>;

// Has one opened again, one time after the other.
class ScriptOpening {
public:
  // By JavaScript's thread. `open(readonly, done)` calls done(connection, described), or done() if
  // it cannot be opened, which has been logged then. It is let go with this; its owner, an object
  // of JavaScript's, takes care that it goes with the environment at the latest. `keeper`: the
  // owner's list that it is to be taken from then, or nullptr.
  ScriptOpening(Napi::Env env, std::weak_ptr<Napi::FunctionReference> open,
                std::shared_ptr<backend::ScriptBridge> bridge,
                const std::shared_ptr<KeptFunctions> &keeper);
  ScriptOpening(const ScriptOpening &) = delete;
  ScriptOpening &operator=(const ScriptOpening &) = delete;

  // Waits for the script, so not on its thread. nullptr on failure.
  std::unique_ptr<backend::Backend> open(bool readonly);
  // Nobody waits any more, now or later. What the script opens all the same, it is to close. Any
  // thread.
  void give_up();

private:
  struct Shared;

  const std::shared_ptr<Shared> shared_;
};

} // namespace asyncnbd::addon
