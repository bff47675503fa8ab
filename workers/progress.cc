#include "workers/progress.h"

namespace pgtier::workers {

void Progress::Working() {
  std::lock_guard lock(mutex_);
  if (!since_.has_value()) since_ = std::chrono::steady_clock::now();
}

void Progress::Done() {
  std::lock_guard lock(mutex_);
  since_ = std::chrono::steady_clock::now();
}

void Progress::Idle() {
  std::lock_guard lock(mutex_);
  since_.reset();
}

void Progress::SetReady(bool ready) {
  std::lock_guard lock(mutex_);
  ready_ = ready;
}

bool Progress::Ready() const {
  std::lock_guard lock(mutex_);
  return ready_;
}

bool Progress::Healthy(Duration limit) const {
  std::lock_guard lock(mutex_);
  return !since_.has_value() || std::chrono::steady_clock::now() - *since_ < limit;
}

}  // namespace pgtier::workers
