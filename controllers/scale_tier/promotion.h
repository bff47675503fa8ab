// A promotion: a replica becomes the primary, because a person said so. What was asked is the policy's annotation
// pgtier.dev/promote; how far it has come stands on Service <policy>-primary, beside the selector that it will change,
// so that one write moves both (docs/decisions/0052).
#pragma once

#include <map>
#include <string>

#include "lib/base/clock.h"
#include "lib/base/result.h"
#include "lib/postgres/lsn.h"

namespace pgtier::controllers::scale_tier {

enum class PromotionPhase {
  kNone,
  kFencing,    // The old primary is shut down for good, then the new one proved and promoted.
  kReturning,  // The proof failed: the old primary gets its role back.
  kDone,
  kRefused,   // Nothing was done.
  kReturned,  // The old primary is the primary again.
};

// "Fencing", …; empty for kNone.
std::string NameOf(PromotionPhase phase);

struct Promotion {
  std::string request;  // The annotation's value: a request is carried out once.
  PromotionPhase phase = PromotionPhase::kNone;
  std::string from, to;  // Names of instances.
  bool force = false;    // What the new primary has not received may be lost.
  postgres::Lsn fence;   // Where the old primary wrote when it had been fenced; 0: not yet, or it never answered.
  std::string message;   // Of an end: what came of it.

  [[nodiscard]] bool Runs() const { return phase == PromotionPhase::kFencing || phase == PromotionPhase::kReturning; }
};

// As text for the Service's annotation, and back. What cannot be read is no promotion.
std::string EncodePromotion(const Promotion& promotion);
Promotion DecodePromotion(const std::string& text);

// Who the primary is, as instances are told by a file of their ConfigMap; the term is of the promotion that made it so.
struct PrimaryWord {
  int64_t term = 0;
  std::string instance;  // Empty: nobody is named.
};
// "<term> <instance>", and back. What cannot be read names nobody.
std::string EncodePrimary(const PrimaryWord& word);
PrimaryWord DecodePrimary(const std::string& text);

// For how long a proof that fails is tried again: longer than queries on the heir may hold up its replay
// (max_standby_streaming_delay among the policy's `parameters`, else PostgreSQL's 30 s), for the record to be proved
// may wait behind one; and shorter than PgBouncer lets clients wait that are held (query_wait_timeout, 120 s).
Duration ProofPatience(const std::map<std::string, std::string>& parameters);
// For how long a standby's replay may stand still over the WAL that it has itself, by max_standby_archive_delay
// (PostgreSQL 17, 19.6.3), and a minute; nullopt: for ever.
std::optional<Duration> ReplayPatience(const std::map<std::string, std::string>& parameters);

struct PromotionRequest {
  std::string target;  // An instance's name.
  bool force = false;
};
// Reads "<instance>/<any id>" or "<instance>/<any id>/accept-data-loss". Errors: kInvalidArgument.
Result<PromotionRequest> ParsePromotionRequest(const std::string& text);

// The failure of a proof, in words that stay the same from pass to pass.
std::string NotProven(const std::string& to, const std::string& from);

}  // namespace pgtier::controllers::scale_tier
