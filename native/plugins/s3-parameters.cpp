// Parameters of the s3 plugin. See s3-settings.hpp.
#include "s3-settings.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "s3-profile.hpp"
#include "warning.hpp"

namespace s3 {

namespace {

constexpr uint64_t MAX_OBJECT_BYTES = 64 << 20; // the most that one NBD request can write

/// The memory in which the kernel shows this process's command line to everybody.
struct CommandLine {
  char *begin = nullptr;
  char *end = nullptr;
};

CommandLine command_line() {
  CommandLine found;
  FILE *const file = fopen("/proc/self/stat", "re");
  if (file == nullptr)
    return found;
  char text[4096] = "";
  const size_t length = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[length] = '\0';
  const char *at = strrchr(text, ')'); // a program's name may contain anything before that
  // The fields 48 and 49 are arg_start and arg_end. The first field after the name is the third.
  for (int field = 2; at != nullptr && field < 48; field++) {
    at = strchr(at, ' ');
    if (at != nullptr)
      at++;
  }
  unsigned long long begin = 0, end = 0;
  if (at != nullptr && sscanf(at, "%llu %llu", &begin, &end) == 2 && begin < end) {
    found.begin = reinterpret_cast<char *>(begin);
    found.end = reinterpret_cast<char *>(end);
  }
  return found;
}

/// Replaces the secret in the command line by stars, so that `ps` does not show it. Whether it was
/// there.
bool blank_in_command_line(const std::string &secret) {
  const CommandLine words = command_line();
  bool was_there = false;
  char *at = words.begin;
  while (!secret.empty() && at < words.end) {
    void *const place =
        memmem(at, static_cast<size_t>(words.end - at), secret.data(), secret.size());
    if (place == nullptr)
      break;
    memset(place, '*', secret.size());
    at = static_cast<char *>(place) + secret.size();
    was_there = true;
  }
  return was_there;
}

bool set_secret(std::string &setting, const char *name, const std::string &value) {
  char *secret = nullptr;
  if (nbdkit_read_password(value.c_str(), &secret) == -1)
    return false;
  setting = secret;
  if (value == setting && blank_in_command_line(setting))
    warn_operator(std::string(name) +
                  "=: other users could read it on the command line until now; use " + name +
                  "=+FILE or the environment instead");
  explicit_bzero(secret, strlen(secret));
  free(secret);
  return true;
}

/// The access key is less secret than the others: there is no warning.
bool set_access_key(std::string &setting, const std::string &value) {
  char *key = nullptr;
  if (nbdkit_read_password(value.c_str(), &key) == -1)
    return false;
  setting = key;
  free(key);
  return true;
}

/// Refuses a bare word, which nbdkit passes as `script`.
bool refuse_bare_word(const std::string &word) {
  const std::string path = word.starts_with("s3://") ? word.substr(5) : word;
  const size_t slash = path.find('/');
  const bool has_both = slash != std::string::npos && slash > 0 && slash + 1 < path.size();
  nbdkit_error("\"%s\": use bucket=%s key=%s", word.c_str(),
               has_both ? path.substr(0, slash).c_str() : "BUCKET",
               has_both ? path.substr(slash + 1).c_str() : "KEY");
  return false;
}

bool set_bool(bool &setting, const std::string &value) {
  const int answer = nbdkit_parse_bool(value.c_str());
  setting = answer == 1;
  return answer != -1;
}

bool set_bytes(std::optional<uint64_t> &setting, const char *name, const std::string &value) {
  const int64_t bytes = nbdkit_parse_size(value.c_str());
  if (bytes == 0)
    nbdkit_error("%s=%s: must be greater than 0", name, value.c_str());
  if (bytes <= 0)
    return false;
  setting = static_cast<uint64_t>(bytes);
  return true;
}

bool set_path(std::string &setting, const std::string &value) {
  char *const path = nbdkit_absolute_path(value.c_str()); // the server changes directory
  if (path == nullptr)
    return false;
  setting = path;
  free(path);
  return true;
}

bool set_count(unsigned &setting, const char *name, const std::string &value, unsigned least) {
  unsigned number = 0;
  if (nbdkit_parse_unsigned(name, value.c_str(), &number) == -1)
    return false;
  if (number < least) {
    nbdkit_error("%s=%s: must be at least %u", name, value.c_str(), least);
    return false;
  }
  setting = number;
  return true;
}

bool set_time(unsigned &setting_ms, const char *name, const std::string &value) {
  unsigned seconds = 0, nanoseconds = 0;
  if (nbdkit_parse_delay(name, value.c_str(), &seconds, &nanoseconds) == -1)
    return false;
  if (seconds > 24 * 60 * 60) {
    nbdkit_error("%s=%s: must be at most one day", name, value.c_str());
    return false;
  }
  setting_ms = seconds * 1000 + (nanoseconds + 999'999) / 1'000'000;
  return true;
}

/// Refuses characters that would begin another header.
bool set_text(std::string &setting, const std::string &name, const std::string &value) {
  for (const char c : value) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      nbdkit_error("%s=: control characters are not allowed", name.c_str());
      return false;
    }
  }
  setting = value;
  return true;
}

bool set_number_or_time(Settings &settings, const std::string &key, const std::string &value,
                        bool &is_known) {
  is_known = true;
  if (key == "connections")
    return set_count(settings.http.connections, "connections", value, 1);
  if (key == "retries") {
    unsigned retries = 0;
    if (!set_count(retries, "retries", value, 0))
      return false;
    settings.retry.attempts = retries == ~0U ? retries : retries + 1;
    return true;
  }
  if (key == "retry-delay")
    return set_time(settings.retry.delay_ms, "retry-delay", value);
  if (key == "timeout")
    return set_time(settings.http.silence_ms, "timeout", value);
  if (key == "connect-timeout")
    return set_time(settings.http.connect_timeout_ms, "connect-timeout", value);
  if (key == "deadline")
    return set_time(settings.retry.deadline_ms, "deadline", value);
  is_known = false;
  return true;
}

bool set_flag(Settings &settings, const std::string &key, const std::string &value,
              bool &is_known) {
  is_known = true;
  if (key == "path-style") {
    bool is_on = false;
    const bool is_right = set_bool(is_on, value);
    settings.path_style = is_on;
    return is_right;
  }
  if (key == "anonymous")
    return set_bool(settings.is_anonymous, value);
  if (key == "single-writer")
    return set_bool(settings.single_writer, value);
  if (key == "read-only")
    return set_bool(settings.is_readonly, value);
  if (key == "sslverify")
    return set_bool(settings.http.verifies_tls, value);
  is_known = false;
  return true;
}

std::string *text_setting(Settings &settings, const std::string &key) {
  return key == "bucket"           ? &settings.bucket
         : key == "key"            ? &settings.key
         : key == "region"         ? &settings.region
         : key == "profile"        ? &settings.profile
         : key == "endpoint-url"   ? &settings.endpoint_url
         : key == "sse"            ? &settings.sse
         : key == "sse-kms-key-id" ? &settings.sse_kms_key_id
         : key == "proxy"          ? &settings.http.proxy
                                   : nullptr;
}

bool check_place(const Settings &settings) {
  if (settings.bucket.empty() || settings.key.empty()) {
    nbdkit_error("%s= is missing: give bucket=BUCKET key=OBJECT to serve an object, and also "
                 "size=SIZE object-size=SIZE to serve a volume of objects",
                 settings.bucket.empty() ? "bucket" : "key");
    return false;
  }
  if (settings.size_bytes.has_value() != settings.object_bytes.has_value()) {
    nbdkit_error("size= and object-size= belong together: a volume needs both");
    return false;
  }
  if (!settings.size_bytes)
    return true;
  if (*settings.object_bytes > MAX_OBJECT_BYTES) {
    nbdkit_error("object-size=: at most 64M, because writing a part of an object writes all "
                 "of it");
    return false;
  }
  if (*settings.size_bytes % *settings.object_bytes != 0) {
    nbdkit_error("size= must be a multiple of object-size=");
    return false;
  }
  return true;
}

bool check_keys(const Settings &settings) {
  if (settings.access_key.empty() != settings.secret_key.empty()) {
    nbdkit_error("access-key= and secret-key= belong together: give both");
    return false;
  }
  if (settings.is_anonymous && !settings.access_key.empty()) {
    nbdkit_error("anonymous=true uses no keys: leave out access-key= and secret-key=");
    return false;
  }
  if (!settings.sse.empty() && settings.sse != "AES256" && settings.sse != "aws:kms") {
    nbdkit_error("sse=%s: use AES256 or aws:kms", settings.sse.c_str());
    return false;
  }
  if (!settings.sse_kms_key_id.empty() && settings.sse != "aws:kms") {
    nbdkit_error("sse-kms-key-id= needs sse=aws:kms");
    return false;
  }
  return true;
}

} // namespace

bool set_parameter(Settings &settings, const std::string &given, const std::string &value) {
  // nbdkit's plugin accepts some of them with underscores too.
  const std::string key = given == "access_key"      ? "access-key"
                          : given == "secret_key"    ? "secret-key"
                          : given == "session_token" ? "session-token"
                          : given == "endpoint_url"  ? "endpoint-url"
                                                     : given;
  if (key == "access-key")
    return set_access_key(settings.access_key, value);
  if (key == "secret-key")
    return set_secret(settings.secret_key, "secret-key", value);
  if (key == "session-token")
    return set_secret(settings.session_token, "session-token", value);
  if (key == "size")
    return set_bytes(settings.size_bytes, "size", value);
  if (key == "object-size")
    return set_bytes(settings.object_bytes, "object-size", value);
  if (key == "cainfo")
    return set_path(settings.http.ca_file, value);
  if (key == "capath")
    return set_path(settings.http.ca_directory, value);
  bool is_known = false;
  const bool is_right = set_number_or_time(settings, key, value, is_known);
  if (is_known)
    return is_right;
  const bool is_flag_right = set_flag(settings, key, value, is_known);
  if (is_known)
    return is_flag_right;
  std::string *const text = text_setting(settings, key);
  if (text != nullptr)
    return set_text(*text, key, value);
  if (key == "script")
    return refuse_bare_word(value);
  nbdkit_error("unknown parameter \"%s\"", given.c_str());
  return false;
}

bool complete(Settings &settings) {
  if (!check_place(settings) || !check_keys(settings))
    return false;
  settings.http.environment = Environment::copied();
  const Environment &environment = settings.http.environment;
  settings.is_profile_given = !settings.profile.empty();
  if (!settings.is_profile_given)
    settings.profile = environment.value_of("AWS_PROFILE");
  const auto profile = read_profile(settings).value_or(Profile{});
  if (settings.endpoint_url.empty())
    settings.endpoint_url = environment.first_of("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
  if (settings.region.empty())
    settings.region = environment.first_of("AWS_REGION", "AWS_DEFAULT_REGION");
  if (settings.endpoint_url.empty())
    settings.endpoint_url = value_of(profile, "endpoint_url");
  if (settings.region.empty())
    settings.region = value_of(profile, "region");
  if (settings.region.empty())
    settings.region = "us-east-1";
  return true;
}

const char *const PARAMETERS_HELP =
    "bucket=<BUCKET>         The bucket with the object or the volume.\n"
    "key=<KEY>               The object to serve, read-only; or the prefix of a volume's objects,\n"
    "                        of which KEY/0000000000000000 is the first.\n"
    "size=<SIZE>             Serve a volume of this size, to read and write.\n"
    "object-size=<SIZE>      The size of each of the volume's objects.\n"
    "access-key=<ID>         The access key; by default, keys are looked for as AWS's tools do:\n"
    "                        in the environment, profile files, the container and the machine.\n"
    "secret-key=<SECRET>     The secret key; -, -FD and +FILE keep it out of ps.\n"
    "session-token=<TOKEN>   The session token, if the keys have one; as with secret-key=.\n"
    "profile=<NAME>          The profile in ~/.aws to use, instead of $AWS_PROFILE.\n"
    "anonymous=true          Do not sign requests: the bucket is public.\n"
    "endpoint-url=<URL>      The store's URL, if it is not Amazon's.\n"
    "region=<REGION>         The bucket's region, us-east-1 by default.\n"
    "path-style=<BOOL>       Put the bucket in the URL's path (true) or host name (false).\n"
    "read-only=true          Serve the volume read-only.\n"
    "single-writer=true      Write without conditions: no other server writes to the volume.\n"
    "sse=<ALGORITHM>         Have the store encrypt what is written: AES256 or aws:kms.\n"
    "sse-kms-key-id=<ID>     The key for aws:kms.\n"
    "connections=<N>         How many requests may be sent at once, 64 by default.\n"
    "retries=<N>             How often to retry a failed request; by default, until deadline=.\n"
    "retry-delay=<TIME>      The pause before the first retry, 500ms by default; then doubled.\n"
    "timeout=<TIME>          How long the store may be silent, 30s by default.\n"
    "connect-timeout=<TIME>  How long to try to connect, 10s by default.\n"
    "deadline=<TIME>         How long to try a request in all, 60s by default.\n"
    "cainfo=<FILE>, capath=<DIRECTORY>\n"
    "                        Certificates to trust, instead of the system's.\n"
    "sslverify=false         Trust any certificate.\n"
    "proxy=<URL>             The proxy, instead of $https_proxy and $http_proxy.";

} // namespace s3
