// See s3-profile.hpp.
#include "s3-profile.hpp"

#include <cstdio>
#include <sstream>

namespace s3 {

namespace {

constexpr size_t MAX_FILE_BYTES = 1 << 20;
constexpr const char *SPACE = " \t\r\n";

std::string trimmed(const std::string &text) {
  const size_t begin = text.find_first_not_of(SPACE);
  if (begin == std::string::npos)
    return "";
  return text.substr(begin, text.find_last_not_of(SPACE) - begin + 1);
}

std::string path_of(const Environment &environment, const char *variable, const char *name) {
  const std::string given = environment.value_of(variable);
  return given.empty() ? environment.value_of("HOME") + "/.aws/" + name : given;
}

std::string config_path(const Environment &environment) {
  return path_of(environment, "AWS_CONFIG_FILE", "config");
}

std::string credentials_path(const Environment &environment) {
  return path_of(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
}

} // namespace

std::string read_small_file(const std::string &path) {
  FILE *const file = fopen(path.c_str(), "re");
  if (file == nullptr)
    return "";
  std::string text(MAX_FILE_BYTES, '\0');
  text.resize(fread(text.data(), 1, text.size(), file));
  fclose(file);
  return trimmed(text);
}

std::optional<Profile> parse_section(const std::string &text, const std::string &section) {
  std::optional<Profile> values;
  std::istringstream lines(text);
  bool is_in = false;
  for (std::string line; std::getline(lines, line);) {
    const std::string words = trimmed(line);
    if (words.empty() || words[0] == '#' || words[0] == ';')
      continue;
    if (words[0] == '[') {
      is_in = trimmed(words.substr(1, words.find(']') - 1)) == section;
      if (is_in && !values)
        values.emplace();
      continue;
    }
    const size_t equals = words.find('=');
    // Indented lines belong to the setting above, such as s3 =.
    const bool is_nested = line[0] == ' ' || line[0] == '\t';
    if (is_in && !is_nested && equals != std::string::npos)
      (*values)[trimmed(words.substr(0, equals))] = trimmed(words.substr(equals + 1));
  }
  return values;
}

std::optional<Profile> read_profile(const Settings &settings) {
  const Environment &environment = settings.http.environment;
  const std::string section = settings.profile.empty() ? "default" : settings.profile;
  const std::string config = read_small_file(config_path(environment));
  auto profile = parse_section(config, section == "default" ? section : "profile " + section);
  const auto keys = parse_section(read_small_file(credentials_path(environment)), section);
  if (keys && !profile)
    profile.emplace();
  for (const auto &[key, value] : keys.value_or(Profile{}))
    (*profile)[key] = value;
  return profile;
}

std::string value_of(const Profile &profile, const char *name) {
  const auto found = profile.find(name);
  return found == profile.end() ? "" : found->second;
}

std::string profile_files(const Environment &environment) {
  return credentials_path(environment) + " or " + config_path(environment);
}

} // namespace s3
