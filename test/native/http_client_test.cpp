// What http-client.hpp promises of URLs, words, failures and the end, without a web server.
#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <atomic>
#include <chrono>
#include <dlfcn.h>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "plugins/http-client.hpp"

namespace {

using std::chrono::milliseconds;

bool has_libcurl() {
  return dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL) != nullptr ||
         dlopen("libcurl-gnutls.so.4", RTLD_NOW | RTLD_LOCAL) != nullptr;
}

/// Connections to it are taken by the kernel, and nobody answers.
class Silent {
public:
  Silent() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto *const any = reinterpret_cast<sockaddr *>(&address);
    is_there_ =
        bind(fd_, any, length) == 0 && listen(fd_, 64) == 0 && getsockname(fd_, any, &length) == 0;
    port_ = ntohs(address.sin_port);
  }
  ~Silent() { close(fd_); }
  bool is_there() const { return is_there_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }

private:
  int fd_;
  bool is_there_ = false;
  int port_ = 0;
};

http::Request request_to(const std::string &url) {
  http::Request request;
  request.url = url;
  return request;
}

} // namespace

TEST_CASE("URLs in messages show no secrets and no control characters") {
  CHECK(http::printable("https://me:x@host:1/a@b?c=d#e") == "https://host:1/a@b");
  CHECK(http::printable("http://host") == "http://host");
  CHECK(http::printable("http://a:b@c@host/") == "http://host/");
  CHECK(http::printable("http://h/\x1b[2J\n") == "http://h/?[2J?");
}

TEST_CASE("a URL is parsed, and a relative location is resolved against it") {
  if (!has_libcurl())
    return;
  const auto url = http::parse_url("https://m%65:a%3Ab@Host.Example/disk?x=1#y");
  REQUIRE(url);
  CHECK(url->address == "https://Host.Example/disk?x=1");
  CHECK(url->origin == "https://host.example:443");
  CHECK(url->user == "me");
  CHECK(url->password == "a:b");
  for (const char *wrong :
       {"", "disk", "file:///etc/passwd", "ftp://h/x", "http://", "http://h:0x/"})
    CHECK_FALSE(http::parse_url(wrong));
  CHECK(http::resolve("http://h/a/b", "c")->address == "http://h/a/c");
  CHECK(http::resolve("http://h/a/b", "//o:8/c")->origin == "http://o:8");
  CHECK_FALSE(http::resolve("http://h/a/b", "file:///etc/passwd"));
}

TEST_CASE("failures have messages that quote nothing from the server") {
  http::Response response;
  response.status = 503;
  CHECK(http::explain(response) == "the server said 503 Service Unavailable");
  response.status = 799;
  CHECK(http::explain(response) == "the server said 799");
  response.failure = http::Failure::connect;
  response.reason = "Connection refused";
  CHECK(http::explain(response) == "cannot connect: Connection refused");
}

TEST_CASE("requests of several threads fail if nobody listens") {
  if (!has_libcurl())
    return;
  const auto client = http::Client::start({});
  REQUIRE(client);
  std::vector<std::thread> threads;
  std::atomic<int> refused{0};
  for (int i = 0; i < 4; i++)
    threads.emplace_back([&] {
      for (int j = 0; j < 20; j++) {
        http::Request request = request_to("http://127.0.0.1:1/");
        request.retry.attempts = 2;
        request.retry.delay_ms = 1;
        const http::Response response = client->perform(std::move(request));
        refused += response.failure == http::Failure::connect && response.attempts == 2 ? 1 : 0;
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(refused == 80);
}

TEST_CASE("stop ends requests in progress, waiting ones and later ones") {
  const Silent server;
  if (!has_libcurl() || !server.is_there())
    return;
  http::Settings settings;
  settings.connections = 2;
  settings.uses_proxy = false;
  const auto client = http::Client::start(settings);
  REQUIRE(client);
  std::atomic<int> stopped{0};
  const auto submit = [&] {
    http::Request request = request_to(server.url());
    request.done = [&](const http::Response &response) {
      stopped += response.failure == http::Failure::stopped ? 1 : 0;
    };
    client->submit(std::move(request));
  };
  for (int i = 0; i < 5; i++)
    submit();
  std::this_thread::sleep_for(milliseconds(50));
  CHECK(stopped == 0);
  client->stop();
  submit();
  CHECK(client->perform(request_to(server.url())).failure == http::Failure::stopped);
  CHECK(stopped == 6);
}

TEST_CASE("a deadline ends a request with a connection and one that waits for a connection") {
  const Silent server;
  if (!has_libcurl() || !server.is_there())
    return;
  http::Settings settings;
  settings.connections = 1;
  settings.uses_proxy = false;
  const auto client = http::Client::start(settings);
  REQUIRE(client);
  std::vector<std::thread> threads;
  std::atomic<int> late{0};
  for (int i = 0; i < 2; i++)
    threads.emplace_back([&] {
      http::Request request = request_to(server.url());
      request.retry.deadline_ms = 100;
      late += client->perform(std::move(request)).failure == http::Failure::deadline ? 1 : 0;
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(late == 2);
}
