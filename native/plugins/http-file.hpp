// A file on a web server, read by ranges: what it is, whether it is still the same, and which reads
// go in one request.
#ifndef ASYNCNBD_HTTP_FILE_HPP
#define ASYNCNBD_HTTP_FILE_HPP

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <nbdkit-async.hpp>

#include "http-client.hpp"
#include "http-target.hpp"

namespace http {

struct FileSettings {
  TargetSettings target;
  bool follows_redirects = true;
  uint64_t max_request_bytes = 4 << 20; // of reads that are put together
  Retry retry;
};

class File {
public:
  /// Throws std::runtime_error, with a sentence, if the URL is none.
  File(FileSettings settings, const Settings &client_settings);
  ~File();
  File(const File &) = delete;
  File &operator=(const File &) = delete;

  /// Runs the scripts, starts the client and asks for the size, and for what tells this version of
  /// the file from others. Throws std::runtime_error or nbdkit::Reported.
  void identify();
  uint64_t size_bytes() const { return size_bytes_; }
  /// Any thread. It is answered on the client's.
  void read(nbdkit::ReadRequest read);

private:
  struct Waiting {
    nbdkit::ReadRequest read;
    Clock::time_point since;
  };
  /// Reads that lie one after the other, and are one request.
  struct Group {
    std::vector<nbdkit::ReadRequest> reads;
    uint64_t offset = 0;
    uint64_t count = 0;
    Clock::time_point since; // the first of them came: its deadline counts from there
    unsigned moves = 0;      // redirects that it has followed
    std::shared_ptr<const Target> target;
  };

  Request request_of(const Target &target, Range range) const;
  Response ask_for_size();
  void take_identity(const Response &response);

  void send(std::shared_ptr<Group> group);
  void on_response(const std::shared_ptr<Group> &group, const Response &response);
  bool is_sent_elsewhere(const std::shared_ptr<Group> &group, const Response &response);
  bool is_right(const Group &group, const Response &response) const;
  bool has_changed(const Response &response) const;
  void fail(Group &group, const Response &response) const;
  std::shared_ptr<Group> next_group();
  void warn(const Response &response);

  const FileSettings settings_;
  const Settings client_settings_;
  const std::string name_; // for messages
  // What must stay the same while it is served. Of the validators, those that promise the bytes.
  uint64_t size_bytes_ = 0;
  std::string etag_;
  std::string last_modified_;

  std::mutex mutex_;
  std::multimap<uint64_t, Waiting> waiting_; // under mutex_, by offset
  uint64_t next_offset_ = 0;       // under mutex_: they are taken upwards, and from the start again
  unsigned sent_ = 0;              // under mutex_: groups
  Clock::time_point last_warning_; // the client's thread

  Targets targets_;
  std::unique_ptr<Client> client_; // ends before all else here
};

} // namespace http

#endif
