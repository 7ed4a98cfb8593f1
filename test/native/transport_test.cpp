// Streams that are slow, aborted, or closed while the peer still sends.
#include <doctest/doctest.h>

#include <cerrno>
#include <sys/eventfd.h>
#include <thread>

#include "support.hpp"
#include "transport/page_pipe.hpp"
#include "transport/transport.hpp"

using namespace asyncnbd::transport;

TEST_CASE("a list of buffers arrives whole at a peer that reads little at a time") {
  SocketPair sockets;
  PagePipes pipes;
  Transport transport(pipes, sockets.server, sockets.server, -1);
  std::vector<uint8_t> first(3000000, 1);
  std::vector<uint8_t> second(1, 2);
  std::vector<uint8_t> third(2000000, 3);
  std::thread sender([&] {
    std::vector<iovec> buffers = {
        {first.data(), first.size()}, {second.data(), second.size()}, {third.data(), third.size()}};
    while (!buffers.empty()) {
      ssize_t sent = transport.send(buffers.data(), buffers.size(), true);
      REQUIRE(sent > 0);
      while (!buffers.empty() && static_cast<size_t>(sent) >= buffers[0].iov_len) {
        sent -= static_cast<ssize_t>(buffers[0].iov_len);
        buffers.erase(buffers.begin());
      }
      if (!buffers.empty())
        buffers[0] = {static_cast<uint8_t *>(buffers[0].iov_base) + sent,
                      buffers[0].iov_len - static_cast<size_t>(sent)};
    }
  });
  std::vector<uint8_t> received;
  uint8_t piece[10007];
  while (received.size() < 5000001) {
    ssize_t bytes = recv(sockets.client, piece, sizeof piece, 0);
    REQUIRE(bytes > 0);
    received.insert(received.end(), piece, piece + bytes);
  }
  sender.join();
  CHECK(received[2999999] == 1);
  CHECK(received[3000000] == 2);
  CHECK(received[3000001] == 3);
}

TEST_CASE("abort ends a send and a wait that would last for ever") {
  SocketPair sockets;
  PagePipes pipes;
  Transport transport(pipes, sockets.server, sockets.server, -1);
  std::vector<uint8_t> data(64 << 20);
  std::thread sender([&] {
    iovec buffer{data.data(), data.size()};
    while (transport.send(&buffer, 1, true) > 0) {
    }
  });
  std::thread waiter(
      [&] { CHECK(transport.wait({.input = true, .stop = true}, -1) == Wait::readable); });
  uint8_t byte;
  CHECK(recv(sockets.client, &byte, 1, 0) == 1); // the sender is at work
  transport.abort();
  sender.join();
  waiter.join();
  CHECK(transport.receive(&byte, 1) == -ECONNABORTED);
}

TEST_CASE("pipes work as sockets do, and can be aborted too") {
  int in[2];
  int out[2];
  REQUIRE(pipe(in) == 0);
  REQUIRE(pipe(out) == 0);
  PagePipes pipes;
  Transport transport(pipes, in[0], out[1], -1);
  uint8_t byte = 5;
  CHECK(transport.receive(&byte, 1) == -EAGAIN);
  REQUIRE(write(in[1], &byte, 1) == 1);
  CHECK(transport.wait({.input = true, .stop = true}, -1) == Wait::readable);
  CHECK(transport.receive(&byte, 1) == 1);
  iovec buffer{&byte, 1};
  CHECK(transport.send(&buffer, 1, true) == 1);
  CHECK(read(out[0], &byte, 1) == 1);
  std::thread waiter(
      [&] { CHECK(transport.wait({.input = true, .stop = true}, -1) == Wait::woken); });
  transport.abort();
  waiter.join();
  CHECK(transport.receive(&byte, 1) == -ECONNABORTED);
  for (int fd : {in[1], out[0]})
    close(fd);
}

TEST_CASE("a full socket is an answer to a send that may not block") {
  SocketPair sockets;
  PagePipes pipes;
  Transport transport(pipes, sockets.server, sockets.server, -1);
  std::vector<uint8_t> data(1 << 20);
  iovec buffer{data.data(), data.size()};
  ssize_t sent;
  for (int i = 0; i < 1000 && (sent = transport.send(&buffer, 1, false)) > 0; i++) {
  }
  CHECK(sent == -EAGAIN);
  CHECK(transport.wait({.room = true}, 0) == Wait::timed_out);
  std::vector<uint8_t> read_by_client(16 << 20);
  CHECK(recv(sockets.client, read_by_client.data(), read_by_client.size(), 0) > 0);
  CHECK(transport.wait({.room = true}, -1) == Wait::writable);
}

TEST_CASE("wake ends one wait, a hang-up every wait that asks for it") {
  SocketPair sockets;
  PagePipes pipes;
  Transport transport(pipes, sockets.server, sockets.server, -1);
  transport.wake();
  CHECK(transport.wait({.stop = true}, -1, true) == Wait::woken);
  CHECK(transport.wait({.stop = true}, 0, true) == Wait::timed_out);
  transport.wake();
  CHECK(transport.wait({.input = true, .stop = true}, -1) == Wait::woken);
  uint8_t byte = 1;
  REQUIRE(send(sockets.client, &byte, 1, 0) == 1);
  CHECK(transport.wait({.stop = true}, 0, true) == Wait::timed_out);
  CHECK(transport.wait({.input = true, .stop = true}, -1) == Wait::readable);
  sockets.close_client();
  CHECK(transport.wait({.stop = true}, -1, true) == Wait::hung_up);
  CHECK(transport.wait({.stop = true}, 0) == Wait::timed_out);
}

TEST_CASE("a stopping server ends only waits that ask for it") {
  SocketPair sockets;
  int stop_fd = eventfd(1, EFD_CLOEXEC);
  PagePipes pipes;
  Transport transport(pipes, sockets.server, sockets.server, stop_fd);
  CHECK(transport.wait({.input = true, .stop = true}, -1) == Wait::stopping);
  CHECK(transport.wait({.input = true}, 1) == Wait::timed_out);
  close(stop_fd);
}

TEST_CASE("closing lets the peer read the last reply though its own input is unread") {
  SocketPair sockets;
  PagePipes pipes;
  Transport transport(pipes, sockets.server, sockets.server, -1);
  std::vector<uint8_t> unread(100000, 1);
  REQUIRE(send_all(sockets.client, unread));
  uint8_t reply = 42;
  iovec buffer{&reply, 1};
  REQUIRE(transport.send(&buffer, 1, true) == 1);
  std::thread closer([&] { transport.close(true); });
  uint8_t byte = 0;
  CHECK(recv(sockets.client, &byte, 1, 0) == 1);
  CHECK(byte == 42);
  CHECK(recv(sockets.client, &byte, 1, 0) == 0);
  sockets.close_client();
  closer.join();
}

TEST_CASE("there is room for references until the socket's buffer is as good as full") {
  SocketPair sockets;
  const int buffer_bytes = 64 << 10;
  setsockopt(sockets.server, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
  PagePipes pipes;
  Transport transport(pipes, sockets.server, sockets.server, -1);
  CHECK(transport.has_room_for_references(64 << 10));
  CHECK_FALSE(transport.has_room_for_references(1 << 20));
  std::vector<uint8_t> data(96 << 10);
  const iovec buffer{data.data(), data.size()};
  REQUIRE(transport.send(&buffer, 1, false) > 0);
  CHECK_FALSE(transport.has_room_for_references(64 << 10));
  std::vector<uint8_t> received(data.size());
  recv(sockets.client, received.data(), received.size(), 0);
  CHECK(transport.has_room_for_references(64 << 10));
}
