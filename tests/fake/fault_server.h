// A server that misbehaves on purpose: each connection runs a script on plain sockets.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "tests/fake/loopback.h"

namespace pgtier::fake {

// One accepted connection, in its script's hands.
class FaultConnection {
 public:
  FaultConnection(int descriptor, int index) : descriptor_(descriptor), index_(index) {}
  ~FaultConnection() { Close(); }
  FaultConnection(const FaultConnection&) = delete;
  FaultConnection& operator=(const FaultConnection&) = delete;

  // The how-manieth connection of the server this is, from 0.
  [[nodiscard]] int index() const { return index_; }

  // One whole request: line, headers and a body of Content-Length. Empty when the peer has closed.
  std::string ReadRequest() {
    while (true) {
      const size_t end = unread_.find("\r\n\r\n");
      if (end != std::string::npos) {
        const size_t whole = end + 4 + ContentLength(unread_.substr(0, end));
        if (unread_.size() >= whole) {
          std::string request = unread_.substr(0, whole);
          unread_.erase(0, whole);
          return request;
        }
      }
      char bytes[4096];
      const ssize_t count = recv(descriptor_, bytes, sizeof(bytes), 0);
      if (count <= 0) return {};
      unread_.append(bytes, static_cast<size_t>(count));
    }
  }

  // False when the peer is gone.
  bool Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count = send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      written_ += static_cast<size_t>(count);
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  [[nodiscard]] size_t written() const { return written_; }

  bool Reply(int status, std::string_view body, std::string_view headers = {}) {
    return Write("HTTP/1.1 " + std::to_string(status) + " x\r\nContent-Type: application/json\r\nContent-Length: " +
                 std::to_string(body.size()) + "\r\n" + std::string(headers) + "\r\n" + std::string(body));
  }
  bool BeginChunked(int status = 200, std::string_view headers = {}) {
    return Write("HTTP/1.1 " + std::to_string(status) + " x\r\nTransfer-Encoding: chunked\r\n" + std::string(headers) +
                 "\r\n");
  }
  bool Chunk(std::string_view data) {
    char size[20];
    snprintf(size, sizeof(size), "%zx\r\n", data.size());
    return Write(std::string(size) + std::string(data) + "\r\n");
  }
  bool EndChunked() { return Write("0\r\n\r\n"); }

  // Blocks until the peer closes, or the server is destroyed.
  void WaitForPeer() {
    char byte = 0;
    while (recv(descriptor_, &byte, 1, 0) > 0) {
    }
  }

  // Ends the connection with a reset rather than a close.
  void Reset() {
    const linger now{1, 0};
    setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Close();
  }
  void Close() {
    const int descriptor = descriptor_.exchange(-1);
    if (descriptor >= 0) close(descriptor);
  }
  void Shutdown() {
    const int descriptor = descriptor_;
    if (descriptor >= 0) shutdown(descriptor, SHUT_RDWR);
  }

 private:
  static size_t ContentLength(const std::string& head) {
    const size_t at = head.find("Content-Length:");
    return at == std::string::npos ? 0 : std::stoul(head.substr(at + 15));
  }

  std::atomic<int> descriptor_;
  const int index_;
  std::string unread_;
  std::atomic<size_t> written_ = 0;
};

// Listens on a free port of 127.0.0.1. Each connection gets a thread that runs `script` and closes after it.
class FaultServer {
 public:
  using Script = std::function<void(FaultConnection&)>;

  explicit FaultServer(Script script) : script_(std::move(script)), acceptor_([this] { Accept(); }) {}

  ~FaultServer() {
    stopping_ = true;
    listener_.Stop();
    acceptor_.join();
    for (auto& session : sessions_) session.connection.Shutdown();
    for (auto& session : sessions_) session.thread.join();
  }
  FaultServer(const FaultServer&) = delete;
  FaultServer& operator=(const FaultServer&) = delete;

  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port()); }
  [[nodiscard]] uint16_t port() const { return listener_.port(); }
  [[nodiscard]] int connections() const { return accepted_; }

 private:
  struct Session {
    Session(int descriptor, int index) : connection(descriptor, index) {}
    FaultConnection connection;
    std::thread thread;
  };

  void Accept() {
    while (!stopping_) {
      const int descriptor = listener_.Accept();
      if (descriptor < 0) continue;
      Session& session = sessions_.emplace_back(descriptor, accepted_++);
      session.thread = std::thread([this, &session] {
        script_(session.connection);
        session.connection.Close();
      });
    }
  }

  const Script script_;
  const LoopbackListener listener_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> accepted_ = 0;
  std::list<Session> sessions_;  // the acceptor's until it has ended
  std::thread acceptor_;
};

}  // namespace pgtier::fake
