#include <fstream>
#include <iterator>

#include "lib/kube/config.h"

namespace pgtier::kube {
namespace {

constexpr auto kTokenLife = std::chrono::minutes(1);

}  // namespace

Result<std::string> ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return MakeError(Code::kNotFound, "can't read " + path.string());
  std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad()) return MakeError(Code::kUnavailable, "can't read " + path.string());
  return content;
}

TokenSource::TokenSource(std::string fixed, std::string file, const Clock* clock)
    : file_(std::move(file)), clock_(clock), token_(std::move(fixed)) {}

std::string TokenSource::Get() {
  std::lock_guard lock(mutex_);
  if (file_.empty()) return token_;
  if (!stale_ && clock_->MonoNow() - read_at_ < kTokenLife) return token_;
  auto content = ReadFile(file_);
  if (!content.has_value()) return token_;
  content->erase(content->find_last_not_of(" \t\r\n") + 1);
  // The kubelet replaces the file atomically; an empty one is someone's mistake, and no better than what we have.
  if (content->empty()) return token_;
  token_ = *std::move(content);
  read_at_ = clock_->MonoNow();
  stale_ = false;
  return token_;
}

void TokenSource::Drop() {
  std::lock_guard lock(mutex_);
  stale_ = true;
}

}  // namespace pgtier::kube
