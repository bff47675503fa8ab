// Runs the steps of a migration, one after the other, as far as they are not done.
#pragma once

#include <map>
#include <stop_token>
#include <string>

#include "lib/base/result.h"
#include "migrations/config.h"
#include "migrations/steps.h"

namespace pgtier::migrations {

// What the program ends with. The Job tells them apart.
enum Exit : int {
  kExitDone = 0,
  kExitTryAgain = 1,  // something that may pass: the database is away
  kExitRefused = 2,   // the configuration can't be used
  kExitFailed = 3,    // a step failed, or was edited after it began: a person must act
  kExitStopped = 75,  // told to stop; not done
};

// Reads the file and runs it until it is done, `stop`, or something is in the way. At `stop` the batch that runs is
// ended, which after a few seconds means broken off. What it came to stands in pgtier.migrations, in the log and in the
// result file.
int RunMigration(const std::string& config_path, const std::map<std::string, MakeStep>& kinds,
                 const std::stop_token& stop);

}  // namespace pgtier::migrations
