// What the log makes of the words of others, and how many lines there may be.
#include <doctest/doctest.h>

#include <array>
#include <sys/socket.h>
#include <unistd.h>

#include "host/client_log.hpp"
#include "host/log_text.hpp"

using namespace asyncnbd::host;
using namespace std::chrono_literals;

TEST_CASE("a log text leaves passwords of addresses out") {
  CHECK(without_passwords("GET http://user:PASS@host/a@b: 404") ==
        "GET http://user:***@host/a@b: 404");
  CHECK(without_passwords("url=https://a:b@c:8080/ and s3://k:s:t@u@v?x") ==
        "url=https://a:***@c:8080/ and s3://k:***@v?x");
  for (const char *harmless :
       {"http://host:8080/a:b@c", "ssh://root@host/", "a://b", "://", "x:y@z"})
    CHECK(without_passwords(harmless) == harmless);
  CHECK(without_passwords("http://user:PASS@") == "http://user:***@");
}

TEST_CASE("a log text escapes characters that cannot be printed") {
  CHECK(escaped("a\nb\tc\r\x1b[31m\x7f") == "a\\nb\\tc\\r\\x1b[31m\\x7f");
  CHECK(escaped("\u202egpj.exe \u009b \u2066") == "\\u202egpj.exe \\u009b \\u2066");
  CHECK(escaped("déjà \u2026 \U0001f600 \xff\xe2") == "déjà \u2026 \U0001f600 \xff\xe2");
}

TEST_CASE("a log text leaves the plugin's lines and escapes the client's") {
  CHECK(loggable("two\nlines\x1b", nullptr) == "two\nlines\\x1b");
  CHECK(loggable("no a\nb here:\nno a\nb", "a\nb") == "no a\\nb here:\nno a\\nb");
  CHECK(loggable("\n", "\n") == "\\n");
  CHECK(loggable("nothing", "") == "nothing");
}

TEST_CASE("a log text hides secret parameters") {
  for (const char *key :
       {"password", "proxy-password", "secret-key", "session-token", "Cookie", "header-script"})
    CHECK(loggable_value(key, "x") == "***");
  CHECK(loggable_value("header", "Authorization: x") == "Authorization: ***");
  CHECK(loggable_value("file", "disk.img") == "disk.img");
}

TEST_CASE("a client on a pipe is on standard input, one that has gone is unknown") {
  std::array<int, 2> ends;
  REQUIRE(pipe(ends.data()) == 0);
  CHECK(peer_of(ends[0]) == "on standard input");
  const int unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(peer_of(unconnected) == "at an unknown address");
  for (const int fd : {ends[0], ends[1], unconnected})
    close(fd);
}

TEST_CASE("a line limit counts what it leaves out") {
  LineLimit limit(2, 10s);
  const LineLimit::Clock::time_point start{100s};
  CHECK(limit.ask(start).may_log);
  CHECK(limit.ask(start + 1s).may_log);
  CHECK_FALSE(limit.ask(start + 2s).may_log);
  CHECK_FALSE(limit.ask(start + 9s).may_log);
  const LineLimit::Verdict verdict = limit.ask(start + 10s);
  CHECK(verdict.may_log);
  CHECK(verdict.left_out == 2u);
  CHECK_FALSE(limit.ask(start + 19s).may_log);
  CHECK(limit.ask(start + 1000s).left_out == 1u);
  CHECK(limit.ask(start + 1000s).may_log);
  CHECK_FALSE(limit.ask(start + 1000s).may_log);
}
