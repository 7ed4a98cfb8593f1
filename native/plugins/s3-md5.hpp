// The digest that S3 requires with some requests: Content-MD5. It detects damage, but does not
// protect against an attack.
#ifndef ASYNCNBD_S3_MD5_HPP
#define ASYNCNBD_S3_MD5_HPP

#include <string>
#include <string_view>

namespace s3 {

/// MD5 (RFC 1321), in base64.
std::string content_md5(std::string_view text);

} // namespace s3

#endif
