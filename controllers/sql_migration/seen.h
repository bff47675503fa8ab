// What one pass saw: plain values, read and not judged.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "controllers/database/database.h"
#include "controllers/ladder/objects.h"
#include "migrations/ledger.h"

namespace pgtier::controllers::sql_migration {

struct JobSeen {
  bool exists = false;
  bool going = false;  // It is being deleted.
  std::string uid;
  std::string hash;        // Of the configuration that its pods were given.
  bool suspended = false;  // As its spec says.
  bool complete = false;   // Every step is done, or a dry run has ended.
  bool failed = false;     // It makes no more pods.
  int active = 0;          // Pods.
  std::string result;      // What the last pod that ended wrote.
  std::string trouble;     // Why a pod does not run, in words; empty: nothing is known.
};

struct Seen {
  Objects objects;  // Live ones with the migration's label.
  JobSeen job;
  Database database;
  // By step; nothing: the database could not be asked, and why stands in `error`.
  std::optional<std::map<std::string, migrations::Entry>> entries;
  std::string reason;  // In one word.
  std::string error;
  bool needs_person = false;  // That does not go away by itself.

  [[nodiscard]] const nlohmann::json* Object(const kube::Resource& resource, const std::string& name) const {
    auto found = objects.find({std::string(resource.plural), name});
    return found == objects.end() ? nullptr : &found->second;
  }
};

// The Job and its pods, out of `objects`.
JobSeen FindJob(const std::string& migration, const Objects& objects);

}  // namespace pgtier::controllers::sql_migration
