// A file on a web server, read by ranges: its size, redirects, checks that it is still the same,
// and joined reads.
#ifndef ASYNCNBD_HTTP_FILE_HPP
#define ASYNCNBD_HTTP_FILE_HPP

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <nbdkit-async.hpp>

#include "http-client.hpp"

namespace http {

struct FileSettings {
  std::string url;
  std::vector<std::string> headers; // "Name: value"; may be secret
  std::string user;                 // if this and the password are empty, the URL's are used
  std::string password;
  bool follows_redirects = true;
  uint64_t max_request_bytes = 4 << 20; // for joined reads
  Retry retry;
};

class File {
public:
  /// Throws std::runtime_error, with a message, if the URL is invalid.
  File(FileSettings settings, const Settings &client_settings);
  ~File();
  File(const File &) = delete;
  File &operator=(const File &) = delete;

  /// Starts the client, and asks for the size and for what identifies this version of the file.
  /// Throws std::runtime_error or nbdkit::Reported.
  void identify();
  uint64_t size_bytes() const { return size_bytes_; }
  /// Any thread. The answer is given on the client's thread.
  void read(nbdkit::ReadRequest read);

private:
  /// Where requests go. Immutable, because requests on several threads share it.
  struct Target {
    std::string address;
    std::vector<std::string> headers;
    std::string user;
    std::string password;
    bool is_first; // not the target of a redirect
  };
  struct Waiting {
    nbdkit::ReadRequest read;
    Clock::time_point since;
  };
  /// Adjacent reads that are one request.
  struct Group {
    std::vector<nbdkit::ReadRequest> reads;
    uint64_t offset = 0;
    uint64_t count = 0;
    Clock::time_point since; // when the first of them came: the deadline counts from then
    unsigned moves = 0;      // redirects that it has followed
    std::shared_ptr<const Target> target;
  };

  std::shared_ptr<const Target> first_target() const;
  std::shared_ptr<const Target> target_of(const Target &from, const Response &response) const;
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
  const Url url_;
  const std::string name_; // for messages
  // These must not change while the file is served. Only validators that promise equal bytes.
  uint64_t size_bytes_ = 0;
  std::string etag_;
  std::string last_modified_;

  std::mutex mutex_;
  std::shared_ptr<const Target> target_;     // under mutex_
  std::multimap<uint64_t, Waiting> waiting_; // under mutex_, by offset
  uint64_t next_offset_ = 0;       // under mutex_: reads are taken upwards, again and again
  unsigned sent_ = 0;              // under mutex_: groups
  Clock::time_point last_warning_; // the client's thread

  std::unique_ptr<Client> client_; // must end before the other members
};

} // namespace http

#endif
