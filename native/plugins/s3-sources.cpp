// Keys from parameters, the environment and profiles. See s3-credentials.hpp.
#include "s3-credentials.hpp"

#include <ctime>
#include <map>

#include "s3-profile.hpp"

namespace s3 {

namespace {

using Values = std::map<std::string, std::string>;

std::string value_of(const Values &values, const char *name) {
  const auto found = values.find(name);
  return found == values.end() ? "" : found->second;
}

/// What AWS' tools know and this plugin does not, so that nobody wonders where their keys are.
std::string unknown_kind(const Values &values) {
  for (const char *name : {"credential_process", "sso_session", "sso_start_url", "role_arn"}) {
    if (!value_of(values, name).empty())
      return std::string("its ") + name +
             " is not supported; have `aws configure export-credentials` write keys";
  }
  return "";
}

} // namespace

std::optional<std::chrono::system_clock::time_point> parse_time(const std::string &text) {
  std::tm parts{};
  const char *const rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr)
    return std::nullopt;
  return std::chrono::system_clock::from_time_t(timegm(&parts));
}

Answer keys_of_parameters(const Settings &settings) {
  if (settings.access_key.empty())
    return {};
  return {Keys{settings.access_key, settings.secret_key, settings.session_token, {}}, ""};
}

Answer keys_of_environment(const Settings &settings) {
  // A profile that was asked for by parameter is meant.
  const bool is_asked_for =
      !settings.profile.empty() && settings.profile != from_environment("AWS_PROFILE");
  Keys keys{from_environment("AWS_ACCESS_KEY_ID"),
            from_environment("AWS_SECRET_ACCESS_KEY"),
            from_environment("AWS_SESSION_TOKEN"),
            {}};
  if (is_asked_for || (keys.id.empty() && keys.secret.empty()))
    return {};
  if (keys.id.empty() || keys.secret.empty())
    return {{}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together in the environment"};
  return {keys, ""};
}

Answer keys_of_profile(const Settings &settings) {
  const Values values = read_profile(settings.profile);
  Keys keys{value_of(values, "aws_access_key_id"),
            value_of(values, "aws_secret_access_key"),
            value_of(values, "aws_session_token"),
            {}};
  if (!keys.id.empty() && !keys.secret.empty())
    return {keys, ""};
  const std::string unknown = unknown_kind(values);
  if (settings.profile.empty() && unknown.empty())
    return {};
  const std::string name = settings.profile.empty() ? "default" : settings.profile;
  return {{},
          "the profile \"" + name + "\" has no aws_access_key_id and aws_secret_access_key" +
              (unknown.empty() ? "" : ", and " + unknown)};
}

} // namespace s3
