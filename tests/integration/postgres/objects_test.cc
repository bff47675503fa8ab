#include "lib/postgres/objects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/integration/postgres/shared_server.h"

namespace pgtier::postgres {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::Soon;

class ObjectsTest : public testing::WithServer {};

TEST_F(ObjectsTest, RoleIsMadeOnceAndItsPasswordNeverShown) {
  auto connection = Connect();
  ASSERT_TRUE(connection.Execute("SET log_statement = 'all'", Soon()).has_value());
  RoleSpec role;
  role.name = "kyoyu \"app\"";
  const std::string password = "top'secret\\word";
  EXPECT_EQ(*EnsureRole(connection, role, password, Soon()), Ensured::kCreated);
  EXPECT_EQ(*EnsureRole(connection, role, "ignored", Soon()), Ensured::kUnchanged);
  auto options = server().Options();
  options.user = role.name;
  options.password = password;
  EXPECT_TRUE(Connection::Open(options, Soon()).has_value());
  auto stored = connection.Query("SELECT rolpassword FROM pg_authid WHERE rolname = $1", {role.name}, Soon());
  EXPECT_THAT(*(*stored)[0].Get<std::string>(0), HasSubstr("SCRAM-SHA-256$4096:"));
  EXPECT_THAT(server().Log(), HasSubstr("CREATE ROLE"));
  EXPECT_THAT(server().Log(), Not(HasSubstr("secret")));

  ASSERT_TRUE(SetPassword(connection, role.name, "another", Soon()).has_value());
  EXPECT_EQ(Connection::Open(options, Soon()).error().code, Code::kUnauthenticated);
  options.password = "another";
  EXPECT_TRUE(Connection::Open(options, Soon()).has_value());
  // The same again keeps the salt, and with it the keys by which poolers log in for clients that are connected.
  auto verifier = [&] {
    auto rows = connection.Query("SELECT rolpassword FROM pg_authid WHERE rolname = $1", {role.name}, Soon());
    return *(*rows)[0].Get<std::string>(0);
  };
  std::string before = verifier();
  ASSERT_TRUE(SetPassword(connection, role.name, "another", Soon()).has_value());
  EXPECT_EQ(verifier(), before);
  EXPECT_EQ(SetPassword(connection, "absent", "x", Soon()).error().code, Code::kNotFound);
}

TEST_F(ObjectsTest, RoleIsAlteredWhereItDiffers) {
  auto connection = Connect();
  RoleSpec role;
  role.name = "streamer";
  ASSERT_EQ(*EnsureRole(connection, role, "x", Soon()), Ensured::kCreated);
  role.replication = true;
  role.connection_limit = 5;
  role.member_of = {"pg_monitor"};
  EXPECT_EQ(*EnsureRole(connection, role, "x", Soon()), Ensured::kAltered);
  EXPECT_EQ(*EnsureRole(connection, role, "x", Soon()), Ensured::kUnchanged);
  role.login = false;
  EXPECT_EQ(*EnsureRole(connection, role, "x", Soon()), Ensured::kAltered);
  auto row = connection
                 .Query(
                     "SELECT rolcanlogin, rolreplication, rolconnlimit, pg_has_role(oid, 'pg_monitor', 'member')"
                     " FROM pg_roles WHERE rolname = 'streamer'",
                     Soon())
                 ->Single();
  EXPECT_FALSE(*row->Get<bool>(0));
  EXPECT_TRUE(*row->Get<bool>(1));
  EXPECT_EQ(*row->Get<int64_t>(2), 5);
  EXPECT_TRUE(*row->Get<bool>(3));
  role.member_of = {"absent"};
  EXPECT_EQ(EnsureRole(connection, role, "x", Soon()).error().code, Code::kNotFound);
  EXPECT_FALSE(connection.InTransaction());
}

TEST_F(ObjectsTest, DatabaseAndExtension) {
  auto connection = Connect();
  RoleSpec owner;
  owner.name = "owner";
  ASSERT_TRUE(EnsureRole(connection, owner, "", Soon()).has_value());
  EXPECT_EQ(*EnsureDatabase(connection, "k'y\"oyu", "owner", Soon()), Ensured::kCreated);
  EXPECT_EQ(*EnsureDatabase(connection, "k'y\"oyu", "owner", Soon()), Ensured::kUnchanged);
  EXPECT_EQ(EnsureDatabase(connection, "other", "nobody", Soon()).error().code, Code::kNotFound);
  auto inside = Connect("k'y\"oyu");
  EXPECT_EQ(*EnsureExtension(inside, "vector", Soon()), Ensured::kCreated);
  EXPECT_EQ(*EnsureExtension(inside, "vector", Soon()), Ensured::kUnchanged);
  EXPECT_TRUE(*ExtensionAvailable(inside, "timescaledb", Soon()));
  EXPECT_FALSE(*ExtensionAvailable(inside, "citus", Soon()));
  EXPECT_EQ(EnsureExtension(inside, "citus", Soon()).error().code, Code::kNotFound);
}

TEST_F(ObjectsTest, WalIsMadeAhead) {
  auto connection = Connect();
  const std::string ahead =
      "SELECT count(*) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' AND name > "
      "pg_walfile_name(pg_current_wal_lsn())";
  auto done = PrepareWal(connection, Soon());
  ASSERT_TRUE(done.has_value()) << done.error().message;
  auto files = connection.Query(ahead, Soon());
  ASSERT_TRUE(files.has_value()) << files.error().message;
  EXPECT_GE(*(*files)[0].Get<int64_t>(0), 4);  // Of a server that was made just now there is one at most.
}

}  // namespace
}  // namespace pgtier::postgres
