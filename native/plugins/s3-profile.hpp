// Profiles in the files of AWS' tools: ~/.aws/credentials and ~/.aws/config.
#ifndef ASYNCNBD_S3_PROFILE_HPP
#define ASYNCNBD_S3_PROFILE_HPP

#include <map>
#include <string>

namespace s3 {

/// What both files say of it; where both do, credentials has the last word. "" is the default
/// profile; one that is not there is empty.
std::map<std::string, std::string> read_profile(const std::string &name);

/// The lines of one section of such a file's text.
std::map<std::string, std::string> parse_section(const std::string &text,
                                                 const std::string &section);

/// A small file's text without the space around it; "" if it cannot be read.
std::string read_small_file(const std::string &path);

} // namespace s3

#endif
