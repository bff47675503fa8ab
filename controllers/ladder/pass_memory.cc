#include "controllers/ladder/pass_memory.h"

#include <algorithm>

#include "controllers/ladder/memory.h"

namespace pgtier::controllers {
namespace {

constexpr Duration kSoon = std::chrono::seconds(1);
constexpr int kPatienceShare = 10;

}  // namespace

core::Memory PassMemory::Recall(const crds::Meta& policy, const crds::LadderStatus& status, const core::Ladder& ladder,
                                const std::string& tier, const Rules& rules) {
  core::Memory memory;
  memory.tier = tier;
  memory.target = status.target_tier;
  if (!status.history.empty()) memory.last_change = status.history.front().at;
  memory.triggers = TriggersInStatus(status, ladder);
  std::lock_guard lock(mutex_);
  auto found = remembered_.find(KeyOf(policy));
  if (found != remembered_.end() && found->second.uid == policy.uid) {
    memory.triggers = found->second.triggers;
    ForgetOtherRules(rules, found->second.rules, memory.triggers);
  }
  return memory;
}

bool PassMemory::Remember(const crds::Meta& policy, const core::Decision& decision, Rules rules) {
  std::lock_guard lock(mutex_);
  Remembered& remembered = remembered_[KeyOf(policy)];
  bool other = remembered.uid != policy.uid;
  if (other) remembered = Remembered{policy.uid, {}, {}, std::nullopt, {}, {}, {}};
  remembered.triggers = decision.triggers;
  remembered.rules = std::move(rules);
  return other;
}

Waited PassMemory::WaitedFor(const crds::Meta& policy, const std::string* now_waiting_for) {
  std::lock_guard lock(mutex_);
  Remembered& remembered = remembered_[KeyOf(policy)];
  MonoTime now = clock_->MonoNow();
  if (now_waiting_for != nullptr && remembered.waiting_for != *now_waiting_for) {
    remembered.waiting_for = *now_waiting_for;
    remembered.waiting_since = now;
  }
  Waited waited{remembered.waiting_for, now - remembered.waiting_since};
  for (const auto& [found, since] : remembered.lasting) waited.lasting[found] = now - since;
  return waited;
}

void PassMemory::NoteLasting(const crds::Meta& policy, const std::set<std::string>& found) {
  std::lock_guard lock(mutex_);
  std::map<std::string, MonoTime>& lasting = remembered_[KeyOf(policy)].lasting;
  std::erase_if(lasting, [&](const auto& each) { return !found.contains(each.first); });
  for (const std::string& each : found) lasting.emplace(each, clock_->MonoNow());
}

Duration PassMemory::NextLook(const LadderPass& pass, Duration interval) {
  const std::string& waiting = pass.failure.empty() ? pass.waiting_for : pass.failure;
  Waited waited = WaitedFor(pass.meta, &waiting);
  if (pass.Complete() || pass.needs_person) return interval;
  // What becomes ready wakes the policy by itself.
  return std::clamp(waited.how_long / kPatienceShare, std::min(kSoon, interval), interval);
}

std::optional<WallTime> PassMemory::LastWrite(const crds::Meta& policy) {
  std::lock_guard lock(mutex_);
  return remembered_[KeyOf(policy)].last_write;
}

void PassMemory::NoteWrite(const crds::Meta& policy, WallTime now) {
  std::lock_guard lock(mutex_);
  remembered_[KeyOf(policy)].last_write = now;
}

void PassMemory::Forget(const kube::ObjectKey& key) {
  std::lock_guard lock(mutex_);
  remembered_.erase(key);
}

}  // namespace pgtier::controllers
