// A SqlMigration on pods: applied by a user, its pod killed in the middle, its outcome that of one that never was.
#include <gmock/gmock.h>

#include <fstream>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;
using testing::ContainsRegex;
using testing::HasSubstr;

class MigrationTest : public ClusterTest {
 protected:
  Json Migration() { return KubectlJson({"get", "sqlm", "widen", "-n", ns()}); }
  std::string Says(const std::string& type) {
    for (const Json& condition : Migration().value("status", Json::object()).value("conditions", Json::array())) {
      if (condition["type"] != type) continue;
      return condition["status"].get<std::string>() + " " + condition["reason"].get<std::string>() + ": " +
             condition["message"].get<std::string>();
    }
    return "nothing";
  }
  std::string Pod() {
    Json pods = KubectlJson(
        {"get", "pods", "-n", ns(), "-l", "pgtier.dev/migration=widen", "--field-selector=status.phase=Running"});
    return pods["items"].empty() ? "" : pods["items"][0]["metadata"]["name"].get<std::string>();
  }
};

TEST_F(MigrationTest, KilledInTheMiddleItEndsAsIfItHadNotBeen) {
  Apply(SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}}));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(180)));
  QueryInside("app-1",
              "CREATE TABLE orders (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);"
              " INSERT INTO orders SELECT generate_series(1, 20000)");
  Apply(Json::parse(R"j({
    "apiVersion": "pgtier.dev/v1alpha1", "kind": "SqlMigration", "metadata": {"name": "widen"},
    "spec": {"databaseRef": {"name": "app"}, "steps": [
      {"name": "column", "sql": "ALTER TABLE orders ADD COLUMN twice int"},
      {"name": "fill", "backfill": {"table": "public.orders", "set": "n = n + 1, twice = id * 2", "batchRows": 100,
                                    "pause": "50ms"}},
      {"name": "index", "createIndex": {"table": "orders", "name": "orders_twice", "columns": ["twice"]}},
      {"name": "check", "verify": {"query": "SELECT count(*) FROM orders WHERE twice IS NULL", "expect": "0"}}]}})j"));
  ASSERT_TRUE(Eventually("the backfill runs", seconds(90), [&] {
    return Migration().value(Json::json_pointer("/status/summary/progress"), "").ends_with("/20000 rows");
  }));
  EXPECT_THAT(
      Kubectl({"get", "sqlm", "-n", ns()}),
      ContainsRegex("NAME +STEP +PROGRESS +ETA +READY +REASON *\nwiden +2/4 fill +[0-9]+/20000 rows .*False +Running"));
  const std::string killed = Pod();
  ASSERT_NE(killed, "");
  Kubectl({"delete", "pod", killed, "-n", ns(), "--grace-period=0", "--force"});
  EXPECT_NE(QueryInside("app-1", "SELECT state FROM pgtier.migrations WHERE step = 'fill'"), "Done");
  ASSERT_TRUE(
      Eventually("the migration is complete", seconds(150), [&] { return Says("Complete").starts_with("True"); }));
  EXPECT_EQ(QueryInside("app-1", "SELECT count(*) FROM orders WHERE n = 1 AND twice = id * 2"), "20000");
  EXPECT_EQ(QueryInside("app-1", "SELECT indisvalid FROM pg_index WHERE indexrelid = 'orders_twice'::regclass"), "t");
  EXPECT_THAT(Says("Ready"), HasSubstr("True Complete"));
  // Nothing stands in the way of its end, and nothing of it is left but what it did.
  Kubectl({"delete", "sqlm", "widen", "-n", ns(), "--timeout=30s"});
  EXPECT_TRUE(Eventually("the Job is gone", seconds(60), [&] {
    return KubectlJson({"get", "jobs,configmaps", "-n", ns(), "-l", "pgtier.dev/migration=widen"})["items"].empty();
  }));
}

}  // namespace
}  // namespace pgtier::e2e
