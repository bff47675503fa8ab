#include "controllers/ladder/approval.h"

#include "controllers/ladder/names.h"
#include "lib/base/sha256.h"
#include "lib/base/time_format.h"

namespace pgtier::controllers {
namespace {

constexpr size_t kHashLength = 16;  // 64 bits: nobody approves another plan by accident, and people can compare it.

}  // namespace

std::string HashOfPlan(const std::string& text) { return Sha256Hex(text).substr(0, kHashLength); }

std::vector<Approval> ApprovalsOf(const crds::Meta& meta, const crds::LadderSpec& spec) {
  std::vector<Approval> approvals;
  if (!spec.approved_plan.empty()) approvals.push_back({spec.approved_plan, "Git"});
  auto annotated = meta.annotations.find(kApproveAnnotation);
  if (annotated != meta.annotations.end() && !annotated->second.empty()) {
    approvals.push_back({annotated->second, "annotation"});
  }
  return approvals;
}

void FillApprovals(const crds::Meta& meta, const crds::LadderSpec& spec, const crds::LadderStatus& status,
                   const std::string& tier, const std::function<std::string(size_t from, size_t to)>& hash,
                   core::Ladder& ladder) {
  ladder.plan_up.clear();
  ladder.plan_down.clear();
  ladder.approved.clear();
  for (const Approval& approval : ApprovalsOf(meta, spec)) ladder.approved.insert(approval.hash);
  if (!status.plan.approved_by.empty()) ladder.approved.insert(status.plan.hash);
  std::optional<size_t> current = core::FindTier(ladder, tier);
  if (!current.has_value()) return;
  if (*current + 1 < ladder.tiers.size()) ladder.plan_up = hash(*current, *current + 1);
  if (*current > 0) ladder.plan_down = hash(*current, *current - 1);
}

crds::PlanStatus PlanStatusOf(const crds::Meta& meta, const crds::LadderSpec& spec, const crds::PlanStatus& before,
                              const Change& change, WallTime now) {
  crds::PlanStatus plan{change.hash, change.from, change.to, "", change.steps, change.settings};
  if (before.hash == plan.hash) plan.approved_by = before.approved_by;
  if (!plan.approved_by.empty()) return plan;
  for (const Approval& approval : ApprovalsOf(meta, spec)) {
    if (approval.hash != plan.hash) continue;
    plan.approved_by = approval.channel + " at " + FormatTime(now);
    break;
  }
  return plan;
}

std::string HowToApprove(const std::string& resource, const crds::Meta& meta, const crds::LadderSpec& spec,
                         const std::string& hash) {
  std::string text = "plan " + hash + ", see status.plan. To approve it run: kubectl annotate " + resource + " " +
                     meta.name + " -n " + meta.namespace_ + " " + kApproveAnnotation + "=" + hash +
                     " --overwrite (or set spec.approvedPlan to it)";
  for (const Approval& approval : ApprovalsOf(meta, spec)) {
    if (approval.hash == hash) continue;
    // Only what can be a hash is repeated: an annotation may hold anything.
    constexpr size_t kShown = 64;
    std::string shown = approval.hash.substr(0, kShown);
    bool hex = shown.find_first_not_of("0123456789abcdef") == std::string::npos;
    text += std::string("; ") + (approval.channel == "Git" ? "spec.approvedPlan" : "the annotation") + " approves " +
            (hex ? shown : "something that is no hash") + ", which is not this plan";
  }
  return text;
}

bool IsPaused(const crds::Meta& meta) {
  auto found = meta.annotations.find(kPausedAnnotation);
  return found != meta.annotations.end() && found->second != "false";
}

bool NeedsPerson(Code code) {
  return code == Code::kInvalidArgument || code == Code::kAlreadyExists || code == Code::kPermissionDenied ||
         code == Code::kUnauthenticated;
}

}  // namespace pgtier::controllers
