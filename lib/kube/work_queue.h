// Keys waiting for a pass: no key twice in the queue, none in two workers' hands (client-go's workqueue).
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <unordered_map>
#include <unordered_set>

#include "lib/base/clock.h"
#include "lib/kube/resource.h"

namespace pgtier::kube {

class WorkQueue {
 public:
  // kLow: objects of the first list, so that a change does not wait behind ten thousand of them.
  enum class Priority { kLow, kHigh };

  // The clock outlives this. With a clock of a test's own, use TryGet: Get sleeps by the real one.
  explicit WorkQueue(const Clock* clock);

  // The key wants a pass. In the queue already: at most its priority rises. In a worker's hands: again after Done.
  void Add(const ObjectKey& key, Priority priority = Priority::kHigh);
  // The same in `delay`. Of several waits for a key the earliest counts.
  void AddAfter(const ObjectKey& key, Duration delay);
  // The same after a failure: max(5 ms · 2ⁿ up to 1000 s for the key's nth failure, 10/s with a burst of 100 for all).
  // Gives the delay.
  Duration AddRateLimited(const ObjectKey& key);
  // The key succeeded: its failures count no more.
  void Forget(const ObjectKey& key);
  // Failures since the last Forget.
  [[nodiscard]] int Failures(const ObjectKey& key) const;

  // Blocks for the next key, which is then this worker's until Done. Nothing: stopped or shut down.
  std::optional<ObjectKey> Get(const std::stop_token& stop);
  // The same without waiting.
  std::optional<ObjectKey> TryGet();
  void Done(const ObjectKey& key);

  // No more keys are taken or given; what waits is dropped (a restart lists everything again).
  void ShutDown();
  // After ShutDown: waits until every key given was Done. False: not by the deadline.
  bool Drain(Deadline deadline);

  // Keys ready for a worker, and keys in workers' hands.
  [[nodiscard]] size_t depth() const;
  [[nodiscard]] size_t processing() const;

 private:
  void AddLocked(const ObjectKey& key, Priority priority);
  void AddAfterLocked(const ObjectKey& key, Duration delay);
  void PromoteLocked();
  std::optional<ObjectKey> TakeLocked();

  const Clock* const clock_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  bool shut_down_ = false;
  unsigned changes_ = 0;                           // what Get waits for
  std::unordered_map<ObjectKey, Priority> dirty_;  // wants a pass; in a lane unless also processing
  std::unordered_set<ObjectKey> processing_;
  std::deque<ObjectKey> high_;
  std::deque<ObjectKey> low_;  // may hold keys that rose to high_; they are skipped
  std::multimap<MonoTime, ObjectKey> waiting_;
  std::unordered_map<ObjectKey, MonoTime> due_;  // of each key in waiting_
  std::unordered_map<ObjectKey, int> failures_;
  double tokens_;
  MonoTime tokens_at_;
};

}  // namespace pgtier::kube
