// Chains of native filters by number, as JavaScript makes them from the parameters it has parsed:
// threads that serve clients of one server find the same chain.
#pragma once

#include <memory>
#include <napi.h>

#include "backend/chain.hpp"

namespace asyncnbd::addon {

// makeChain, readyChain, dropChain.
void define_chain_functions(Napi::Env env, Napi::Object exports);

// The chain with this number; nullptr for none.
std::shared_ptr<backend::Chain> chain_of(const Napi::Value &number);

} // namespace asyncnbd::addon
