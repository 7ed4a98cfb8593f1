// What the s3 plugin is told by its parameters and the environment.
#ifndef ASYNCNBD_S3_SETTINGS_HPP
#define ASYNCNBD_S3_SETTINGS_HPP

#include <cstdint>
#include <optional>
#include <string>

#include "http-client.hpp"

namespace s3 {

struct Settings {
  std::string bucket;
  std::string key; // of the object, or what the names of a volume's objects begin with
  std::optional<uint64_t> size_bytes; // of a volume
  std::optional<uint64_t> object_bytes;

  std::string access_key; // "": where AWS' tools look for it
  std::string secret_key;
  std::string session_token;
  std::string profile;
  bool is_profile_given = false; // by parameter: it goes before the environment
  bool is_anonymous = false;

  std::string endpoint_url; // "": Amazon's
  std::string region;
  std::optional<bool> path_style;

  bool is_readonly = false;
  bool single_writer = false;
  std::string sse;
  std::string sse_kms_key_id;

  http::Settings http;
  http::Retry retry{.attempts = 10'000}; // what counts is the deadline
};

/// Takes one parameter. False: nbdkit_error() has been told.
bool set_parameter(Settings &settings, const std::string &key, const std::string &value);
/// After the last one: adds what the environment and the profile's files say.
bool complete(Settings &settings);

extern const char *const PARAMETERS_HELP;

/// An environment variable's value, or "".
std::string from_environment(const char *name);

} // namespace s3

#endif
