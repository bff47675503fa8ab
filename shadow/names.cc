#include "shadow/shadow.h"

namespace pgtier::shadow {

std::string_view TierName(Tier tier) {
  switch (tier) {
    case Tier::kTriggers:
      return "triggers";
    case Tier::kNotify:
      return "notify";
    case Tier::kCdc:
      return "cdc";
  }
  return "triggers";
}

Result<Tier> ParseTier(std::string_view name) {
  for (Tier tier : {Tier::kTriggers, Tier::kNotify, Tier::kCdc}) {
    if (TierName(tier) == name) return tier;
  }
  return MakeError(Code::kInvalidArgument, "no tier of shadow tables: \"" + std::string(name) + "\"");
}

std::string PublicationName(const Spec& spec) { return "pgtier_" + spec.slot; }

}  // namespace pgtier::shadow
