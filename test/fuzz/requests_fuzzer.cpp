// libFuzzer's way into the transmission phase: any bytes as a client's stream, in each style of
// replies, answered in ways that the input chooses; what comes back must parse.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "nbd/pending_request.hpp"
#include "nbd/reply_encoding.hpp"
#include "nbd/reply_queue.hpp"
#include "nbd/request_reader.hpp"
#include "schedule/spinner.hpp"
#include "wire/commands.hpp"

#include "../native/system_resources.hpp"

using namespace asyncnbd;
using nbd::PendingRequest;

namespace {

constexpr size_t SETTINGS_BYTES = 4;
constexpr uint32_t MAX_PAYLOAD = 256 << 10;

#define MUST(condition)                                                                            \
  do {                                                                                             \
    if (!(condition)) {                                                                            \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                              \
      abort();                                                                                     \
    }                                                                                              \
  } while (false)

// Walks through replies as they come, in any pieces.
class ReplyParser {
public:
  explicit ReplyParser(wire::ReplyStyle style) : style_(style) {}

  void take(const uint8_t *bytes, size_t count) {
    while (count > 0) {
      if (skip_bytes_ > 0) {
        const size_t part = std::min<size_t>(skip_bytes_, count);
        skip_bytes_ -= part;
        bytes += part;
        count -= part;
        continue;
      }
      header_[header_bytes_++] = *bytes++;
      count--;
      if (header_bytes_ >= 4 && header_bytes_ == wanted()) {
        end_header();
        header_bytes_ = 0;
      }
    }
  }

  // The data of simple replies to reads has no length of its own.
  void expect_simple_data(uint64_t bytes) { simple_data_bytes_ = bytes; }
  bool is_between_replies() const { return header_bytes_ == 0 && skip_bytes_ == 0; }

private:
  size_t wanted() const {
    switch (wire::decode_u32(header_)) {
    case wire::NBD_SIMPLE_REPLY_MAGIC:
      MUST(style_ != wire::ReplyStyle::extended);
      return wire::SIMPLE_REPLY_BYTES;
    case wire::NBD_STRUCTURED_REPLY_MAGIC:
      MUST(style_ == wire::ReplyStyle::structured);
      return wire::CHUNK_HEADER_BYTES;
    case wire::NBD_EXTENDED_REPLY_MAGIC:
      MUST(style_ == wire::ReplyStyle::extended);
      return wire::EXTENDED_CHUNK_HEADER_BYTES;
    default:
      MUST(!"a reply's magic");
      return 0;
    }
  }

  void end_header() {
    if (wanted() == wire::SIMPLE_REPLY_BYTES)
      skip_bytes_ = wire::decode_u32(header_ + 4) == 0 ? simple_data_bytes_ : 0;
    else if (wanted() == wire::CHUNK_HEADER_BYTES)
      skip_bytes_ = wire::decode_u32(header_ + 16);
    else
      skip_bytes_ = wire::decode_u64(header_ + 24);
    MUST(skip_bytes_ <= MAX_PAYLOAD + (64 << 20));
  }

  const wire::ReplyStyle style_;
  uint8_t header_[wire::EXTENDED_CHUNK_HEADER_BYTES];
  size_t header_bytes_ = 0;
  uint64_t skip_bytes_ = 0;
  uint64_t simple_data_bytes_ = 0;
};

class Client final : public backend::Maker, public nbd::Admission, public nbd::ReplyListener {
public:
  Client(const uint8_t *settings, const uint8_t *stream, size_t stream_bytes)
      : style_(static_cast<wire::ReplyStyle>(settings[0] % 3)), parser_(style_),
        choices_(settings[3]) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets_) == 0);
    const int room = 4 << 20;
    setsockopt(sockets_[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    setsockopt(sockets_[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    facts_ = {uint64_t{1} << (settings[1] % 64),
              static_cast<uint16_t>(settings[2] << 4 | 0x1005),
              {{1, 0}, {7, 1}},
              1u << (settings[1] >> 6) * 4,
              MAX_PAYLOAD};
    transport_.emplace(resources_.page_pipes, sockets_[0], sockets_[0], -1);
    replies_.emplace(*transport_, *this);
    requests_.emplace(resources_, *this, style_);
    reader_.emplace(resources_, *transport_, *requests_, facts_, *this, style_);
    MUST(send(sockets_[1], stream, stream_bytes, MSG_DONTWAIT) ==
         static_cast<ssize_t>(stream_bytes));
    shutdown(sockets_[1], SHUT_WR);
  }

  ~Client() { close(sockets_[1]); }

  void run() {
    while (PendingRequest *request = next()) {
      answer(*request);
      request->complete(request->error);
      replies_->flush(nbd::WhenFull::return_early);
      drain();
    }
    MUST(parser_.is_between_replies());
    MUST(admitted_bytes_ == 0);
    MUST(reserved_ == 0);
  }

private:
  PendingRequest *next() {
    PendingRequest *request = nullptr;
    for (;;)
      switch (reader_->next(&request)) {
      case nbd::RequestReader::Outcome::request:
        return request;
      case nbd::RequestReader::Outcome::needs_input:
        MUST(reader_->receive() != nbd::RequestReader::Received::nothing);
        break;
      case nbd::RequestReader::Outcome::needs_memory:
        MUST(refuses_);
        refuses_ = false;
        break;
      case nbd::RequestReader::Outcome::ended:
        return nullptr;
      }
  }

  // What a backend would do, well or badly.
  void answer(PendingRequest &request) {
    const unsigned choice = choices_++ * 7u;
    if (request.error != 0)
      return;
    MUST(request.type != wire::NBD_CMD_READ && request.type != wire::NBD_CMD_WRITE
             ? request.data == nullptr
             : (request.data != nullptr) != (request.pages != nullptr) &&
                   request.length_bytes <= MAX_PAYLOAD);
    if (request.pages)
      MUST(request.pages->take_out(disk_.data()));
    if (request.is_reserved)
      reserved_--;
    if (request.type == wire::NBD_CMD_READ)
      memset(request.data, 1, request.length_bytes);
    if (choice % 5 == 0) {
      request.error = EIO;
      request.make_extras().error_text.assign(choice % 3000, 'w');
      if (choice % 2 == 0)
        request.extras->error_offset = request.offset + request.length_bytes / 2;
    }
    std::vector<backend::Extent> extents;
    for (unsigned i = 0; i < choice % 40; i++)
      extents.push_back({(choice * 977u * (i + 1)) % 70000, (choice + i) % 4});
    if (request.type == wire::NBD_CMD_BLOCK_STATUS)
      for (backend::ContextStatus &status : request.extras->statuses)
        status.extents = extents;
    if (request.type == wire::NBD_CMD_READ && style_ != wire::ReplyStyle::simple &&
        (request.flags & wire::NBD_CMD_FLAG_DF) == 0)
      request.note_extents(extents);
  }

  // backend::Maker
  void complete(backend::Request &completed, int) override {
    auto &request = static_cast<PendingRequest &>(completed);
    nbd::encode_answer(request, facts_.block_bytes, requests_->buffers());
    parser_.expect_simple_data(nbd::has_data(request) ? request.length_bytes : 0);
    replies_->push(&request);
  }
  void give_up(backend::Request &, int) override { abort(); }
  void release(backend::Request &) override { abort(); }
  bool client_has_gone() const override { return false; }
  // nbd::Admission
  bool admit(nbd::MemoryCharge &charge, uint64_t bytes) override {
    if (++admissions_ % 7 == 0) {
      refuses_ = true;
      return false;
    }
    admitted_bytes_ += bytes;
    charge.shared_bytes += bytes;
    return true;
  }
  void withdraw(const nbd::MemoryCharge &charge) override { admitted_bytes_ -= charge.bytes(); }
  uint32_t bytes_besides(uint16_t, uint64_t length_bytes) const override {
    return length_bytes % 3;
  }
  backend::Reservation reserve(backend::Request &request) override {
    MUST(request.length_bytes <= MAX_PAYLOAD);
    if (request.type == wire::NBD_CMD_READ || choices_ % 2 == 0)
      return {nullptr, choices_ % 3 == 0};
    reserved_++;
    return {disk_.data()};
  }
  void unreserve(backend::Request &) override { reserved_--; }
  // nbd::ReplyListener
  void on_sent(PendingRequest *first, uint32_t) override {
    PendingRequest *last = first;
    for (PendingRequest *request = first; request != nullptr; request = request->next) {
      request->reply_buffer->unref();
      if (request->payload_buffer != nullptr)
        request->payload_buffer->unref();
      admitted_bytes_ -= request->charge.bytes();
      request->stage = PendingRequest::Stage::free;
      last = request;
    }
    requests_->recycle(first, last);
  }
  void on_full() override {}

  void drain() {
    static uint8_t scrap[1 << 20];
    for (;;) {
      const ssize_t received = recv(sockets_[1], scrap, sizeof scrap, MSG_DONTWAIT);
      if (received > 0)
        parser_.take(scrap, static_cast<size_t>(received));
      else if (!replies_->is_full())
        return;
      replies_->flush(nbd::WhenFull::return_early);
    }
  }

  const wire::ReplyStyle style_;
  int sockets_[2];
  nbd::Resources &resources_ = system_resources();
  nbd::ExportFacts facts_{};
  std::optional<transport::Transport> transport_;
  std::optional<nbd::ReplyQueue> replies_;
  std::optional<nbd::RequestPool> requests_;
  std::optional<nbd::RequestReader> reader_;
  ReplyParser parser_;
  uint64_t admitted_bytes_ = 0;
  unsigned admissions_ = 0;
  bool refuses_ = false; // memory, until asked again
  std::vector<uint8_t> disk_ = std::vector<uint8_t>(MAX_PAYLOAD);
  unsigned reserved_ = 0;
  unsigned choices_;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < SETTINGS_BYTES || size > (64 << 10))
    return 0;
  Client(data, data + SETTINGS_BYTES, size - SETTINGS_BYTES).run();
  return 0;
}
