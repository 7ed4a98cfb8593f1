// Profiles in the files of AWS' tools: ~/.aws/credentials and ~/.aws/config.
#ifndef ASYNCNBD_S3_PROFILE_HPP
#define ASYNCNBD_S3_PROFILE_HPP

#include <map>
#include <optional>
#include <string>

namespace s3 {

using Profile = std::map<std::string, std::string>;

/// What both files say of it; where both do, credentials has the last word. "" is the default
/// profile. Nothing, if it is in neither.
std::optional<Profile> read_profile(const std::string &name);

/// "" where the profile does not say it.
std::string value_of(const Profile &profile, const char *name);

/// Both files' names, for messages.
std::string profile_files();

/// The lines of one section of such a file's text, if it is there.
std::optional<Profile> parse_section(const std::string &text, const std::string &section);

/// A small file's text without the space around it; "" if it cannot be read.
std::string read_small_file(const std::string &path);

} // namespace s3

#endif
