// What the s3 plugin reads and writes of a store's XML, its digests, and how it names objects.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "plugins/s3-layout.hpp"
#include "plugins/s3-md5.hpp"
#include "plugins/s3-removals.hpp"
#include "plugins/s3-xml.hpp"

using namespace s3;

TEST_CASE("entities in an element's text are replaced, and other text stays") {
  CHECK(text_of("<E><Code>NoSuchKey</Code></E>", "Code") == "NoSuchKey");
  CHECK(text_of("<A>a&amp;b&lt;&gt;&quot;&apos;&#65;&#x20ac;&#x1F600;</A>", "A") ==
        "a&b<>\"'A\xe2\x82\xac\xf0\x9f\x98\x80");
  CHECK(text_of("<A>&nosuch; & &#xzz; &#;</A>", "A") == "&nosuch; & &#xzz; &#;");
  CHECK(text_of("<A>&#0;&#xd800;&#x110000;</A>", "A").empty());
  CHECK(text_of("<A>&waytoolongforanentity; &amp;</A>", "A") == "&waytoolongforanentity; &");
  CHECK(text_of("<A>&#99999999999999;</A>", "A") == "&#99999999999999;");
}

TEST_CASE("an element is found by its whole name, with or without attributes") {
  CHECK(text_of("<Keys>x</Keys><Key a=\"1\">y</Key>", "Key") == "y");
  CHECK(text_of("<Key/><Key>y</Key>", "Key").empty());
  CHECK_FALSE(inside("<Keys>x</Keys>", "Key"));
}

TEST_CASE("no truncated document is read past its end") {
  const std::string document = "<L><Contents><Key>a/0</Key><Size>1</Size></"
                               "Contents><Contents><Key>b&amp;</Key></Contents></L>";
  for (size_t length = 0; length <= document.size(); length++) {
    const std::string beginning = document.substr(0, length);
    std::vector<std::string> keys;
    for_each(beginning, "Contents",
             [&](std::string_view inner) { keys.push_back(text_of(inner, "Key")); });
    CHECK(keys.size() <= 2);
    if (length == document.size())
      CHECK(keys == std::vector<std::string>{"a/0", "b&"});
  }
}

TEST_CASE("a volume's objects have names of 16 hexadecimal digits, and others are ignored") {
  const Layout layout{"a/b/", 1 << 20, 4096};
  CHECK(layout.objects() == 256);
  CHECK(layout.name(0) == "a/b/0000000000000000");
  CHECK(layout.name(0xfedcba9876543210) == "a/b/fedcba9876543210");
  for (const uint64_t number : {uint64_t{0}, uint64_t{255}, UINT64_MAX})
    CHECK(layout.number(layout.name(number)) == number);
  for (const char *name : {"a/b/000000000000000", "a/b/00000000000000000", "a/b/000000000000000A",
                           "a/c/0000000000000000", "", "a/b/", "a/b/000000000000000g"})
    CHECK_FALSE(layout.number(name));
}

TEST_CASE("digests are those of RFC 1321") {
  CHECK(content_md5("") == "1B2M2Y8AsgTpgAmY7PhCfg==");
  CHECK(content_md5("abc") == "kAFQmDzST7DWlj99KOF/cg==");
  CHECK(content_md5("1234567890123456789012345678901234567890"
                    "1234567890123456789012345678901234567890") == "V+30oivjyVWsSdouIQe2eg==");
  // On both sides of where the length needs a block of its own.
  CHECK(content_md5(std::string(55, 'a')) == "7xdytt/5oSI1hVKVStDfZQ==");
  CHECK(content_md5(std::string(56, 'a')) == "OwyKxwP4KLBMbBlwBtFyGA==");
  CHECK(content_md5(std::string(64, 'a')) == "AUhC1IC1cUlaSgNjeT9zZw==");
}

TEST_CASE("many objects are removed by a document whose answer tells what has become of each") {
  const std::vector<Removal> removals = {{"a<&>\"b/0", ""}, {"c", "\"e\""}};
  const std::string document = removals_document(removals);
  CHECK(text_of(document, "Key") == "a<&>\"b/0");
  CHECK(text_of(document, "ETag") == "\"e\"");
  const auto results = removals_in(
      "<DeleteResult><Deleted><Key>a&amp;</Key></Deleted><Error><Key>b</Key><Code>NoSuchKey</Code>"
      "</Error><Error><Key>c</Key><Code>PreconditionFailed</Code></Error><Error><Key>d</Key>"
      "<Code>SlowDown</Code></Error></DeleteResult>");
  CHECK(results == std::map<std::string, Removed>{{"a&", Removed::yes},
                                                  {"b", Removed::yes},
                                                  {"c", Removed::refused},
                                                  {"d", Removed::failed}});
  CHECK(removals_in("<Error><Key>a</Key><Code>InternalError</Code></Error>").empty());
}
