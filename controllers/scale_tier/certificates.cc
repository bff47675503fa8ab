#include "controllers/scale_tier/certificates.h"

#include <algorithm>

#include "controllers/scale_tier/names.h"
#include "lib/base/time_format.h"
#include "lib/pki/certificate.h"

namespace pgtier::controllers::scale_tier {
namespace {

constexpr Duration kDay = std::chrono::hours(24);
constexpr Duration kLifeOfAuthority = 1095 * kDay;
constexpr Duration kLifeOfServer = 90 * kDay;
// How long an authority is trusted after it was followed by another. Applications must read ca.crt within it.
constexpr Duration kFade = 30 * kDay;

// A Service's name as clients in the namespace, in others, and with a search path of their own write it.
void AddNames(const std::string& service, const std::string& namespace_, std::vector<std::string>& names) {
  for (const char* suffix : {"", ".svc", ".svc.cluster.local"}) {
    names.push_back(service + "." + namespace_ + suffix);
  }
  names.push_back(service);
}

int MostReplicas(const crds::ScaleTierPolicySpec& spec) {
  int most = 1;
  auto count = [&](const crds::ReadReplicas& replicas) {
    most = std::max({most, replicas.min.value_or(0), replicas.max.value_or(0)});
  };
  count(spec.read_replicas);
  for (const crds::TierSpec& tier : spec.tiers) count(tier.read_replicas);
  return most;
}

// The certificates of the bundles, each once, without those that are over at `now` and those in `without`.
Result<std::string> Prune(const std::string& bundle, const std::string& without, WallTime now) {
  PGTIER_ASSIGN_OR_RETURN(std::vector<std::string> certificates, pki::SplitBundle(bundle));
  std::string kept;
  for (const std::string& certificate : certificates) {
    PGTIER_ASSIGN_OR_RETURN(pki::Facts facts, pki::ReadCertificate(certificate));
    if (facts.not_after <= now || kept.find(certificate) != std::string::npos) continue;
    if (without.find(certificate) == std::string::npos) kept += certificate;
  }
  return kept;
}

Status RenewAuthority(Certificates& all, const CertificateNeeds& needs, WallTime now) {
  Result<pki::Facts> facts = pki::ReadCertificate(all.authority.certificate);
  bool usable = facts.has_value() && pki::IsKeyOf(all.authority.key, all.authority.certificate);
  bool asked = !needs.request.empty() && needs.request != all.request;
  if (!usable || asked || pki::DueForRenewal(*facts, now)) {
    // The time comes first: it must differ from the former authority's, and long names are cut.
    PGTIER_ASSIGN_OR_RETURN(pki::Identity next,
                            pki::MakeAuthority("pgtier " + FormatTime(now) + " " + needs.owner, now, kLifeOfAuthority));
    if (usable) {
      PGTIER_ASSIGN_OR_RETURN(std::string cross, pki::CrossSign(all.authority, next.certificate, now));
      all.cross.insert(0, cross);
      all.former.insert(0, all.authority.certificate);
    } else {
      // The key is lost. What servers still present was signed with it, so it goes on being trusted.
      all.former = all.authority.certificate + all.former + all.postgres.trust + all.pooler.trust;
      all.cross.clear();
    }
    all.authority = std::move(next);
    if (!needs.request.empty()) all.request = needs.request;
    facts = pki::ReadCertificate(all.authority.certificate);
    if (!facts.has_value()) return facts.error();
  }
  if (now - facts->not_before > kFade) {
    all.former.clear();
    all.cross.clear();
    return {};
  }
  PGTIER_ASSIGN_OR_RETURN(all.former, Prune(all.former, all.authority.certificate, now));
  PGTIER_ASSIGN_OR_RETURN(all.cross, Prune(all.cross, "", now));
  return {};
}

bool MustIssue(const Certificates& all, const ServerCertificate& server, const std::vector<std::string>& names,
               WallTime now) {
  Result<pki::Facts> facts = pki::ReadCertificate(server.identity.certificate);
  if (!facts.has_value() || pki::DueForRenewal(*facts, now)) return true;
  // Another bundle comes with another certificate: by that one sees that a server has loaded both.
  if (server.trust != all.Trust() || !server.identity.certificate.ends_with(all.cross)) return true;
  if (!pki::IsSignedBy(server.identity.certificate, all.authority.certificate)) return true;
  if (!pki::IsKeyOf(server.identity.key, server.identity.certificate)) return true;
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return std::find(facts->names.begin(), facts->names.end(), name) == facts->names.end();
  });
}

Status RenewServer(const Certificates& all, const std::vector<std::string>& names, WallTime now,
                   ServerCertificate& server) {
  if (MustIssue(all, server, names, now)) {
    PGTIER_ASSIGN_OR_RETURN(server.identity, pki::IssueServer(all.authority, names, now, kLifeOfServer));
    server.identity.certificate += all.cross;
    server.trust = all.Trust();
  }
  PGTIER_ASSIGN_OR_RETURN(pki::Facts facts, pki::ReadCertificate(server.identity.certificate));
  server.fingerprint = facts.fingerprint;
  return {};
}

}  // namespace

CertificateNeeds NeedsOf(const crds::ScaleTierPolicy& policy, const Resolved& resolved, int last_ordinal) {
  CertificateNeeds needs;
  const std::string& name = policy.meta.name;
  const std::string& namespace_ = policy.meta.namespace_;
  needs.owner = namespace_ + "/" + name;
  AddNames(PrimaryService(name), namespace_, needs.postgres_names);
  for (int ordinal = 1; ordinal <= std::max(last_ordinal, 1 + MostReplicas(policy.spec)); ++ordinal) {
    AddNames(InstanceName(name, ordinal), namespace_, needs.postgres_names);
  }
  for (const char* suffix : {"", "-rw", "-ro"}) AddNames(resolved.endpoint + suffix, namespace_, needs.pooler_names);
  auto asked = policy.meta.annotations.find(kRotateCertificatesAnnotation);
  if (asked != policy.meta.annotations.end()) needs.request = asked->second;
  return needs;
}

Result<Certificates> Renew(const Certificates& known, const CertificateNeeds& needs, WallTime now) {
  Certificates all = known;
  PGTIER_RETURN_IF_ERROR(RenewAuthority(all, needs, now));
  PGTIER_RETURN_IF_ERROR(RenewServer(all, needs.postgres_names, now, all.postgres));
  PGTIER_RETURN_IF_ERROR(RenewServer(all, needs.pooler_names, now, all.pooler));
  return all;
}

}  // namespace pgtier::controllers::scale_tier
