// The first stage of a pass: reads, into a plain struct. A database that cannot be asked is a fact and noted as such; a
// list of the API server that fails ends the pass.
#pragma once

#include <stop_token>

#include "controllers/database/database.h"
#include "controllers/sql_migration/resolve.h"
#include "controllers/sql_migration/seen.h"
#include "lib/kube/object_cache.h"

namespace pgtier::controllers::sql_migration {

class Observer {
 public:
  // All outlive this; without `children` (what SqlMigrations own) the API server is asked.
  Observer(kube::Client* client, kube::ObjectCache* children, DatabaseFinder finder)
      : client_(client), children_(children), finder_(std::move(finder)) {}

  Result<Seen> Observe(const crds::SqlMigration& migration, const Resolved& resolved, Deadline deadline,
                       const std::stop_token& stop);

 private:
  kube::Client* client_;
  kube::ObjectCache* children_;
  DatabaseFinder finder_;
};

}  // namespace pgtier::controllers::sql_migration
