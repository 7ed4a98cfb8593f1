// The layouts of memory and lists of numbers that native code and TypeScript share.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// layouts of src/addon/types.ts. A test compares them with TypeScript's.
Napi::Object layouts(Napi::Env env);

} // namespace asyncnbd::addon
