// The common part of filters that show a part of an export as a whole export: they add the part's
// offset to requests, and subtract it from their answers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "backend/layer.hpp"

namespace asyncnbd::filters {

// In bytes.
struct DiskPart {
  uint64_t offset;
  uint64_t length;
};

class MovedLayer : public backend::Layer, private backend::Completer {
public:
  using Layer::Layer;

  backend::Reservation reserve(backend::Request &request) final;
  void unreserve(backend::Request &request) final;
  void submit(backend::Request &request, backend::Caller caller) final;

protected:
  bool collect(const backend::Wanted &wanted, backend::Facts *facts, std::string *error) override;

private:
  virtual const char *filter_name() const = 0;
  // Finds the part. Called once, with the backend below prepared; may wait for reads there.
  // std::nullopt, with a message in `*error`: there is none.
  virtual std::optional<DiskPart> find_part(const backend::Facts &below, std::string *error) = 0;

  bool keeps_blocks(const DiskPart &part, const backend::Facts &below, std::string *error) const;

  void complete(backend::Request &request, int error) override;
  void give_up(backend::Request &request, int error) override;
  // Moves the request and everything in it with an offset. `by` may be the two's complement of a
  // number.
  static void move(backend::Request &request, uint64_t by);

  uint64_t offset_ = 0; // of the part
};

} // namespace asyncnbd::filters
