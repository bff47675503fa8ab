#include "controllers/sql_migration/observe.h"

#include "controllers/sql_migration/names.h"
#include "controllers/sql_migration/resources.h"
#include "lib/kube/json.h"

namespace pgtier::controllers::sql_migration {
namespace {

using Json = nlohmann::json;

// An answer takes milliseconds; a server that is stopped or cut off must not hold up the pass.
constexpr Duration kPatience = std::chrono::seconds(5);

bool HasCondition(const Json& job, const char* type) {
  return kube::StringAt(kube::ConditionAt(job, type), {"status"}) == "True";
}

// The newest pod's tells; those of a Job before this one don't.
void ReadPods(const Objects& objects, JobSeen& job) {
  std::string newest;
  for (const auto& [key, pod] : objects) {
    if (key.first != kube::kPods.plural) continue;
    bool own = false;
    const Json& owners = kube::At(pod, {"metadata", "ownerReferences"});
    if (owners.is_array()) {
      for (const Json& owner : owners) own = own || kube::StringAt(owner, {"uid"}) == job.uid;
    }
    std::string made = kube::StringAt(pod, {"metadata", "creationTimestamp"});
    if (!own || made < newest) continue;
    newest = made;
    job.trouble = IsReady(pod) ? "" : TroubleOf(pod);
    const Json& containers = kube::At(pod, {"status", "containerStatuses"});
    if (!containers.is_array()) continue;
    for (const Json& container : containers) {
      std::string text = kube::StringAt(container, {"state", "terminated", "message"});
      if (!text.empty()) job.result = text;
    }
  }
}

Status AskDatabase(const Resolved& resolved, Seen& seen, Deadline deadline, const std::stop_token& stop) {
  Deadline patience = deadline.AtMost(kPatience);
  PGTIER_ASSIGN_OR_RETURN(postgres::Connection connection,
                          postgres::Connection::Open(seen.database.admin, patience, stop));
  PGTIER_ASSIGN_OR_RETURN(seen.entries, migrations::ReadLedger(connection, resolved.name, patience));
  return {};
}

}  // namespace

JobSeen FindJob(const std::string& migration, const Objects& objects) {
  JobSeen job;
  auto found = objects.find({std::string(kube::kJobs.plural), MigrationJob(migration)});
  if (found == objects.end()) return job;
  const Json& live = found->second;
  job.exists = true;
  job.going = kube::At(live, {"metadata"}).contains("deletionTimestamp");
  job.uid = kube::UidOf(live);
  job.hash = kube::StringAt(live, {"metadata", "annotations", kHashAnnotation});
  const Json& suspended = kube::At(live, {"spec", "suspend"});
  job.suspended = suspended.is_boolean() && suspended.get<bool>();
  job.complete = HasCondition(live, "Complete");
  job.failed = HasCondition(live, "Failed");
  job.active = static_cast<int>(kube::IntAt(live, {"status", "active"}));
  ReadPods(objects, job);
  return job;
}

Result<Seen> Observer::Observe(const crds::SqlMigration& migration, const Resolved& resolved, Deadline deadline,
                               const std::stop_token& stop) {
  Seen seen;
  const kube::ObjectKey key{migration.meta.namespace_, migration.meta.name};
  // Before the database: what a Job that has ended has done is then in what is read there.
  PGTIER_ASSIGN_OR_RETURN(seen.objects, ReadOwned(*client_, children_, kOwned, kMigrationLabel, key, deadline, stop));
  seen.job = FindJob(migration.meta.name, seen.objects);
  PGTIER_ASSIGN_OR_RETURN(seen.database, finder_.Find(key.namespace_, migration.spec.database_name,
                                                      migration.spec.connection_secret, "", deadline, stop));
  if (!seen.database.reason.empty()) {
    seen.reason = seen.database.reason;
    seen.error = seen.database.error;
    seen.needs_person = seen.database.needs_person;
    return seen;
  }
  Status asked = AskDatabase(resolved, seen, deadline, stop);
  if (asked.has_value()) return seen;
  DatabaseTrouble trouble = ExplainTrouble(asked.error());
  seen.reason = trouble.reason;
  seen.error = asked.error().message;
  seen.needs_person = trouble.needs_person;
  return seen;
}

}  // namespace pgtier::controllers::sql_migration
