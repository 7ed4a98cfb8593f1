// See tls_wrap.hpp.
#include "addon/tls_wrap.hpp"

#include "addon/runtime.hpp"

namespace asyncnbd::addon {

namespace {

// loadTls({ caCertificates, certificate, key, revocations, preSharedKeys, verifyPeer, minVersion,
// maxVersion, ciphers, cipherSuites }): returns a number, or an error message.
Napi::Value load_tls(const Napi::CallbackInfo &info) {
  Napi::Object given = info[0].As<Napi::Object>();
  auto text = [&given](const char *key) -> std::string {
    Napi::Value value = given.Get(key);
    return value.IsString() ? value.As<Napi::String>() : std::string();
  };
  auto version = [&given](const char *key, int otherwise) {
    Napi::Value value = given.Get(key);
    if (!value.IsString())
      return otherwise;
    return value.As<Napi::String>().Utf8Value() == "TLSv1.3" ? TLS1_3_VERSION : TLS1_2_VERSION;
  };
  transport::TlsOptions options;
  options.ca_certificates = text("caCertificates");
  options.certificate = text("certificate");
  options.key = text("key");
  options.revocations = text("revocations");
  options.pre_shared_keys = text("preSharedKeys");
  options.verify_peer = given.Get("verifyPeer").ToBoolean();
  options.min_version = version("minVersion", TLS1_2_VERSION);
  options.max_version = version("maxVersion", 0);
  options.ciphers = text("ciphers");
  options.cipher_suites = text("cipherSuites");
  std::string error;
  std::shared_ptr<transport::TlsContext> context = transport::TlsContext::load(options, &error);
  if (!context)
    return Napi::String::New(info.Env(), error);
  return Napi::Number::New(info.Env(), tls_contexts().add(std::move(context)));
}

Napi::Value drop_tls(const Napi::CallbackInfo &info) {
  tls_contexts().drop(info[0].As<Napi::Number>().Uint32Value());
  return info.Env().Undefined();
}

} // namespace

void define_tls_functions(Napi::Env env, Napi::Object exports) {
  exports.Set("loadTls", Napi::Function::New(env, load_tls));
  exports.Set("dropTls", Napi::Function::New(env, drop_tls));
}

} // namespace asyncnbd::addon
