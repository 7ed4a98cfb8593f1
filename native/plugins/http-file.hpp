// A file on a web server, read by ranges: its size, checks that it is still the same, and joined
// reads.
#ifndef ASYNCNBD_HTTP_FILE_HPP
#define ASYNCNBD_HTTP_FILE_HPP

#include <memory>
#include <string>

#include <nbdkit-async.hpp>

#include "http-client.hpp"
#include "http-joined-reads.hpp"
#include "http-target.hpp"

namespace http {

struct FileSettings {
  TargetSettings target;
  bool follows_redirects = true;
  uint64_t max_request_bytes = 4 << 20; // of joined reads that wait for a connection
  Retry retry;
};

class File {
public:
  /// Throws std::runtime_error, with a message, if the URL is invalid.
  File(FileSettings settings, const Settings &client_settings);
  ~File();
  File(const File &) = delete;
  File &operator=(const File &) = delete;

  /// Runs the scripts, starts the client, and asks for the size and for what identifies this
  /// version of the file. Throws std::runtime_error or nbdkit::Reported.
  void identify();
  uint64_t size_bytes() const { return size_bytes_; }
  /// Any thread. The answer is given on the client's thread.
  void read(nbdkit::ReadRequest read);

private:
  using Reads = JoinedReads<nbdkit::ReadRequest>;
  struct Group : Reads::Group {
    std::shared_ptr<const Target> target;
    unsigned moves = 0;        // redirects that it has followed
    bool has_returned = false; // to the first target, after a failure
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
  void warn(const Response &response);

  const FileSettings settings_;
  const Settings client_settings_;
  const std::string name_; // for messages
  // These must not change while the file is served. The ETag is kept only if it is a strong one.
  uint64_t size_bytes_ = 0;
  std::string etag_;
  std::string last_modified_;

  Clock::time_point last_warning_; // the client's thread

  Reads reads_;
  Targets targets_;
  std::unique_ptr<Client> client_; // last, because it must end before the other members
};

} // namespace http

#endif
