// Functions that plugins call: parsing, extents, strings that the server keeps.
#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "host/abi.hpp"
#include "host/context.hpp"
#include "host/log.hpp"

using namespace asyncnbd::host;

namespace {

struct Quiet {
  Quiet() { log_configure("test", false, LogSink::none); }
} quiet;

class TestContext final : public CallContext {
public:
  TestContext() : CallContext(std::make_shared<ServerContext>([] {}), "test", 1) {}
  void disconnect(bool) override {}
};

} // namespace

TEST_CASE("sizes have nbdkit's grammar") {
  const struct {
    const char *text;
    int64_t bytes;
  } cases[] = {
      {"0", 0},
      {"+5", 5},
      {" 7", 7},
      {"1b", 1},
      {"3s", 1536},
      {"2K", 2048},
      {"2k", 2048},
      {"1M", 1 << 20},
      {"4G", INT64_C(4) << 30},
      {"1t", INT64_C(1) << 40},
      {"1P", INT64_C(1) << 50},
      {"7E", INT64_C(7) << 60},
      {"9223372036854775807", INT64_MAX},
      {"9223372036854775808", -1},
      {"8E", -1},
      {"18014398509481984s", -1},
      {"-1", -1},
      {"", -1},
      {"G", -1},
      {"1KiB", -1},
      {"1.5G", -1},
      {"0x10", -1},
      {"1 G", -1},
      {"5x", -1},
  };
  for (const auto &c : cases) {
    CAPTURE(c.text);
    CHECK(nbdkit_parse_size(c.text) == c.bytes);
  }
}

TEST_CASE("numbers fit their type, and a failure leaves the result alone") {
  uint8_t byte = 99;
  CHECK(nbdkit_parse_uint8_t("x", "255", &byte) == 0);
  CHECK(byte == 255);
  CHECK(nbdkit_parse_uint8_t("x", "256", &byte) == -1);
  CHECK(nbdkit_parse_uint8_t("x", "-1", &byte) == -1);
  CHECK(nbdkit_parse_uint8_t("x", "", &byte) == -1);
  CHECK(nbdkit_parse_uint8_t("x", "1z", &byte) == -1);
  CHECK(byte == 255);
  int64_t wide;
  CHECK(nbdkit_parse_int64_t("x", "-9223372036854775808", &wide) == 0);
  CHECK(wide == INT64_MIN);
  CHECK(nbdkit_parse_int64_t("x", "9223372036854775808", &wide) == -1);
  uint64_t unsigned_wide;
  CHECK(nbdkit_parse_uint64_t("x", "0xffffffffffffffff", &unsigned_wide) == 0);
  CHECK(unsigned_wide == UINT64_MAX);
  int octal;
  CHECK(nbdkit_parse_int("x", "010", &octal) == 0);
  CHECK(octal == 8);
  CHECK(nbdkit_parse_int("x", "5", nullptr) == 0);
}

TEST_CASE("booleans are words in upper or lower case") {
  for (const char *text : {"1", "true", "T", "Yes", "y", "ON"})
    CHECK(nbdkit_parse_bool(text) == 1);
  for (const char *text : {"0", "False", "f", "no", "N", "off"})
    CHECK(nbdkit_parse_bool(text) == 0);
  for (const char *text : {"", "2", "maybe", "truee"})
    CHECK(nbdkit_parse_bool(text) == -1);
}

TEST_CASE("extents ascend without gaps, are cut to the range and joined") {
  nbdkit_extents *extents = nbdkit_extents_new(1000, 5000);
  REQUIRE(extents != nullptr);
  CHECK(nbdkit_add_extent(extents, 0, 2000, 0) == 0);
  CHECK(nbdkit_add_extent(extents, 2000, 1000, 0) == 0);
  CHECK(nbdkit_add_extent(extents, 3000, 0, NBDKIT_EXTENT_HOLE) == 0);
  CHECK(nbdkit_add_extent(extents, 3000, 9000, NBDKIT_EXTENT_HOLE) == 0);
  CHECK(nbdkit_add_extent(extents, 20000, 1, 0) == -1);
  REQUIRE(nbdkit_extents_count(extents) == 2);
  CHECK(nbdkit_get_extent(extents, 0).offset == 1000);
  CHECK(nbdkit_get_extent(extents, 0).length == 2000);
  CHECK(nbdkit_get_extent(extents, 1).length == 2000);
  CHECK(nbdkit_get_extent(extents, 1).type == NBDKIT_EXTENT_HOLE);
  nbdkit_extents_free(extents);

  extents = nbdkit_extents_new(1000, 5000);
  CHECK(nbdkit_add_extent(extents, 2000, 1000, 0) == -1); // the first must cover the start
  CHECK(nbdkit_add_extent(extents, UINT64_MAX, 2, 0) == -1);
  nbdkit_extents_free(extents);
  CHECK(nbdkit_extents_new(2, 1) == nullptr);
}

TEST_CASE("the error set is the current call's only, and 0 sets none") {
  TestContext context;
  {
    ContextScope scope(&context);
    nbdkit_set_error(ENOSPC);
    nbdkit_set_error(0);
    CHECK(current_error() == ENOSPC);
    nbdkit_set_error(-ENOSPC); // which is none of the system's
    CHECK(current_error() == EINVAL);
  }
  ContextScope scope(&context);
  CHECK(current_error() == 0);
}

TEST_CASE("messages keep errno, and errors are counted") {
  const uint64_t before = error_messages_on_this_thread();
  errno = EXDEV;
  nbdkit_error("why: %m");
  nbdkit_debug("unseen");
  CHECK(errno == EXDEV);
  CHECK(error_messages_on_this_thread() == before + 1);
}

TEST_CASE("interned strings are copies that last") {
  TestContext context;
  ContextScope scope(&context);
  std::string text = "hello";
  const char *copy = nbdkit_strdup_intern(text.c_str());
  const char *part = nbdkit_strndup_intern(text.c_str(), 4);
  const char *made = nbdkit_printf_intern("%s %d", "n", 5);
  text = "XXXXX";
  for (int i = 0; i < 1000; i++)
    nbdkit_strdup_intern("more");
  CHECK(strcmp(copy, "hello") == 0);
  CHECK(strcmp(part, "hell") == 0);
  CHECK(strcmp(made, "n 5") == 0);
  CHECK(nbdkit_strdup_intern(nullptr) == nullptr);
}

TEST_CASE("probabilities are numbers, percentages and ratios") {
  auto parsed = [](const char *text) {
    double value = -1;
    return nbdkit_parse_probability("p", text, &value) == 0 ? value : -2;
  };
  CHECK(parsed("0") == 0);
  CHECK(parsed("0.25") == 0.25);
  CHECK(parsed("1e-1") == 0.1);
  CHECK(parsed("10%") == 0.1);
  CHECK(parsed("1:4") == 0.25);
  CHECK(parsed("1/4") == 0.25);
  CHECK(parsed("3") == 3);
  CHECK(parsed("0/0") == 0);
  for (const char *wrong : {"", "-1", "-0", "nan", "inf", "1:0", "1:", ":1", "1:2:3", "1%%", "10%x",
                            "1 ", " 1", "1,5", "1e999", "x", "1:-2", "1:nan"})
    CHECK_MESSAGE(parsed(wrong) == -2, wrong);
  double untouched = 7;
  CHECK(nbdkit_parse_probability("p", "x", &untouched) == -1);
  CHECK(untouched == 7);
  CHECK(nbdkit_parse_probability("p", "1", nullptr) == 0);
}

TEST_CASE("delays are numbers with a unit, by default seconds") {
  struct Delay {
    unsigned sec = 77;
    unsigned nsec = 77;
    bool operator==(const Delay &) const = default;
  };
  auto parsed = [](const char *text) {
    Delay delay;
    CHECK(nbdkit_parse_delay("d", text, &delay.sec, &delay.nsec) == 0);
    return delay;
  };
  CHECK(parsed("0") == Delay{0, 0});
  CHECK(parsed("2") == Delay{2, 0});
  CHECK(parsed("1.5s") == Delay{1, 500000000});
  CHECK(parsed("64ms") == Delay{0, 64000000});
  CHECK(parsed("1500ms") == Delay{1, 500000000});
  CHECK(parsed("20us") == Delay{0, 20000});
  CHECK(parsed("20\u00b5s") == Delay{0, 20000});
  CHECK(parsed("20\u03bcs") == Delay{0, 20000});
  CHECK(parsed("999999999.9ns") == Delay{1, 0});
  CHECK(parsed("4294967295") == Delay{4294967295, 0});
  for (const char *wrong :
       {"", "-1", "ms", "1m", "1 s", "1sx", "nan", "infs", "4294967296", "1e99s"}) {
    Delay delay;
    CHECK_MESSAGE(nbdkit_parse_delay("d", wrong, &delay.sec, &delay.nsec) == -1, wrong);
    CHECK(delay == Delay{});
  }
}
