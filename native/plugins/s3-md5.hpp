// The digest that S3 asks for with some requests: Content-MD5. It detects damage, and protects
// nothing.
#ifndef ASYNCNBD_S3_MD5_HPP
#define ASYNCNBD_S3_MD5_HPP

#include <string>
#include <string_view>

namespace s3 {

/// MD5 (RFC 1321), in base64.
std::string content_md5(std::string_view text);

} // namespace s3

#endif
