#include "lib/kube/work_queue.h"

#include <algorithm>
#include <utility>

namespace pgtier::kube {
namespace {

// client-go's DefaultControllerRateLimiter.
constexpr Duration kBaseDelay = std::chrono::milliseconds(5);
constexpr Duration kMaxDelay = std::chrono::seconds(1000);
constexpr int kMaxDoublings = 18;  // 5 ms · 2¹⁸ is above 1000 s
constexpr double kTokensPerSecond = 10;
constexpr double kBurst = 100;

}  // namespace

WorkQueue::WorkQueue(const Clock* clock) : clock_(clock), tokens_(kBurst), tokens_at_(clock->MonoNow()) {}

void WorkQueue::Add(const ObjectKey& key, Priority priority) {
  std::lock_guard lock(mutex_);
  AddLocked(key, priority);
}

void WorkQueue::AddLocked(const ObjectKey& key, Priority priority) {
  if (shut_down_) return;
  auto [entry, fresh] = dirty_.try_emplace(key, priority);
  if (!fresh) {
    if (priority <= entry->second) return;
    entry->second = priority;  // its place in the other lane is now void
  }
  if (processing_.contains(key)) return;
  Lane(priority).push_back(key);
  ++changes_;
  wake_.notify_one();
}

void WorkQueue::AddAfter(const ObjectKey& key, Duration delay, Priority priority) {
  std::lock_guard lock(mutex_);
  AddAfterLocked(key, delay, priority);
}

void WorkQueue::AddAfterLocked(const ObjectKey& key, Duration delay, Priority priority) {
  if (shut_down_) return;
  if (delay <= Duration::zero()) {
    AddLocked(key, priority);
    return;
  }
  const MonoTime at = clock_->MonoNow() + delay;
  auto [entry, fresh] = due_.try_emplace(key, at);
  if (!fresh) {
    auto [first, last] = waiting_.equal_range(entry->second);
    auto old = std::find_if(first, last, [&](const auto& waiting) { return waiting.second.first == key; });
    priority = std::max(priority, old->second.second);
    if (entry->second <= at) {
      old->second.second = priority;
      return;
    }
    waiting_.erase(old);
    entry->second = at;
  }
  waiting_.emplace(at, std::pair(key, priority));
  ++changes_;
  wake_.notify_all();  // whoever sleeps until the next due time may now sleep too long
}

Duration WorkQueue::AddRateLimited(const ObjectKey& key) {
  std::lock_guard lock(mutex_);
  const int failures = std::min(failures_[key]++, kMaxDoublings);
  const Duration own = std::min<Duration>(kMaxDelay, kBaseDelay * (1LL << failures));

  const MonoTime now = clock_->MonoNow();
  const double elapsed = std::chrono::duration<double>(now - tokens_at_).count();
  tokens_ = std::min(kBurst, tokens_ + elapsed * kTokensPerSecond) - 1;
  tokens_at_ = now;
  Duration shared = Duration::zero();
  if (tokens_ < 0) {
    shared = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(-tokens_ / kTokensPerSecond));
  }

  const Duration delay = std::max(own, shared);
  AddAfterLocked(key, delay, Priority::kHigh);
  return delay;
}

void WorkQueue::Forget(const ObjectKey& key) {
  std::lock_guard lock(mutex_);
  failures_.erase(key);
}

int WorkQueue::Failures(const ObjectKey& key) const {
  std::lock_guard lock(mutex_);
  auto found = failures_.find(key);
  return found == failures_.end() ? 0 : found->second;
}

void WorkQueue::PromoteLocked() {
  const MonoTime now = clock_->MonoNow();
  while (!waiting_.empty() && waiting_.begin()->first <= now) {
    const auto [key, priority] = waiting_.begin()->second;
    waiting_.erase(waiting_.begin());
    due_.erase(key);
    AddLocked(key, priority);
  }
}

std::optional<ObjectKey> WorkQueue::TakeLocked() {
  for (Priority priority : {Priority::kHigh, Priority::kLow, Priority::kDue}) {
    std::deque<ObjectKey>& lane = Lane(priority);
    while (!lane.empty()) {
      ObjectKey key = std::move(lane.front());
      lane.pop_front();
      auto entry = dirty_.find(key);
      // Void places: the key rose to the other lane, or was taken there.
      if (entry == dirty_.end() || entry->second != priority || processing_.contains(key)) continue;
      dirty_.erase(entry);
      processing_.insert(key);
      return key;
    }
  }
  return std::nullopt;
}

std::optional<ObjectKey> WorkQueue::TryGet() {
  std::lock_guard lock(mutex_);
  if (shut_down_) return std::nullopt;
  PromoteLocked();
  return TakeLocked();
}

std::optional<ObjectKey> WorkQueue::Get(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!shut_down_ && !stop.stop_requested()) {
    PromoteLocked();
    if (auto key = TakeLocked()) return key;
    auto changed = [this, seen = changes_] { return changes_ != seen; };
    if (waiting_.empty()) {
      wake_.wait(lock, stop, changed);
    } else {
      const MonoTime next = waiting_.begin()->first;  // a copy: the entry may go while we wait
      wake_.wait_until(lock, stop, next, changed);
    }
  }
  return std::nullopt;
}

void WorkQueue::Done(const ObjectKey& key) {
  std::lock_guard lock(mutex_);
  processing_.erase(key);
  auto entry = dirty_.find(key);
  if (entry != dirty_.end()) Lane(entry->second).push_back(key);
  ++changes_;
  wake_.notify_all();
}

void WorkQueue::ShutDown() {
  std::lock_guard lock(mutex_);
  shut_down_ = true;
  dirty_.clear();
  for (std::deque<ObjectKey>& lane : lanes_) lane.clear();
  waiting_.clear();
  due_.clear();
  ++changes_;
  wake_.notify_all();
}

bool WorkQueue::Drain(Deadline deadline) {
  std::unique_lock lock(mutex_);
  return wake_.wait_until(lock, deadline.at(), [this] { return processing_.empty(); });
}

size_t WorkQueue::depth() const {
  std::lock_guard lock(mutex_);
  size_t waiting_for_done = 0;
  for (const ObjectKey& key : processing_) waiting_for_done += dirty_.count(key);
  return dirty_.size() - waiting_for_done;
}

size_t WorkQueue::processing() const {
  std::lock_guard lock(mutex_);
  return processing_.size();
}

}  // namespace pgtier::kube
