// What is open behind a filter, as the filter calls it: nbdkit's table of functions, and how they
// call any of our backends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend/backend.hpp"
#include "backend/level.hpp"
#include "cplugin/filter_backend.hpp"
#include "cplugin/filter_facts.hpp"
#include "host/abi.hpp"

namespace asyncnbd::cplugin {

class Child;

// A filter gets its address, so the table must lie at the start. Any number of threads may call at
// once, until it is closed. Functions return 0, or -1 with an errno in *err.
class Next final : public nbdkit_next_ops {
public:
  // nullptr on failure, with a message in `*error` unless it has been logged. `of_no_client`: the
  // level's bottom, if what is opened is for no client, or for several.
  static Next *open(const backend::Level &level, const std::string &export_name, bool readonly,
                    std::shared_ptr<backend::Bottom> of_no_client, std::string *error);
  static Next &of(nbdkit_next *next) { return *static_cast<Next *>(next); }
  // The last call is one of these.
  void close();
  void close_unused(); // if no client has made a request

  // Shared with the threads that give up requests in flight.
  const std::shared_ptr<backend::Backend> &backend() const { return backend_; }
  bool is_of_no_client() const { return of_no_client_ != nullptr; }

  bool prepare(std::string *error);
  bool finalize();
  int64_t size();
  const char *description();
  int block_size(uint32_t *minimum, uint32_t *preferred, uint32_t *maximum);
  int fact(Fact fact);
  // What a request to `behind` takes here in addition to its own memory.
  static uint32_t bytes_besides(const backend::Backend &behind, uint16_t type,
                                uint64_t length_bytes);

  int pread(void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int pwrite(const void *data, uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int flush(uint32_t flags, int *err);
  int trim(uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int zero(uint32_t count, uint64_t offset, uint32_t flags, int *err);
  int extents(uint32_t count, uint64_t offset, uint32_t flags, nbdkit_extents *extents, int *err);
  int cache(uint32_t count, uint64_t offset, uint32_t flags, int *err);

private:
  struct Call;

  Next(std::unique_ptr<backend::Backend> opened, bool is_filter,
       std::shared_ptr<backend::Bottom> of_no_client);
  ~Next() = default;

  // False: it has not been prepared, so nothing may be asked of it. That has been logged.
  bool is_usable() const;
  // The filter directly behind, if there is one and it can be called.
  FilterBackend *filter() const;
  int check(const Call &call) const;
  int run(const Call &call, Child &child);
  int run(const Call &call, int *err);

  const std::shared_ptr<backend::Bottom> of_no_client_;
  std::shared_ptr<backend::Backend> backend_;
  FilterBackend *const layer_; // the backend, if it is a filter; else nullptr
};

} // namespace asyncnbd::cplugin
