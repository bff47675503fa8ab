// How an instance starts, and ends before it has: images/postgres/pgtier-postgres with programs that only pretend.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>
#include <vector>

namespace pgtier {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// What takes long: notes that it began, and when it is told to end that it was.
constexpr char kTakesLong[] =
    "trap 'echo told >\"$TOLD\"; exit 1' TERM\n"
    "echo begun >\"$BEGUN\"\n"
    "while :; do sleep 0.05; done\n";

class PostgresStart : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    for (const char* name : {"bin", "etc/config", "etc/secrets", "volume"}) fs::create_directories(Path(name));
    Write("etc/secrets/superuser", "secret");
    Write("etc/secrets/replication", "secret");
    Write("etc/config/primary_conninfo", "host=kyoyu-primary user=pgtier_replication");
    Write("etc/config/primary", "1 kyoyu-1\n");
    Fake("pgtier-heartbeat", "[ \"$1\" = start ] || sleep 1\n");
    Fake("psql", "echo f\n");
    Fake("pg_rewind", "exit 0\n");
    Fake("postgres", "echo \"$2\" >\"$SERVED\"\n");
    Fake("pg_basebackup", kMakesServer);
  }
  void TearDown() override {
    for (pid_t group : groups_) kill(-group, SIGKILL);
    fs::remove_all(folder_);
  }

  [[nodiscard]] std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  void Write(const std::string& name, const std::string& content) const { std::ofstream(Path(name)) << content; }
  [[nodiscard]] std::string Read(const std::string& name) const {
    std::ifstream file(Path(name));
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void Fake(const std::string& program, const std::string& script) const {
    Write("bin/" + program, "#!/bin/sh\n" + script);
    chmod(Path("bin/" + program).c_str(), 0755);
  }
  // A data directory that was a primary's.
  void MakeServer() const {
    fs::create_directories(Path("volume/pgdata"));
    Write("volume/pgdata/PG_VERSION", "17");
  }

  pid_t Start(const std::string& instance, const std::string& bootstrap) {
    pid_t pid = fork();
    if (pid != 0) {
      setpgid(pid, pid);
      groups_.push_back(pid);
      return pid;
    }
    setpgid(0, 0);
    auto set = [](const char* name, const std::string& value) { setenv(name, value.c_str(), 1); };
    set("PATH", Path("bin") + ":" + getenv("PATH"));
    set("PGDATA", Path("volume/pgdata"));
    set("PGTIER_INSTANCE", instance);
    set("PGTIER_BOOTSTRAP", bootstrap);
    set("PGTIER_PRIMARY_HOST", "kyoyu-primary");
    set("PGTIER_SLOT", "pgtier_slot");
    set("PGTIER_ETC", Path("etc"));
    set("PGTIER_TMP", folder_);
    set("PGTIER_TERMINATION_LOG", Path("termination"));
    set("BEGUN", Path("begun"));
    set("TOLD", Path("told"));
    set("SERVED", Path("served"));
    execlp("sh", "sh", PGTIER_SOURCE_DIR "/images/postgres/pgtier-postgres", nullptr);
    _exit(127);
  }
  // The exit status; minus the signal by which it ended.
  static int Await(pid_t pid) {
    int status = 0;
    EXPECT_TRUE(Soon([&] { return waitpid(pid, &status, WNOHANG) == pid; })) << "it does not end";
    // What runs beside the server ends with its container, and here by this: it would go on writing beside the next
    // one.
    kill(-pid, SIGKILL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  static bool Soon(const std::function<bool()>& holds) {
    for (int i = 0; i < 3000; ++i) {
      if (holds()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  // Starts it, ends it while `program` is at work, and expects that both go.
  void EndWhileItRuns(const std::string& program, const std::string& instance, const std::string& bootstrap) {
    Fake(program, std::string(kMakesHalf) + kTakesLong);
    pid_t pid = Start(instance, bootstrap);
    ASSERT_TRUE(Soon([&] { return fs::exists(Path("begun")); })) << program << " was not started";
    kill(pid, SIGTERM);
    EXPECT_EQ(Await(pid), 143);
    EXPECT_EQ(Read("told"), "told\n") << program << " was left alone";
    EXPECT_FALSE(fs::exists(Path("served")));
  }

  // The folder is the value of --pgdata.
  static constexpr char kMakesHalf[] =
      "for each; do case \"$each\" in --pgdata=*) mkdir -p \"${each#*=}\"; echo half >\"${each#*=}/half\"; "
      "echo 17 >\"${each#*=}/PG_VERSION\";; esac; done\n";
  static constexpr char kMakesServer[] =
      "for each; do case \"$each\" in --pgdata=*) mkdir -p \"${each#*=}\"; echo 17 >\"${each#*=}/PG_VERSION\";; esac; "
      "done\n";

 private:
  std::string folder_ = "/tmp/pgtier-start-XXXXXX";
  std::vector<pid_t> groups_;
};

TEST_F(PostgresStart, EndsWithItsBaseBackupAndBeginsAnew) {
  EndWhileItRuns("pg_basebackup", "kyoyu-2", "basebackup");
  EXPECT_FALSE(fs::exists(Path("volume/pgdata"))) << "half of a server";
  Fake("pg_basebackup", kMakesServer);
  EXPECT_EQ(Await(Start("kyoyu-2", "basebackup")), 0);
  EXPECT_TRUE(fs::exists(Path("served")));
  EXPECT_TRUE(fs::exists(Path("volume/pgdata/standby.signal")));
  EXPECT_FALSE(fs::exists(Path("volume/pgdata/half")));
}

TEST_F(PostgresStart, EndsWithItsInitdb) {
  EndWhileItRuns("initdb", "kyoyu-1", "initdb");
  EXPECT_FALSE(fs::exists(Path("volume/pgdata")));
  Fake("initdb", kMakesServer);
  EXPECT_EQ(Await(Start("kyoyu-1", "initdb")), 0);
  EXPECT_TRUE(fs::exists(Path("served")));
  EXPECT_FALSE(fs::exists(Path("volume/pgdata/standby.signal")));
}

// Not even where standby.signal has come from the source, which may be fenced itself.
TEST_F(PostgresStart, ARewindThatWasBrokenOffIsNeverTakenForAServer) {
  MakeServer();
  Fake("pg_rewind", "echo >\"$PGDATA/standby.signal\"\n" + std::string(kTakesLong));
  pid_t pid = Start("kyoyu-2", "basebackup");
  ASSERT_TRUE(Soon([&] { return fs::exists(Path("begun")); }));
  kill(-pid, SIGKILL);
  EXPECT_EQ(Await(pid), -SIGKILL);
  Fake("pg_rewind", "exit 0\n");
  EXPECT_EQ(Await(Start("kyoyu-2", "basebackup")), 1);
  EXPECT_THAT(Read("termination"), HasSubstr("RewindFailed: its rewind was broken off"));
  EXPECT_FALSE(fs::exists(Path("served")));
}

TEST_F(PostgresStart, ARewindThatIsAskedToEndGoesOnToItsEnd) {
  MakeServer();
  Fake("pg_rewind", "echo begun >\"$BEGUN\"\nuntil [ -e \"$PGDATA/go-on\" ]; do sleep 0.05; done\n");
  pid_t pid = Start("kyoyu-2", "basebackup");
  ASSERT_TRUE(Soon([&] { return fs::exists(Path("begun")); }));
  kill(pid, SIGTERM);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  kill(pid, SIGTERM);
  EXPECT_FALSE(fs::exists(Path("volume/pgdata/standby.signal")));
  Write("volume/pgdata/go-on", "");
  EXPECT_EQ(Await(pid), 143);
  EXPECT_FALSE(fs::exists(Path("served"))) << "it was to end";
  EXPECT_TRUE(fs::exists(Path("volume/pgdata/standby.signal")));
  Fake("pg_rewind", "exit 1\n");
  EXPECT_EQ(Await(Start("kyoyu-2", "basebackup")), 0);
  EXPECT_TRUE(fs::exists(Path("served")));
}

TEST_F(PostgresStart, ARewindThatEndedIsTakenForOneAlsoWithoutTheRest) {
  MakeServer();
  Write("volume/pgdata.rewound", "");
  Fake("pg_rewind", "exit 1\n");
  EXPECT_EQ(Await(Start("kyoyu-2", "basebackup")), 0);
  EXPECT_TRUE(fs::exists(Path("volume/pgdata/standby.signal")));
  EXPECT_FALSE(fs::exists(Path("volume/pgdata.rewound"))) << "it may be a primary some day";
}

// Fenced, and its heir was promoted with less.
TEST_F(PostgresStart, AStandbyThatHasPartedFromItsPrimaryIsRewound) {
  struct Case {
    const char* dry_run;
    const char* in_recovery;
    const char* primary;
    const char* file;  // Beside standby.signal.
    int status;
    bool rewound;
  };
  constexpr char kParted[] = "pg_rewind: rewinding from last common checkpoint at 0/2000060 on timeline 1";
  for (const Case& each : std::initializer_list<Case>{
           {kParted, "f", "kyoyu-1", "none", 0, true},
           {"pg_rewind: no rewind required", "f", "kyoyu-1", "none", 0, false},
           {"pg_rewind: error: target server must be shut down cleanly", "f", "kyoyu-1", "none", 0, false},
           {"pg_rewind: error: could not find previous WAL record at 0/2000060", "f", "kyoyu-1", "none", 1, false},
           {kParted, "t", "kyoyu-1", "none", 0, false},
           {kParted, "", "kyoyu-1", "none", 0, false},
           {kParted, "f", "kyoyu-2", "none", 0, false},
           {kParted, "f", "kyoyu-1", "backup_label", 0, false}}) {
    SCOPED_TRACE(std::string(each.dry_run) + each.in_recovery + each.primary + each.file);
    fs::remove_all(Path("volume"));
    fs::remove(Path("told"));
    fs::remove(Path("served"));
    MakeServer();
    Write("volume/pgdata/standby.signal", "");
    Write(std::string("volume/pgdata/") + each.file, "");
    Write("etc/config/primary", std::string("1 ") + each.primary + "\n");
    Fake("psql", std::string("echo ") + each.in_recovery + "\n");
    Fake("pg_rewind", "case \"$*\" in *--dry-run*) echo '" + std::string(each.dry_run) +
                          "' >&2; exit 1;; esac\necho rewound >\"$TOLD\"\n");
    EXPECT_EQ(Await(Start("kyoyu-2", "basebackup")), each.status);
    EXPECT_EQ(fs::exists(Path("told")), each.rewound);
    EXPECT_EQ(fs::exists(Path("served")), each.status == 0);
    EXPECT_TRUE(fs::exists(Path("volume/pgdata/standby.signal")));
    if (each.status != 0) {
      EXPECT_THAT(Read("termination"), HasSubstr("RewindFailed: it has parted from kyoyu-1"));
    }
  }
}

TEST_F(PostgresStart, ARewoundServerStartsAsAStandby) {
  MakeServer();
  EXPECT_EQ(Await(Start("kyoyu-2", "basebackup")), 0);
  EXPECT_TRUE(fs::exists(Path("volume/pgdata/standby.signal")));
  EXPECT_TRUE(fs::exists(Path("served")));
  EXPECT_FALSE(fs::exists(Path("volume/pgdata.rewinding")));
  EXPECT_FALSE(fs::exists(Path("volume/pgdata.rewound")));
}

TEST_F(PostgresStart, ARewindThatFailsSaysSo) {
  MakeServer();
  Fake("pg_rewind", "exit 1\n");
  EXPECT_EQ(Await(Start("kyoyu-2", "basebackup")), 1);
  EXPECT_THAT(Read("termination"), HasSubstr("RewindFailed: pg_rewind failed"));
}

// pg_rewind goes by the number, and finds nothing to do.
TEST_F(PostgresStart, APrimaryBesideThePrimaryOfTheSameTimelineIsNotTakenForItsStandby) {
  MakeServer();
  Fake("pg_rewind", "echo 'pg_rewind: source and target cluster are on the same timeline' >&2\n");
  EXPECT_EQ(Await(Start("kyoyu-2", "basebackup")), 1);
  EXPECT_THAT(Read("termination"), HasSubstr("RewindFailed: it was a primary beside kyoyu-1"));
  EXPECT_FALSE(fs::exists(Path("served")));
}

TEST_F(PostgresStart, ThePrimaryStartsAsItIs) {
  MakeServer();
  EXPECT_EQ(Await(Start("kyoyu-1", "initdb")), 0);
  EXPECT_FALSE(fs::exists(Path("volume/pgdata/standby.signal")));
  EXPECT_TRUE(fs::exists(Path("served")));
}

}  // namespace
}  // namespace pgtier
