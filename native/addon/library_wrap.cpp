// See library_wrap.hpp.
#include "addon/library_wrap.hpp"

namespace asyncnbd::addon {

Napi::Value failure_to_js(Napi::Env env, const backend::CPlugin::Failure &failure) {
  if (!failure)
    return env.Undefined();
  Napi::Object object = Napi::Object::New(env);
  object.Set("words", failure->words);
  object.Set("isLogged", failure->is_logged);
  return object;
}

void set_if_any(Napi::Object object, const char *key, const char *text) {
  if (text != nullptr)
    object.Set(key, text);
}

} // namespace asyncnbd::addon
