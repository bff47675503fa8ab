#include "lib/base/sha256.h"
#include "shadow/shadow.h"

namespace pgtier::shadow {
namespace {

constexpr size_t kMaxName = 63;  // NAMEDATALEN - 1: the server cuts the rest off
constexpr size_t kHashLength = 8;

}  // namespace

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

std::string CutName(const std::string& name, const std::string& hashed) {
  if (name.size() <= kMaxName) return name;
  return name.substr(0, kMaxName - kHashLength - 1) + "_" + Sha256Hex(hashed).substr(0, kHashLength);
}

// As shadow_publication of sql/shadow/columns.sql.
std::string PublicationName(const Spec& spec) { return CutName("pgtier_" + spec.slot, spec.slot); }

std::string OriginName(const Spec& spec) { return "pgtier_" + spec.slot; }

}  // namespace pgtier::shadow
