// The s3 plugin's settings, from its parameters and the environment.
#ifndef ASYNCNBD_S3_SETTINGS_HPP
#define ASYNCNBD_S3_SETTINGS_HPP

#include <cstdint>
#include <optional>
#include <string>

#include "http-client.hpp"

namespace s3 {

struct Settings {
  std::string bucket;
  std::string key;                    // of the object, or the prefix of a volume's objects
  std::optional<uint64_t> size_bytes; // of a volume
  std::optional<uint64_t> object_bytes;

  std::string access_key; // "": keys are looked for as AWS's tools do
  std::string secret_key;
  std::string session_token;
  std::string profile;
  bool is_profile_given = false; // by the parameter, which overrides the environment
  bool is_anonymous = false;

  std::string endpoint_url; // "": Amazon's
  std::string region;
  std::optional<bool> path_style;

  bool is_readonly = false;
  bool single_writer = false;
  std::string sse;
  std::string sse_kms_key_id;

  http::Settings http;
  http::Retry retry{.attempts = 10'000}; // so many that only the deadline limits them
};

/// Takes one parameter. False on failure, after nbdkit_error().
bool set_parameter(Settings &settings, const std::string &key, const std::string &value);
/// Call it after the last parameter: adds settings from the environment and the profile's files.
/// False on failure, after nbdkit_error().
bool complete(Settings &settings);

extern const char *const PARAMETERS_HELP;

} // namespace s3

#endif
