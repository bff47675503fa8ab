// Keys waiting for a pass: no key twice in the queue, none in two workers' hands (client-go's workqueue).
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "lib/base/clock.h"
#include "lib/kube/resource.h"

namespace pgtier::kube {

class WorkQueue {
 public:
  // Lanes; a key is taken from one only when those above are empty. kDue: a look that is due by the clock. kLow:
  // objects of the first list, and what is under way. kHigh: changes, which wait neither behind ten thousand objects of
  // a first list nor behind looks that are due, of which there may be more than can be made.
  enum class Priority { kDue, kLow, kHigh };

  // The clock outlives this. With a clock of a test's own, use TryGet: Get sleeps by the real one.
  explicit WorkQueue(const Clock* clock);

  // The key wants a pass. In the queue already: at most its priority rises. In a worker's hands: again after Done.
  void Add(const ObjectKey& key, Priority priority = Priority::kHigh);
  // The same in `delay`. Of several waits for a key the earliest counts, at the highest of their priorities.
  void AddAfter(const ObjectKey& key, Duration delay, Priority priority = Priority::kHigh);
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
  void AddAfterLocked(const ObjectKey& key, Duration delay, Priority priority);
  void PromoteLocked();
  std::optional<ObjectKey> TakeLocked();
  std::deque<ObjectKey>& Lane(Priority priority) { return lanes_[static_cast<size_t>(priority)]; }

  const Clock* const clock_;
  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  bool shut_down_ = false;
  unsigned changes_ = 0;                           // what Get waits for
  std::unordered_map<ObjectKey, Priority> dirty_;  // wants a pass; in a lane unless also processing
  std::unordered_set<ObjectKey> processing_;
  std::array<std::deque<ObjectKey>, 3> lanes_;  // by priority; may hold keys that rose to another; they are skipped
  std::multimap<MonoTime, std::pair<ObjectKey, Priority>> waiting_;
  std::unordered_map<ObjectKey, MonoTime> due_;  // of each key in waiting_
  std::unordered_map<ObjectKey, int> failures_;
  double tokens_;
  MonoTime tokens_at_;
};

}  // namespace pgtier::kube
