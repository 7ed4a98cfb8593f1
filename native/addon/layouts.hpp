// Where native code and TypeScript share memory or lists of numbers: how they lie there.
#pragma once

#include <napi.h>

namespace asyncnbd::addon {

// layouts of src/addon/types.ts. A test compares them with what TypeScript has written down.
Napi::Object layouts(Napi::Env env);

} // namespace asyncnbd::addon
