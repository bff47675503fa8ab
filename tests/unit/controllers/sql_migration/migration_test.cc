// What is done for a migration and what is said of it, from what was seen.
#include <gmock/gmock.h>

#include "controllers/ladder/names.h"
#include "controllers/sql_migration/names.h"
#include "controllers/sql_migration/plan.h"
#include "controllers/sql_migration/report.h"
#include "crds/sql_migration_codec.h"
#include "lib/base/time_format.h"
#include "tests/support/yaml.h"

namespace pgtier::controllers::sql_migration {
namespace {

using migrations::Entry;
using migrations::State;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class MigrationScene : public ::testing::Test {
 protected:
  MigrationScene() {
    nlohmann::json object = tests::LoadYaml("manifests/examples/widen-orders.yaml");
    object["metadata"]["namespace"] = "data";
    object["metadata"]["uid"] = "u1";
    object["metadata"]["generation"] = 1;
    migration_ = *crds::DecodeSqlMigration(object);
    seen_.database.admin.database = "shop";
    seen_.database.admin.user = "postgres";
    seen_.database.admin.password = "s3cret";
    seen_.database.worker = {"dev-primary.data.svc", 5432, "verify-full", "PEM", "w0rker", "dev-internal", "superuser"};
    seen_.entries.emplace();
  }

  Resolved Resolve() { return sql_migration::Resolve(migration_, now_); }
  Plan MakePlan() {
    resolved_ = Resolve();
    return sql_migration::MakePlan({migration_, resolved_, image_, paused_}, seen_);
  }
  // What the plan does, a word each.
  std::vector<std::string> Does() {
    std::vector<std::string> words;
    for (const Action& action : MakePlan().actions) {
      if (const auto* apply = std::get_if<ApplyObject>(&action))
        words.push_back("apply " + apply->object["kind"].get<std::string>());
      if (std::get_if<DeleteJob>(&action) != nullptr) words.emplace_back("delete Job");
      if (const auto* suspend = std::get_if<SuspendJob>(&action))
        words.emplace_back(suspend->suspended ? "suspend" : "resume");
    }
    return words;
  }
  // The Job that a pass made runs.
  void JobRuns() {
    resolved_ = Resolve();
    ManifestContext context{migration_, resolved_, seen_.database, image_};
    seen_.job = {};
    seen_.job.exists = true;
    seen_.job.uid = "j1";
    seen_.job.hash = HashOfJob(context);
    seen_.job.active = 1;
    seen_.objects[{"configmaps", "widen-orders-migration"}] = RenderConfig(context);
  }
  void Set(const std::string& step, State state, const std::string& message = "", int64_t done = 0, int64_t total = 0) {
    Entry entry;
    entry.state = state;
    for (const migrations::StepConfig& each : Resolve().steps) {
      if (each.name == step) entry.hash = migrations::HashOfStep(each.definition);
    }
    entry.progress = {state == State::kDone, done, total, message};
    entry.started = now_;
    entry.rate = 100;
    (*seen_.entries)[step] = entry;
  }
  void AllDone() {
    for (const migrations::StepConfig& step : Resolve().steps) Set(step.name, State::kDone);
  }
  // The status after a pass, which the next one begins with.
  const crds::SqlMigrationStatus& Pass() {
    Plan plan = MakePlan();
    Outcome outcome{migration_, resolved_, seen_, plan, failure_, false, paused_, now_};
    migration_.status = MakeStatus(outcome);
    return migration_.status;
  }
  std::string Says(const std::string& type) {
    const crds::Condition* found = crds::FindCondition(migration_.status.conditions, type);
    return found == nullptr ? "nothing" : found->status + " " + found->reason + ": " + found->message;
  }

  crds::SqlMigration migration_;
  Resolved resolved_;
  Seen seen_;
  std::string image_ = "pgtier:test";
  std::string failure_;
  bool paused_ = false;
  WallTime now_ = *ParseTime("2026-11-20T17:02:11Z");
};

TEST_F(MigrationScene, MakesAJobAndLeavesItAlone) {
  EXPECT_THAT(Does(), ElementsAre("apply ConfigMap", "apply Job"));
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("False Starting"));
  EXPECT_THAT(Says("Reconciling"), HasSubstr("True"));
  JobRuns();
  EXPECT_THAT(Does(), IsEmpty());
  AllDone();
  seen_.job.complete = true;
  EXPECT_THAT(Does(), IsEmpty());
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("True Complete"));
  EXPECT_THAT(Says("Complete"), HasSubstr("True"));
  EXPECT_EQ(migration_.status.summary.step, "4/4");
  // The Job may go, and the operator's image with it.
  seen_.job = {};
  image_ = "pgtier:next";
  EXPECT_THAT(Does(), IsEmpty());
}

TEST_F(MigrationScene, ThePodHasNoRightsAndNoSecretInTheOpen) {
  MakePlan();
  ManifestContext context{migration_, resolved_, seen_.database, image_};
  nlohmann::json job = RenderJob(context);
  nlohmann::json pod = job["spec"]["template"]["spec"];
  EXPECT_EQ(pod["automountServiceAccountToken"], false);
  EXPECT_EQ(pod["securityContext"]["runAsNonRoot"], true);
  EXPECT_EQ(pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"], true);
  EXPECT_EQ(pod["volumes"][1]["secret"]["secretName"], "dev-internal");
  EXPECT_EQ(pod["volumes"][1]["secret"]["items"][0]["key"], "superuser") << "no other key is mounted";
  for (const std::string& text : {job.dump(), RenderConfig(context).dump()}) {
    EXPECT_THAT(text, Not(HasSubstr("s3cret")));
    EXPECT_THAT(text, Not(HasSubstr("w0rker")));
  }
  EXPECT_EQ(job["metadata"]["ownerReferences"][0]["uid"], "u1");
  EXPECT_EQ(job["spec"]["podFailurePolicy"]["rules"][0]["action"], "FailJob");
  auto config = migrations::ParseConfig(RenderConfig(context)["data"]["migration.json"].get<std::string>());
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->migration, "data/widen-orders");
  EXPECT_EQ(config->steps.size(), 4U);
  EXPECT_EQ(config->throttle.slot_retained, 5LL << 30);
}

TEST_F(MigrationScene, AnEditEndsTheJobAndMakesAnother) {
  JobRuns();
  migration_.spec.steps[1].backfill->batch_rows = 10;
  EXPECT_THAT(Does(), ElementsAre("delete Job"));
  seen_.job.going = true;
  EXPECT_THAT(Does(), IsEmpty());
  seen_.job = {};
  EXPECT_THAT(Does(), ElementsAre("apply ConfigMap", "apply Job"));
}

TEST_F(MigrationScene, AStepThatHasRunMayNotBeEdited) {
  Set("add-column", State::kDone);
  JobRuns();
  migration_.spec.steps[0].sql = "ALTER TABLE orders ADD COLUMN other int";
  EXPECT_THAT(Does(), ElementsAre("delete Job"));
  seen_.job = {};
  EXPECT_THAT(Does(), IsEmpty());
  Pass();
  EXPECT_THAT(Says("Stalled"), HasSubstr("True StepEdited: step add-column has run as something else"));
  EXPECT_THAT(Says("Ready"), HasSubstr("False StepEdited"));
}

TEST_F(MigrationScene, PauseEndsThePodAndKeepsTheCheckpoint) {
  JobRuns();
  Set("add-column", State::kDone);
  Set("fill", State::kRunning, "", 500, 1000);
  paused_ = true;
  EXPECT_THAT(Does(), ElementsAre("suspend"));
  seen_.job.suspended = true;
  EXPECT_THAT(Does(), IsEmpty());
  Pass();
  EXPECT_EQ(migration_.status.steps[1].state, "Paused");
  EXPECT_EQ(migration_.status.steps[1].progress, "500/1000 rows");
  EXPECT_THAT(Says("Paused"), HasSubstr("True Annotated"));
  EXPECT_THAT(Says("Ready"), HasSubstr("False Paused"));
  // Also while nobody can reach the database.
  seen_.entries.reset();
  seen_.job.suspended = false;
  EXPECT_THAT(Does(), ElementsAre("suspend"));
  seen_.entries.emplace();
  paused_ = false;
  seen_.job.suspended = true;
  EXPECT_THAT(Does(), ElementsAre("resume"));
}

TEST_F(MigrationScene, ProgressAndTimeLeftAreShown) {
  JobRuns();
  Set("add-column", State::kDone);
  Set("fill", State::kRunning, "", 123000, 1000000);
  Pass();
  EXPECT_EQ(migration_.status.summary.step, "2/4 fill");
  EXPECT_EQ(migration_.status.summary.progress, "123000/1000000 rows");
  EXPECT_EQ(migration_.status.summary.eta, "2h20m");
  EXPECT_THAT(Says("Ready"), HasSubstr("False Running: runs step 2/4 fill"));
  Set("fill", State::kRunning, "LockHeld: step fill waits for a lock that process 7 (psql of app) holds", 123000,
      1000000);
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("False LockHeld: step fill waits for a lock that process 7"));
}

TEST_F(MigrationScene, AStepThatFailsStalls) {
  JobRuns();
  Set("add-column", State::kDone);
  Set("fill", State::kFailed, "step fill: KeyMissing: public.orders has no primary key");
  seen_.job.failed = true;
  EXPECT_THAT(Does(), IsEmpty());
  Pass();
  EXPECT_THAT(Says("Stalled"),
              HasSubstr("True KeyMissing: step fill: KeyMissing: public.orders has no primary key; mend it"));
  EXPECT_THAT(Says("Stalled"), HasSubstr("kubectl delete job widen-orders-migration -n data"));
  EXPECT_THAT(Says("Reconciling"), HasSubstr("False"));
  Set("fill", State::kFailed, "step fill: relation \"orders\" does not exist [42P01]");
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("False StepFailed: step fill: relation"));
  // Somebody mended it and took the Job away, or paused and resumed.
  paused_ = true;
  EXPECT_THAT(Does(), ElementsAre("delete Job"));
  paused_ = false;
  seen_.job = {};
  EXPECT_THAT(Does(), ElementsAre("apply Job"));
}

TEST_F(MigrationScene, NothingRunsBeforeItIsApproved) {
  migration_.spec.require_approval = true;
  EXPECT_THAT(Does(), IsEmpty());
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("True ApprovalRequired"));
  EXPECT_THAT(Says("ApprovalRequired"), HasSubstr("kubectl annotate sqlm widen-orders -n data pgtier.dev/approve=" +
                                                  migration_.status.plan_hash));
  EXPECT_THAT(Says("Complete"), HasSubstr("False"));
  migration_.meta.annotations[kApproveAnnotation] = "0123456789abcdef";
  EXPECT_THAT(Does(), IsEmpty());
  migration_.meta.annotations[kApproveAnnotation] = migration_.status.plan_hash;
  EXPECT_THAT(Does(), ElementsAre("apply ConfigMap", "apply Job"));
  Pass();
  EXPECT_THAT(migration_.status.approved_by, HasSubstr("annotation at 2026-11-20"));
  // Latched; of another plan it is none.
  migration_.meta.annotations.clear();
  EXPECT_THAT(Does(), ElementsAre("apply ConfigMap", "apply Job"));
  migration_.spec.steps[3].verify->expect = "1";
  EXPECT_THAT(Does(), IsEmpty());
}

TEST_F(MigrationScene, ADryRunTellsAndEnds) {
  migration_.spec.require_approval = true;
  migration_.spec.dry_run = true;
  EXPECT_THAT(Does(), ElementsAre("apply ConfigMap", "apply Job"));
  JobRuns();
  seen_.job.complete = true;
  seen_.job.result = "1 add-column: runs\n2 fill: updates\n";
  EXPECT_THAT(Does(), IsEmpty());
  Pass();
  EXPECT_THAT(migration_.status.dry_run.lines, ElementsAre("1 add-column: runs", "2 fill: updates"));
  EXPECT_THAT(Says("Ready"), HasSubstr("True DryRun"));
  EXPECT_THAT(Says("Complete"), HasSubstr("False"));
  // What one plan was told by is no answer for another.
  migration_.spec.steps[3].verify->expect = "1";
  EXPECT_THAT(Does(), ElementsAre("delete Job"));
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("False Starting"));
  migration_.spec.steps[3].verify->expect = "0";
  seen_.job = {};
  EXPECT_THAT(Does(), IsEmpty()) << "it has been told";
  migration_.spec.dry_run = false;
  migration_.spec.require_approval = false;
  EXPECT_THAT(Does(), ElementsAre("apply ConfigMap", "apply Job"));
  Pass();
  EXPECT_THAT(migration_.status.dry_run.lines, IsEmpty());
}

TEST_F(MigrationScene, AMigrationThatRunsIsEndedByADryRun) {
  JobRuns();
  migration_.spec.dry_run = true;
  EXPECT_THAT(Does(), ElementsAre("delete Job"));
  migration_.status.dry_run = {Resolve().plan_hash, {"told"}};
  EXPECT_THAT(Does(), ElementsAre("delete Job"));
}

TEST_F(MigrationScene, WithoutItsDatabaseItDoesNothingAndSaysWhy) {
  seen_.entries.reset();
  seen_.reason = "DatabaseUnreachable";
  seen_.error = "connection refused";
  EXPECT_THAT(Does(), IsEmpty());
  Pass();
  EXPECT_EQ(Says("Ready"), "False DatabaseUnreachable: connection refused");
  EXPECT_THAT(Says("Stalled"), HasSubstr("False"));
  seen_.entries.emplace();
  seen_.reason.clear();
  AllDone();
  Pass();
  // What is done is done, also when the database goes.
  seen_.entries.reset();
  seen_.reason = "DatabaseRefNotFound";
  seen_.needs_person = true;
  Pass();
  EXPECT_THAT(Says("Ready"), HasSubstr("True Complete"));
  EXPECT_THAT(Says("Stalled"), HasSubstr("False"));
}

TEST_F(MigrationScene, OnlyProgressWaitsToBeWritten) {
  JobRuns();
  Set("add-column", State::kRunning, "", 5, 10);
  crds::SqlMigrationStatus before = Pass();
  EXPECT_FALSE(MustWrite(before, Pass(), now_, now_));
  Set("add-column", State::kRunning, "", 6, 10);
  EXPECT_FALSE(MustWrite(before, Pass(), now_, now_ + std::chrono::seconds(2)));
  EXPECT_TRUE(MustWrite(before, Pass(), now_, now_ + std::chrono::seconds(11)));
  Set("add-column", State::kDone, "", 10, 10);
  EXPECT_TRUE(MustWrite(before, Pass(), now_, now_));
}

}  // namespace
}  // namespace pgtier::controllers::sql_migration
