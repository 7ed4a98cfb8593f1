// JavaScript's functions to load what servers need for TLS.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// loadTls, dropTls.
void define_tls_functions(Napi::Env env, Napi::Object exports);

} // namespace asyncnbd::addon
