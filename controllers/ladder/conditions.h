// Conditions that every ladder has. Pure.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controllers/ladder/status.h"

namespace pgtier::controllers {

inline constexpr char kTrue[] = "True";
inline constexpr char kFalse[] = "False";
inline constexpr char kUnknown[] = "Unknown";

// What one condition says; times and generation are added for all alike.
struct Saying {
  std::string status, reason, message;
};

// True with that reason and message, else False with the other reason.
Saying SayIf(bool is, std::string reason, std::string message, const char* else_reason);

// Parts with "; " between them.
std::string Join(const std::vector<std::string>& parts);
// The word before the colon of "SecretNotFound: there is no …", where a failure begins with one.
std::string ReasonIn(const std::string& failure, const char* otherwise);
// The failure without that word.
std::string WithoutReason(const std::string& failure);

// Whether a change of tier is under way.
bool Moving(const LadderPass& pass, const crds::LadderStatus& status);
// Why the ladder stands where it stands: the gate that is shut, else what brought it to its tier.
std::string Standing(const LadderPass& pass, const crds::LadderStatus& status);

// Whether anything may be planned and done at all.
bool Acts(const LadderPass& pass);

// Parts of Ready: what keeps a policy from being served at all (nothing: it is), and what one that only observes says.
std::optional<Saying> SayUnserved(const LadderPass& pass);
Saying SayObserving(const LadderPass& pass, const crds::LadderStatus& status);
// True until the current generation has been realised once; later trouble is Degraded, not Reconciling. `conditions`
// are those before the pass.
Saying SayReconciling(const LadderPass& pass, const std::vector<crds::Condition>& conditions);
// Parts of Stalled: what in the spec a person must change (nothing: it can be acted on), and what in the world.
std::optional<Saying> SayRefused(const LadderPass& pass);
Saying SayNeedsPerson(const LadderPass& pass);
Saying SayClimbing(const LadderPass& pass, const crds::LadderStatus& status);
Saying SayPaused(const LadderPass& pass);
Saying SayNotAvailable(const std::vector<std::string>& fields);
// `resource`: the short name of the policy's kind, for what a person is told to type.
Saying SayApproval(const LadderPass& pass, const crds::LadderStatus& status, const std::string& resource);
// `missing`: of what is read beside triggers, why it could not be; empty: it could.
Saying SayMetrics(const LadderPass& pass, const crds::LadderStatus& status, const std::string& missing = "");
Saying SayTier(const LadderPass& pass, const crds::LadderStatus& status, const core::Tier& tier);

// Sayings by their conditions' types as conditions: the time of the last transition is kept from `before` where the
// status is the same.
std::vector<crds::Condition> DateConditions(const std::vector<std::pair<std::string, Saying>>& sayings,
                                            const crds::Meta& meta, WallTime now,
                                            const std::vector<crds::Condition>& before);
// Sayings by their conditions' types, and one of each tier, as conditions: the time of the last transition is kept from
// `before` where the status is the same.
std::vector<crds::Condition> DateConditions(std::vector<std::pair<std::string, Saying>> sayings, const LadderPass& pass,
                                            const crds::LadderStatus& status,
                                            const std::vector<crds::Condition>& before);

}  // namespace pgtier::controllers
