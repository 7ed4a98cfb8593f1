// What servers have loaded for TLS, by numbers that JavaScript can give to any of its threads.
#pragma once

#include <memory>
#include <napi.h>

#include "transport/tls.hpp"

namespace asyncnbd::addon {

// loadTls, dropTls.
void define_tls_functions(Napi::Env env, Napi::Object exports);

// nullptr: it has been dropped.
std::shared_ptr<transport::TlsContext> tls_context(uint32_t number);

} // namespace asyncnbd::addon
