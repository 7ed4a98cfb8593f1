// Functions for a server's own process that Node does not have.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

void define_process_functions(Napi::Env env, Napi::Object exports);

} // namespace asyncnbd::addon
