// Keys from parameters, the environment and profiles. See s3-credentials.hpp.
#include "s3-credentials.hpp"

#include <ctime>

#include "s3-profile.hpp"

namespace s3 {

namespace {

/// Names a setting that AWS's tools support and this plugin does not, so that its user knows why
/// there are no keys.
std::string unknown_kind(const Profile &values) {
  for (const char *name : {"credential_process", "sso_session", "sso_start_url", "role_arn"}) {
    if (!value_of(values, name).empty())
      return std::string("its ") + name +
             " is not supported; use the keys that `aws configure export-credentials` prints";
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
  const Environment &environment = settings.http.environment;
  Keys keys{environment.value_of("AWS_ACCESS_KEY_ID"),
            environment.value_of("AWS_SECRET_ACCESS_KEY"),
            environment.value_of("AWS_SESSION_TOKEN"),
            {}};
  if (keys.id.empty() && keys.secret.empty())
    return {};
  if (keys.id.empty() || keys.secret.empty())
    return {{}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together: set both"};
  return {keys, ""};
}

Answer keys_of_profile(const Settings &settings) {
  const auto profile = read_profile(settings);
  if (!profile && !settings.profile.empty())
    return {{},
            "there is no profile \"" + settings.profile + "\" in " +
                profile_files(settings.http.environment)};
  const Profile values = profile.value_or(Profile{});
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
