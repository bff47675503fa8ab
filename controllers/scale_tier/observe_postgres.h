// What instances and poolers say of themselves, over their own protocol.
#pragma once

#include <stop_token>

#include "controllers/scale_tier/seen.h"
#include "crds/scale_tier_policy.h"
#include "lib/base/clock.h"
#include "lib/postgres/connection.h"

namespace pgtier::controllers::scale_tier {

// Fills seen.primary, and of each instance of the policy what it and the primary say of it.
void AskInstances(Seen& seen, const std::string& policy, const std::string& database, Deadline deadline,
                  const std::stop_token& stop);
// Fills in the promotion and the term, from objects and status: pure. The Service of a managed policy has both; should
// it be lost, the term is the greatest that anything else holds, and the promotion what status knows of it.
void RecallPromotion(const crds::ScaleTierPolicy& policy, Seen& seen);
// The same; and while a promotion runs or is to begin, where each instance's WAL ends.
void ObservePromotion(const crds::ScaleTierPolicy& policy, Seen& seen, Deadline deadline, const std::stop_token& stop);

// Fills what each ready pooler pod says.
void AskPoolers(Seen& seen, Deadline deadline, const std::stop_token& stop);

// A server at a pod's address, and what it must prove.
struct Peer {
  std::string address;
  bool encrypted = false;  // False: a pod from before there were certificates; TLS only where it offers it.
  std::string trust;       // Authorities, one of which must have signed its certificate.
};
Peer PeerOf(const InstanceSeen& instance, const Credentials& credentials);
Peer PeerOf(const PoolerPodSeen& pod, const Credentials& credentials);

// How to reach a role of an instance. A certificate names Services and no address, so it is proved by its authority.
postgres::ConnectOptions ConnectTo(const Peer& peer, const RoleLogin& login, const std::string& database);
// The console of a pooler pod.
postgres::ConnectOptions ConnectToConsole(const Peer& peer, const Credentials& credentials);

}  // namespace pgtier::controllers::scale_tier
