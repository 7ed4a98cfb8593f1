// Keys from HTTP services: that of the container, that of the machine, and STS for a web identity.
// See s3-credentials.hpp.
#include "s3-credentials.hpp"

#include <arpa/inet.h>
#include <nlohmann/json.hpp>

#include "s3-profile.hpp"
#include "s3-store.hpp"
#include "s3-xml.hpp"

namespace s3 {

namespace {

using Json = nlohmann::json;

std::string string_of(const Json &object, const char *name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

Keys keys_of(const Json &object) {
  Keys keys;
  if (!object.is_object())
    return keys;
  keys.id = string_of(object, "AccessKeyId");
  keys.secret = string_of(object, "SecretAccessKey");
  keys.token = string_of(object, "SessionToken");
  if (keys.token.empty())
    keys.token = string_of(object, "Token");
  const auto end = object.find("Expiration");
  if (end != object.end() && end->is_number()) // STS sends a number
    keys.end = std::chrono::system_clock::from_time_t(end->get<time_t>());
  else
    keys.end = parse_time(string_of(object, "Expiration"));
  if (keys.secret.empty())
    keys.id.clear();
  return keys;
}

/// A service that gives keys. Each has an HTTP client of its own, because it is rarely asked.
class Service {
public:
  Service(const Settings &settings, bool is_near) {
    http::Settings own;
    own.environment = settings.http.environment;
    if (is_near) { // in this machine, or not reachable through a proxy
      own.uses_proxy = false;
      own.connect_timeout_ms = 1000;
      own.silence_ms = 5000;
    } else {
      own = settings.http;
    }
    own.connections = 1;
    client_ = http::Client::start(std::move(own));
  }
  bool is_there() const { return client_ != nullptr; }
  http::Response ask(http::Request request, unsigned attempts) {
    request.retry.attempts = attempts;
    request.retry.delay_ms = 200;
    request.retry.deadline_ms = 10'000; // short, because a stopping server waits for it
    return client_->perform(std::move(request));
  }

private:
  std::unique_ptr<http::Client> client_;
};

Answer wrong_answer(const char *whom, const http::Response &response) {
  if (response.is_ok())
    return {{}, std::string(whom) + " has sent no keys"};
  return {{}, std::string(whom) + ": " + http::explain(response)};
}

/// AWS's rule: keys may come only by https, from this machine, or from the addresses of container
/// services.
bool may_have_token(const std::string &url) {
  const std::optional<http::Url> parts = http::parse_url(url);
  if (!parts)
    return false;
  if (parts->origin.starts_with("https:"))
    return true;
  std::string host = parts->origin.substr(parts->origin.find("//") + 2);
  if (host.starts_with('[')) {
    host = host.substr(1, host.find(']') - 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  in_addr address{};
  if (inet_pton(AF_INET, host.c_str(), &address) == 1)
    return ntohl(address.s_addr) >> 24 == 127 || host == "169.254.170.2" ||
           host == "169.254.170.23";
  return host == "localhost" || host == "::1" || host == "fd00:ec2::23";
}

std::string of_file_or(const Environment &environment, const char *file_variable,
                       const char *variable) {
  const std::string path = environment.value_of(file_variable);
  return path.empty() ? environment.value_of(variable) : read_small_file(path);
}

bool is_one_line(const std::string &text) {
  return text.find_first_of("\r\n") == std::string::npos;
}

} // namespace

Keys parse_keys(const std::string &json) {
  const Json parsed = Json::parse(json, nullptr, false); // without exceptions
  return keys_of(parsed);
}

Answer keys_of_container(const Settings &settings) {
  const Environment &environment = settings.http.environment;
  const std::string relative = environment.value_of("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const std::string url = relative.empty()
                              ? environment.value_of("AWS_CONTAINER_CREDENTIALS_FULL_URI")
                              : "http://169.254.170.2" + relative;
  if (url.empty())
    return {};
  if (!may_have_token(url))
    return {{},
            "AWS_CONTAINER_CREDENTIALS_FULL_URI must be an https URL, or name this machine or a "
            "container service"};
  http::Request request;
  request.url = url;
  const std::string token = of_file_or(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                                       "AWS_CONTAINER_AUTHORIZATION_TOKEN");
  if (!is_one_line(token))
    return {{}, "the container's authorization token must be one line"};
  if (!token.empty())
    request.headers = {"Authorization: " + token};
  Service service(settings, true);
  if (!service.is_there())
    return {{}, "there is no HTTP client"};
  const http::Response response = service.ask(std::move(request), 3);
  Keys keys = response.is_ok() ? parse_keys(response.text) : Keys{};
  if (keys.id.empty())
    return wrong_answer("the container's credential service", response);
  return {std::move(keys), ""};
}

Answer keys_of_machine(const Settings &settings) {
  const Environment &environment = settings.http.environment;
  const std::string disabled = environment.value_of("AWS_EC2_METADATA_DISABLED");
  if (disabled == "true" || disabled == "True" || disabled == "TRUE")
    return {};
  std::string endpoint = environment.value_of("AWS_EC2_METADATA_SERVICE_ENDPOINT");
  const bool is_given = !endpoint.empty();
  if (!is_given)
    endpoint = "http://169.254.169.254";
  while (endpoint.ends_with('/'))
    endpoint.pop_back();
  Service service(settings, true);
  if (!service.is_there())
    return {{}, "there is no HTTP client"};
  http::Request session;
  session.method = http::Method::put;
  session.url = endpoint + "/latest/api/token";
  session.headers = {"X-aws-ec2-metadata-token-ttl-seconds: 21600"};
  const http::Response granted = service.ask(std::move(session), 1);
  if (!granted.is_ok()) // probably not an Amazon machine
    return is_given ? wrong_answer("the machine's metadata service", granted) : Answer{};
  if (!is_one_line(granted.text))
    return wrong_answer("the machine's metadata service", granted);
  const auto get = [&](const std::string &name) {
    http::Request request;
    request.url = endpoint + "/latest/meta-data/iam/security-credentials/" + name;
    request.headers = {"X-aws-ec2-metadata-token: " + granted.text};
    return service.ask(std::move(request), 3);
  };
  const http::Response roles = get("");
  if (roles.status == 404)
    return {}; // the machine has no role
  const std::string role = roles.text.substr(0, roles.text.find_first_of("\r\n"));
  if (!roles.is_ok() || role.empty())
    return wrong_answer("the machine's metadata service", roles);
  const http::Response response = get(encoded(role, ""));
  Keys keys = response.is_ok() ? parse_keys(response.text) : Keys{};
  if (keys.id.empty())
    return wrong_answer("the machine's metadata service", response);
  return {std::move(keys), ""};
}

namespace {

struct Role {
  std::string token_file;
  std::string arn;
  std::string session;
};

Role role_of(const Settings &settings) {
  const Environment &environment = settings.http.environment;
  Role role{environment.value_of("AWS_WEB_IDENTITY_TOKEN_FILE"),
            environment.value_of("AWS_ROLE_ARN"), environment.value_of("AWS_ROLE_SESSION_NAME")};
  if (role.token_file.empty() || settings.is_profile_given) {
    Profile profile = read_profile(settings).value_or(Profile{});
    role = {profile["web_identity_token_file"], profile["role_arn"], profile["role_session_name"]};
  }
  if (role.session.empty())
    role.session = "asyncnbd";
  return role;
}

/// Amazon answers in JSON on request; others know only XML.
Keys keys_of_sts(const std::string &text) {
  if (text.find("<AccessKeyId>") != std::string::npos) {
    Keys keys{text_of(text, "AccessKeyId"), text_of(text, "SecretAccessKey"),
              text_of(text, "SessionToken"), parse_time(text_of(text, "Expiration"))};
    return keys;
  }
  Json at = Json::parse(text, nullptr, false);
  for (const char *name :
       {"AssumeRoleWithWebIdentityResponse", "AssumeRoleWithWebIdentityResult", "Credentials"}) {
    if (!at.is_object() || !at.contains(name))
      return {};
    at = Json(at[name]);
  }
  return keys_of(at);
}

} // namespace

Answer keys_of_web_identity(const Settings &settings) {
  const Role role = role_of(settings);
  if (role.token_file.empty())
    return {};
  if (role.arn.empty())
    return {{},
            "the web identity's token in " + role.token_file +
                " needs AWS_ROLE_ARN, or role_arn in the profile"};
  const std::string token = read_small_file(role.token_file);
  if (token.empty())
    return {{}, "the web identity's token in " + role.token_file + " cannot be read"};
  std::string url = settings.http.environment.value_of("AWS_ENDPOINT_URL_STS");
  if (url.empty())
    url = "https://sts." + settings.region + ".amazonaws.com" +
          (settings.region.starts_with("cn-") ? ".cn" : "") + "/";
  const std::string body =
      "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=" + encoded(role.arn, "") +
      "&RoleSessionName=" + encoded(role.session, "") + "&WebIdentityToken=" + encoded(token, "");
  http::Request request;
  request.method = http::Method::post;
  request.url = url;
  request.headers = {"Content-Type: application/x-www-form-urlencoded", "Accept: application/json"};
  request.body = body;
  Service service(settings, false);
  if (!service.is_there())
    return {{}, "there is no HTTP client"};
  const http::Response response = service.ask(std::move(request), 3);
  Keys keys = response.is_ok() ? keys_of_sts(response.text) : Keys{};
  if (!keys.id.empty())
    return {std::move(keys), ""};
  Answer wrong = wrong_answer("STS (for the web identity)", response);
  for (const char *code : {"ExpiredTokenException", "InvalidIdentityToken", "AccessDenied"}) {
    if (response.text.find(code) != std::string::npos)
      wrong.problem += std::string(", ") + code;
  }
  return wrong;
}

} // namespace s3
