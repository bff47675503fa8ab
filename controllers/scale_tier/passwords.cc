#include "controllers/scale_tier/passwords.h"

#include <algorithm>
#include <functional>

#include "controllers/scale_tier/credentials.h"
#include "controllers/scale_tier/names.h"
#include "sql/scale_tier.h"

namespace pgtier::controllers::scale_tier {
namespace {

// All but the certificates anew.
Result<Credentials> Draw(const Credentials& known, const std::string& request) {
  Credentials drawn;
  drawn.tls = known.tls;
  drawn.rotation = {known.rotation.number + 1, request,  {}, true, known.superuser, known.monitor, known.pooler,
                    known.pooler_admin,        known.app};
  return CompleteCredentials(drawn);
}

// Whether the primary, and every standby that may have clients, has what Bootstrap makes of these.
bool IsKnownEverywhere(const crds::ManagedPostgres& managed, const Credentials& credentials, const Seen& seen) {
  std::string wanted = BootstrapHash(managed, credentials);
  if (!seen.primary.answered || seen.primary.installed != wanted) return false;
  return std::all_of(seen.instances.begin(), seen.instances.end(), [&](const InstanceSeen& instance) {
    return instance.ordinal == seen.primary_ordinal || !instance.pod_ready || instance.installed == wanted;
  });
}

bool PoolersLogInAs(const std::string& role, const Seen& seen) {
  return std::all_of(seen.poolers.begin(), seen.poolers.end(), [&](const PoolerPodSeen& pod) {
    return std::any_of(pod.config.begin(), pod.config.end(), [&](const poolers::ConfigEntry& entry) {
      return entry.key == "auth_user" && entry.value == role;
    });
  });
}

}  // namespace

std::string AppRole(const std::string& database, int64_t number) {
  return number % 2 == 0 ? database : kAlternateAppRole;
}

std::string PoolerRole(int64_t number) { return number % 2 == 0 ? kPoolerRole : kAlternatePoolerRole; }

std::string BootstrapHash(const crds::ManagedPostgres& managed, const Credentials& credentials) {
  std::string all = std::string(sql::kScaleTierSchema) + sql::kScaleTierMaterializedViews + managed.database;
  for (const std::string& extension : managed.extensions) all += "\n" + extension;
  all += credentials.app + credentials.monitor + credentials.pooler + credentials.replication;
  const PasswordRotation& rotation = credentials.rotation;
  if (rotation.number > 0) {
    all += credentials.superuser + std::to_string(rotation.number) + (rotation.former ? " with those before" : "");
  }
  return std::to_string(std::hash<std::string>{}(all));
}

Duration PasswordGrace(const crds::ManagedPostgres& managed) {
  return managed.password_grace.value_or(std::chrono::hours(1));
}

std::string WhyNoRotation(const crds::ScaleTierPolicy& policy, const Resolved& resolved) {
  if (!policy.spec.managed.has_value()) return "its passwords are not pgtier's";
  bool pgcat = std::any_of(resolved.tiers.begin(), resolved.tiers.end(),
                           [](const TierSettings& tier) { return tier.pooler.engine == kPgCat; });
  return pgcat ? "PgCat, which a tier asks for, knows one role of applications" : "";
}

Result<Credentials> RotatePasswords(const Credentials& known, const crds::ScaleTierPolicy& policy,
                                    const Resolved& resolved, const Seen& seen, WallTime now) {
  const crds::ManagedPostgres& managed = *policy.spec.managed;
  auto asked = policy.meta.annotations.find(kRotatePasswordsAnnotation);
  std::string request = asked == policy.meta.annotations.end() ? "" : asked->second;
  const PasswordRotation& rotation = known.rotation;
  bool quiet = seen.credentials.has_value() && !seen.promotion.Runs() && IsKnownEverywhere(managed, known, seen);
  if (!quiet) return known;
  if (!rotation.former) {
    bool wanted = !request.empty() && request != rotation.request && WhyNoRotation(policy, resolved).empty();
    return wanted ? Draw(known, request) : known;
  }
  Credentials next = known;
  if (!rotation.told.has_value()) {
    next.rotation.told = now;
  } else if (now - *rotation.told >= PasswordGrace(managed) && PoolersLogInAs(PoolerRole(rotation.number), seen)) {
    next.rotation = {rotation.number, rotation.request, rotation.told, false, "", "", "", "", ""};
  }
  return next;
}

}  // namespace pgtier::controllers::scale_tier
