// Shadow tables on pods, under writes that never cease: installed, up to the worker and back by a measured number; then
// a hypertable, and rows in notifications. At the end the histories hold what the application did, no row more and none
// less.
#include <gmock/gmock.h>

#include <thread>

#include "tests/e2e/cluster.h"

namespace pgtier::e2e {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;

constexpr char kTables[] = R"(
  CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, balance int NOT NULL);
  CREATE TABLE written (changes bigint NOT NULL);
  CREATE TABLE stop (now boolean);
  CREATE TABLE pressure (value int NOT NULL);
  INSERT INTO pressure VALUES (0);
  GRANT SELECT ON pressure TO pgtier_monitor;
  -- Each transaction notes how many rows it changed, in itself: what is rolled back is not noted either.
  CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
  DECLARE made bigint; changes bigint; touched bigint;
  BEGIN
    WHILE NOT EXISTS (SELECT FROM stop) LOOP
      INSERT INTO customers (name, balance) VALUES ('new', 0) RETURNING id INTO made;
      changes := 1;
      UPDATE customers SET balance = balance + 1 WHERE id BETWEEN made - 20 AND made - 18;
      GET DIAGNOSTICS touched = ROW_COUNT;
      changes := changes + touched;
      BEGIN
        UPDATE customers SET name = 'never' WHERE id = made;
        RAISE EXCEPTION 'undone';
      EXCEPTION WHEN raise_exception THEN NULL;
      END;
      DELETE FROM customers WHERE id = made - 40;
      GET DIAGNOSTICS touched = ROW_COUNT;
      INSERT INTO written VALUES (changes + touched);
      COMMIT;
      PERFORM pg_sleep(0.01);
    END LOOP;
  END $$;)";

// What the histories say the table holds now, against what it holds.
constexpr char kDifferences[] = R"(
  WITH last AS (SELECT DISTINCT ON (id) id, name, balance, operation FROM customers_history
                ORDER BY id, epoch DESC, position DESC),
       told AS (SELECT id, name, balance FROM last WHERE operation <> 'DELETE')
  SELECT (SELECT count(*) FROM (SELECT * FROM told EXCEPT ALL SELECT id, name, balance FROM customers) AS a)
       + (SELECT count(*) FROM (SELECT id, name, balance FROM customers EXCEPT ALL SELECT * FROM told) AS b))";

class ShadowTest : public ClusterTest {
 protected:
  void TearDown() override {
    StopWriters();
    ClusterTest::TearDown();
  }

  Json Shadow() { return KubectlJson({"get", "shadowtables", "audit", "-n", ns()}); }
  std::string ShadowField(const std::string& json_pointer) {
    Json value = Shadow().value(Json::json_pointer(json_pointer), Json());
    return value.is_string() ? value.get<std::string>() : value.dump();
  }
  bool WaitForShadowTier(const std::string& tier) {
    return Eventually("shadow tables are in tier " + tier, seconds(90), [&] {
      Json status = Shadow().value("status", Json::object());
      return status.value("tier", "") == tier && status.value("targetTier", "").empty() && IsReady(status);
    });
  }
  static bool IsReady(const Json& status) {
    for (const Json& condition : status.value("conditions", Json::array())) {
      if (condition["type"] == "Ready") return condition["status"] == "True";
    }
    return false;
  }
  // "True (Reason): message"; empty: it has no such condition.
  std::string Says(const std::string& type) {
    for (const Json& condition : Shadow().value(Json::json_pointer("/status/conditions"), Json::array())) {
      if (condition["type"] != type) continue;
      return condition["status"].get<std::string>() + " (" + condition["reason"].get<std::string>() +
             "): " + condition["message"].get<std::string>();
    }
    return "";
  }
  // A worker's series, 0 where there is none yet.
  double OfWorker(const std::string& series) {
    const std::string pod = Kubectl(
        {"get", "pods", "-n", ns(), "-l", "pgtier.dev/worker=notify", "-o", "jsonpath={.items[0].metadata.name}"}, "",
        true);
    const std::string text =
        "\n" +
        Kubectl({"get", "--raw", "/api/v1/namespaces/" + ns() + "/pods/" + pod + ":8080/proxy/metrics"}, "", true);
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? 0 : std::stod(text.substr(at + series.size() + 2));
  }

  void StartWriters() {
    for (int i = 0; i < 3; ++i) {
      writers_.emplace_back([this] { QueryInside("app-1", "CALL work()"); });
    }
  }
  void StopWriters() {
    if (writers_.empty()) return;
    QueryInside("app-1", "INSERT INTO stop VALUES (true)");
    for (std::thread& writer : writers_) writer.join();
    writers_.clear();
  }
  int64_t Number(const std::string& sql) { return std::stoll(QueryInside("app-1", sql)); }

  [[nodiscard]] Json Audit() const {
    auto rises = [](int above, int below) {
      Json trigger{{"name", "pressure"},
                   {"above", above},
                   {"for", "2s"},
                   {"leave", {{"below", below}, {"for", "2s"}}},
                   {"sql", {{"query", "SELECT value FROM public.pressure"}}}};
      return Json{{"any", Json::array({trigger})}};
    };
    return {{"apiVersion", "pgtier.dev/v1alpha1"},
            {"kind", "ShadowTablePolicy"},
            {"metadata", {{"name", "audit"}}},
            {"spec",
             {{"databaseRef", {{"name", "app"}}},
              {"tables", Json::array({{{"name", "public.customers"}}})},
              {"metrics", {{"interval", "1s"}}},
              {"tiers", Json::array({{{"name", "triggers"}},
                                     {{"name", "notify"}, {"enterWhen", rises(10, 5)}},
                                     {{"name", "cdc"}, {"slot", "audit"}, {"enterWhen", rises(20, 15)}}})},
              {"transitions", {{"cooldown", "1s"}, {"down", "Automatic"}}}}}};
  }

  std::vector<std::thread> writers_;
};

TEST_F(ShadowTest, ClimbsAndComesBackUnderWritesWithoutLosingOrDoublingARow) {
  Apply(SmallPolicy("app", Json{{"any", Json::array({{{"name", "by-hand"}, {"demand", Json::object()}}})}}));
  ASSERT_TRUE(WaitForCondition("app", "Ready", "True", seconds(180)));
  QueryInside("app-1", kTables);
  Apply(Audit());
  ASSERT_TRUE(WaitForShadowTier("triggers"));
  StartWriters();
  ASSERT_TRUE(Eventually("the application writes", seconds(30),
                         [&] { return Number("SELECT count(*) FROM customers_history") > 100; }));

  QueryInside("app-1", "UPDATE pressure SET value = 11");
  ASSERT_TRUE(WaitForShadowTier("notify"));
  EXPECT_THAT(ShadowField("/status/tiers/1/message"), HasSubstr("pressure 11 > 10"));
  std::printf("%s\n", Kubectl({"get", "shadowtables", "-n", ns()}).c_str());
  // The worker alone moves rows now.
  int64_t before = Number("SELECT count(*) FROM customers_history");
  EXPECT_TRUE(Eventually("the worker moves rows", seconds(30),
                         [&] { return Number("SELECT count(*) FROM customers_history") > before + 100; }));
  Json pods = KubectlJson({"get", "pods", "-n", ns(), "-l", "pgtier.dev/shadow-policy=audit"});
  EXPECT_EQ(pods["items"].size(), 1U);

  // Killed: nothing is lost, and the next one goes on.
  Kubectl({"delete", "pod", "-n", ns(), "-l", "pgtier.dev/shadow-policy=audit", "--grace-period=0", "--force"});
  before = Number("SELECT count(*) FROM customers_history");
  EXPECT_TRUE(Eventually("another worker moves rows", seconds(60),
                         [&] { return Number("SELECT count(*) FROM customers_history") > before + 100; }));

  QueryInside("app-1", "UPDATE pressure SET value = 21");
  ASSERT_TRUE(WaitForShadowTier("cdc"));
  std::printf("%s\n", Kubectl({"get", "shadowtables", "-n", ns()}).c_str());
  EXPECT_EQ(Number("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'audit' AND active"), 1);
  before = Number("SELECT count(*) FROM customers_history");
  EXPECT_TRUE(Eventually("changes are read from the log", seconds(30),
                         [&] { return Number("SELECT count(*) FROM customers_history") > before + 100; }));
  Kubectl({"delete", "pod", "-n", ns(), "-l", "pgtier.dev/worker=cdc", "--grace-period=0", "--force"});
  before = Number("SELECT count(*) FROM customers_history");
  EXPECT_TRUE(Eventually("another worker reads on", seconds(60),
                         [&] { return Number("SELECT count(*) FROM customers_history") > before + 100; }));

  QueryInside("app-1", "UPDATE pressure SET value = 0");
  ASSERT_TRUE(WaitForShadowTier("triggers"));
  EXPECT_EQ(Number("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'audit'"), 0);
  EXPECT_EQ(Kubectl({"get", "pods", "-n", ns(), "-l", "pgtier.dev/shadow-policy=audit", "-o", "name"}), "");

  Json changed = Audit();
  changed["spec"]["partitioning"] = {{"rows", 100}};
  changed["spec"]["tiers"][1]["delivery"] = "Payload";
  Apply(changed);
  ASSERT_TRUE(Eventually("the history is a hypertable", seconds(120), [&] {
    return Says("Partitioned").starts_with("True (AsSpecified)");
  })) << Says("Partitioned");
  EXPECT_EQ(Number("SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_name ="
                   " 'customers_history'"),
            1);
  std::printf("Partitioned: %s\n%s\n", Says("Partitioned").c_str(), Kubectl({"get", "sqlm", "-n", ns()}).c_str());
  EXPECT_EQ(Says("Lossless"), "") << "no row travels yet";
  QueryInside("app-1", "UPDATE pressure SET value = 11");
  ASSERT_TRUE(WaitForShadowTier("notify"));
  EXPECT_TRUE(Eventually("rows come in notifications", seconds(60),
                         [&] { return OfWorker("pgtier_shadow_payloads_total") > 100; }));
  EXPECT_THAT(Says("Lossless"), testing::StartsWith("False (PayloadDelivery)"));
  std::printf("Lossless: %s\n%s\n", Says("Lossless").c_str(), Kubectl({"get", "shadowtables", "-n", ns()}).c_str());
  QueryInside("app-1", "UPDATE pressure SET value = 0");
  ASSERT_TRUE(WaitForShadowTier("triggers"));
  EXPECT_TRUE(Eventually("no row travels any more", seconds(60), [&] { return Says("Lossless").empty(); }))
      << Says("Lossless");
  StopWriters();
  int64_t changes = Number("SELECT sum(changes) FROM written");
  EXPECT_GT(changes, 1000);
  EXPECT_EQ(Number("SELECT count(*) FROM customers_history"), changes);
  EXPECT_EQ(Number(kDifferences), 0);
  EXPECT_EQ(Number("SELECT count(*) FROM customers_history WHERE name = 'never'"), 0);
  std::printf("%s\n%lld changes, all in the history\n", Kubectl({"get", "shadowtables", "-n", ns()}).c_str(),
              static_cast<long long>(changes));

  // Deleted, it leaves the triggers.
  Kubectl({"delete", "shadowtables", "audit", "-n", ns(), "--timeout=60s"});
  QueryInside("app-1", "INSERT INTO customers (name, balance) VALUES ('after', 0)");
  EXPECT_EQ(Number("SELECT count(*) FROM customers_history WHERE name = 'after'"), 1);
}

}  // namespace
}  // namespace pgtier::e2e
