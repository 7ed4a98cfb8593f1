// Stacks of native filters drawn at random, hostile layers among them, and what clients must see
// through them of a disk in memory.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "backend/chain.hpp"
#include "backend/emulate.hpp"
#include "filters/registry.hpp"
#include "hostile_layer.hpp"
#include "memory_backend.hpp"
#include "system_resources.hpp"
#include "test_client.hpp"

// A client of a stack, and whether its requests get stuck in hostile layers.
struct StackClient {
  TestClient context;
  std::atomic<bool> is_stuck{false};
};
using StackClients = std::array<StackClient, 2>;

struct HostileFilter final : asyncnbd::backend::Filter {
  HostileFilter(uint32_t seed, Faults &faults, StackClients &clients)
      : seed(seed), faults(faults), clients(clients) {}
  const char *name() const override { return "hostile"; }
  std::unique_ptr<asyncnbd::backend::Backend>
  open(std::unique_ptr<asyncnbd::backend::Backend> *below,
       const asyncnbd::backend::Opening &opening, asyncnbd::backend::DiskState *,
       std::string *) override {
    const bool is_first = &opening.context == &clients[0].context;
    return std::make_unique<HostileLayer>(std::move(*below), seed++,
                                          asyncnbd::system_resources().of_backends.threads, faults,
                                          clients[is_first ? 0 : 1].is_stuck);
  }
  std::atomic<uint32_t> seed; // retry opens from any thread
  Faults &faults;
  StackClients &clients;
};

struct EmulationFilter final : asyncnbd::backend::Filter {
  const char *name() const override { return "emulation"; }
  std::unique_ptr<asyncnbd::backend::Backend>
  open(std::unique_ptr<asyncnbd::backend::Backend> *below, const asyncnbd::backend::Opening &,
       asyncnbd::backend::DiskState *, std::string *) override {
    return std::make_unique<asyncnbd::backend::Emulation>(
        std::move(*below), asyncnbd::system_resources().of_backends.threads);
  }
};

// All of the server's own but those that are only asked about clients, and a hostile one.
inline constexpr auto STACKED = std::to_array<const char *>(
    {"blocksize",  "cache",      "cacheextents",  "cow",        "delay",      "error",
     "exitlast",   "exportname", "extentlist",    "fua",        "limit",      "log",
     "multi-conn", "nocache",    "noextents",     "noparallel", "nozero",     "offset",
     "openonce",   "partition",  "pause",         "protect",    "rate",       "readahead",
     "readonly",   "retry",      "retry-request", "stats",      "time-limit", "truncate"});

// Made from the innermost filter on, as what is in front depends on what is behind.
class RandomStack {
public:
  static constexpr uint64_t PARTITION_BYTES = 512 * 8; // where the only one begins

  RandomStack(uint32_t seed, uint64_t disk_bytes, Faults &faults, StackClients &clients)
      : random_(seed), faults_(faults), clients_(clients), size_bytes_(disk_bytes),
        there_bytes_(disk_bytes) {}

  // ---- what clients see: so many bytes of the disk from `begin_bytes` on, then zeroes

  uint64_t begin_bytes() const { return begin_bytes_; }
  uint64_t there_bytes() const { return there_bytes_; }
  uint64_t size_bytes() const { return size_bytes_; }

  bool has(const char *name) const {
    return std::any_of(names_.begin(), names_.end(), [name](auto &one) { return one == name; });
  }
  // Of the disk, where nothing may change.
  std::pair<uint64_t, uint64_t> protected_bytes() const { return protected_; }
  // Whether a request may fail with this though nothing was injected.
  bool may_refuse_with(int error) const {
    return (error == EPERM && has("protect")) || (error == ENOSPC && has("truncate"));
  }
  // Whether what has been trimmed may be what it was.
  bool may_keep_trimmed() const { return has("cache") || has("blocksize"); }
  // Whether clients may have to ask again about the rest.
  bool may_tell_extents_in_part() const {
    return has("blocksize") || has("truncate") || has("cacheextents");
  }
  const std::string &words() const { return words_; }

  void add(const std::string &name) {
    if (!fits(name))
      return;
    names_.push_back(name);
    words_.insert(0, " " + name);
    filters_.push_back({name == "hostile" ? hostile()
                        : name == "emulation"
                            ? std::unique_ptr<Filter>(std::make_unique<EmulationFilter>())
                            : native(name),
                        nullptr});
  }
  std::shared_ptr<asyncnbd::backend::Chain> chain() {
    std::reverse(filters_.begin(), filters_.end());
    return std::make_shared<asyncnbd::backend::Chain>(std::move(filters_));
  }

private:
  using Filter = asyncnbd::backend::Filter;
  using Options = asyncnbd::filters::FilterOptions;

  unsigned draw(unsigned choices) { return random_() % choices; }
  std::string word(std::initializer_list<const char *> words) {
    return words.begin()[draw(static_cast<unsigned>(words.size()))];
  }

  // A table is at the beginning of the disk alone, and there has to be enough of a part. Of some
  // filters, one is enough: what is allowed is only known of one.
  bool fits(const std::string &name) const {
    constexpr uint64_t LEAST_BYTES = 12 * 4096;
    if (name == "partition")
      return std::all_of(names_.begin(), names_.end(),
                         [](auto &one) { return one == "hostile" || one == "emulation"; });
    if (name == "offset" || name == "truncate" || name == "blocksize")
      return there_bytes_ >= LEAST_BYTES;
    return name != "protect" || (!has("protect") && there_bytes_ == size_bytes_);
  }

  std::unique_ptr<Filter> hostile() {
    return std::make_unique<HostileFilter>(random_(), faults_, clients_);
  }

  std::unique_ptr<Filter> native(const std::string &name) {
    std::string error;
    auto filter = asyncnbd::filters::make_filter(name, options_of(name),
                                                 asyncnbd::system_resources().of_backends, &error);
    REQUIRE_MESSAGE(filter, error);
    for (const std::string &path : std::exchange(files_, {}))
      unlink(path.c_str());
    return filter;
  }

  Options options_of(const std::string &name) {
    if (name == "blocksize" || name == "offset" || name == "partition" || name == "truncate")
      return changing_the_size(name);
    if (name == "cow" || name == "cache")
      return keeping_blocks(name);
    if (name == "retry" || name == "retry-request")
      return repeating(name);
    if (name == "extentlist" || name == "pause" || name == "log" || name == "stats")
      return with_a_file(name);
    return of_the_rest(name);
  }

  Options changing_the_size(const std::string &name) {
    Options options;
    if (name == "blocksize") {
      const uint64_t block = uint64_t{1} << draw(14);
      options = {{"minBlock", static_cast<double>(block)},
                 {"maxData", static_cast<double>(block * (1 + draw(20)))}};
      show(0, size_bytes_ & ~(block - 1));
    } else if (name == "offset") {
      const uint64_t offset = draw(2) == 0 ? 4096 : draw(5000);
      const uint64_t range = there_bytes_ - offset - draw(3000);
      options = {{"offset", static_cast<double>(offset)}, {"range", static_cast<double>(range)}};
      show(offset, range);
    } else if (name == "partition") {
      options = {{"number", 1.0}};
      show(PARTITION_BYTES, (size_bytes_ - PARTITION_BYTES) & ~uint64_t{511});
    } else if (draw(2) == 0) {
      options = {{draw(2) == 0 ? "roundUp" : "roundDown", 4096.0}};
      const uint64_t up = options.contains("roundUp") ? 4095 : 0;
      show(0, (size_bytes_ + up) & ~uint64_t{4095});
    } else {
      const uint64_t size = size_bytes_ - 3000 + draw(6000);
      options = {{"size", static_cast<double>(size)}};
      show(0, size);
    }
    return options;
  }

  void show(uint64_t offset, uint64_t bytes) {
    begin_bytes_ += offset;
    there_bytes_ = std::min(there_bytes_ - offset, bytes);
    size_bytes_ = bytes;
  }

  Options keeping_blocks(const std::string &name) {
    if (name == "cow")
      return {{"blockBytes", 4096.0}, {"onRead", draw(3) == 0}, {"onCache", draw(2) == 0}};
    return {{"blockBytes", 4096.0},
            {"mode", word({"writeback", "writethrough", "unsafe"})},
            {"onRead", draw(2) == 0},
            {"maxBytes", draw(2) * 5 * 4096.0}};
  }

  Options repeating(const std::string &name) {
    Options options = {{"retries", static_cast<double>(draw(4))},
                       {"delayMs", static_cast<double>(draw(2))}};
    if (name == "retry")
      options["exponential"] = draw(2) == 0;
    return options;
  }

  Options with_a_file(const std::string &name) {
    if (name == "log") {
      Options options = {{"file", std::string("/dev/null")}};
      if (draw(20) == 0) // they take their time
        options["script"] = std::string(":");
      return options;
    }
    if (name == "stats")
      return {{"file", std::string("/dev/null")}};
    std::string path = "/tmp/asyncnbd-stack-XXXXXX";
    close(mkstemp(path.data()));
    if (name == "pause") {
      unlink(path.c_str()); // it makes a socket there, and removes it
      return {{"control", path}};
    }
    files_.push_back(path);
    std::ofstream(path) << "0 " << size_bytes_ / 2 << "\n"
                        << size_bytes_ / 2 << " " << size_bytes_ << " 1\n";
    return {{"file", path}};
  }

  Options of_the_rest(const std::string &name) {
    if (name == "delay")
      return {{"readMs", static_cast<double>(draw(2))}, {"writeMs", static_cast<double>(draw(2))}};
    if (name == "error")
      return {{"pwriteRate", 0.2}, {"zeroRate", 0.2}};
    if (name == "rate")
      return {{"bits", 1e9}, {"connectionBits", 2e9}, {"burstSeconds", 0.001}};
    if (name == "fua")
      return {{"mode", word({"emulate", "force", "pass", "discard"})}};
    if (name == "limit")
      return {{"limit", 2.0}};
    if (name == "multi-conn")
      return {{"mode", word({"auto", "emulate", "plugin", "disable", "unsafe"})},
              {"trackDirty", word({"connection", "fast", "off"})}};
    if (name == "nocache")
      return {{"mode", word({"none", "emulate", "nop"})}};
    if (name == "noparallel")
      return {{"serialize", word({"requests", "all-requests"})}};
    if (name == "nozero")
      return {{"mode", word({"none", "emulate"})}};
    if (name == "time-limit")
      return {{"timeMs", draw(2) * 600'000.0}};
    if (name != "protect")
      return {};
    const uint64_t first = draw(static_cast<unsigned>(there_bytes_ - 2000));
    const uint64_t bytes = 1 + draw(2000);
    protected_ = {begin_bytes_ + first, begin_bytes_ + first + bytes};
    const std::string range = std::to_string(first) + "-" + std::to_string(first + bytes - 1);
    return {{"ranges", std::vector<std::string>{range}}};
  }

  std::mt19937 random_;
  Faults &faults_;
  StackClients &clients_;
  std::vector<asyncnbd::backend::ChainFilter> filters_; // the innermost first, as are the names
  std::vector<std::string> names_;
  std::vector<std::string> files_; // to be removed once they have been read
  std::string words_;
  uint64_t begin_bytes_ = 0;
  uint64_t size_bytes_;
  uint64_t there_bytes_;
  std::pair<uint64_t, uint64_t> protected_{0, 0};
};
