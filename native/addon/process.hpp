// What a server does to its own process and Node has no function for.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

void define_process_functions(Napi::Env env, Napi::Object exports);

} // namespace asyncnbd::addon
