// What a transfer takes of a response: its status, some of its fields, and its body.
#include "http-transfer.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace http {

namespace {

constexpr size_t MAX_HEADER_BYTES = 65'536;

constexpr std::array<std::string_view, static_cast<size_t>(Field::count)> FIELD_NAMES = {
    "etag",
    "content-length",
    "content-range",
    "content-type",
    "content-encoding",
    "last-modified",
    "retry-after",
    "date",
    "location",
    "x-amz-request-id",
    "x-amz-bucket-region",
};

std::string_view trimmed(std::string_view text) {
  const size_t from = text.find_first_not_of(" \t\r\n");
  if (from == std::string_view::npos)
    return {};
  return text.substr(from, text.find_last_not_of(" \t\r\n") - from + 1);
}

} // namespace

size_t Transfer::on_header(char *text, size_t size, size_t count, void *self) {
  return static_cast<Transfer *>(self)->take_header({text, size * count});
}

size_t Transfer::on_body(char *bytes, size_t size, size_t count, void *self) {
  return static_cast<Transfer *>(self)->take_body(bytes, size * count);
}

size_t Transfer::take_header(std::string_view line) {
  constexpr size_t REFUSED = 0;
  header_bytes_ += line.size();
  moved_bytes_ += line.size();
  if (header_bytes_ > MAX_HEADER_BYTES)
    return REFUSED;
  Response &response = job_->response;
  if (line.starts_with("HTTP/")) { // of the final response, or of an earlier one such as 100
    response.status = 0;
    const size_t space = line.find(' ');
    for (size_t i = space + 1; space != std::string_view::npos && i < line.size() && i <= space + 3;
         i++)
      if (line[i] >= '0' && line[i] <= '9')
        response.status = response.status * 10 + (line[i] - '0');
    for (std::string &field : response.fields)
      field.clear();
    return line.size();
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos)
    return line.size();
  const std::string_view name = line.substr(0, colon);
  for (size_t i = 0; i < FIELD_NAMES.size(); i++)
    if (name.size() == FIELD_NAMES[i].size() && is_same_name(name, FIELD_NAMES[i])) {
      response.fields[i] = trimmed(line.substr(colon + 1));
      break;
    }
  return line.size();
}

size_t Transfer::take_body(const char *bytes, size_t count) {
  constexpr size_t REFUSED = 0;
  moved_bytes_ += count;
  Request &request = job_->request;
  Response &response = job_->response;
  if (response.status / 100 != 2 || request.into.empty())
    return take_text(bytes, count);
  for (size_t left = count; left > 0;) {
    if (piece_ == request.into.size())
      return REFUSED;
    const std::span<char> piece = request.into[piece_];
    const size_t part = std::min(left, piece.size() - piece_bytes_);
    memcpy(piece.data() + piece_bytes_, bytes, part);
    bytes += part;
    left -= part;
    response.received += part;
    piece_bytes_ += part;
    if (piece_bytes_ == piece.size()) {
      piece_++;
      piece_bytes_ = 0;
    }
  }
  return count;
}

size_t Transfer::take_text(const char *bytes, size_t count) {
  constexpr size_t REFUSED = 0;
  Response &response = job_->response;
  const size_t room = job_->request.text_limit - response.text.size();
  response.text.append(bytes, std::min(room, count));
  if (count <= room)
    return count;
  is_text_full_ = response.status / 100 != 2;
  return REFUSED;
}

} // namespace http
