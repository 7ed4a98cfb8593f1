// Profiles in the files of AWS's tools: ~/.aws/credentials and ~/.aws/config.
#ifndef ASYNCNBD_S3_PROFILE_HPP
#define ASYNCNBD_S3_PROFILE_HPP

#include <map>
#include <optional>
#include <string>

#include "s3-settings.hpp"

namespace s3 {

using Profile = std::map<std::string, std::string>;

/// The profile of the settings, from both files; credentials overrides config. "" is the default
/// profile. No value if neither file has it.
std::optional<Profile> read_profile(const Settings &settings);

/// "" if the profile does not have it.
std::string value_of(const Profile &profile, const char *name);

/// Both files' names, for messages.
std::string profile_files(const Environment &environment);

/// The settings in one section of such a file's text, if the section exists.
std::optional<Profile> parse_section(const std::string &text, const std::string &section);

/// A small file's text without surrounding space; "" if it cannot be read.
std::string read_small_file(const std::string &path);

} // namespace s3

#endif
