// Loads what servers need for TLS, when JavaScript asks for it.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// loadTls, dropTls.
void define_tls_functions(Napi::Env env, Napi::Object exports);

} // namespace asyncnbd::addon
