// The reflector against a server that misbehaves: what it holds in the end is what the server has.
#include "lib/kube/list_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "lib/kube/reflector.h"
#include "tests/fake/fault_server.h"

namespace pgtier::kube {
namespace {

using fake::FaultConnection;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string Object(const std::string& name, int version, const std::string& data = "1") {
  return R"({"kind":"ConfigMap","metadata":{"namespace":"a","name":")" + name + R"(","uid":"u-)" + name +
         R"(","resourceVersion":")" + std::to_string(version) + R"("},"data":{"n":")" + data + R"("}})";
}

std::string EventFrame(const std::string& type, const std::string& object) {
  return R"({"type":")" + type + R"(","object":)" + object + "}\n";
}

std::string InitialEnd(int version) {
  return EventFrame("BOOKMARK", R"({"metadata":{"resourceVersion":")" + std::to_string(version) +
                                    R"(","annotations":{"k8s.io/initial-events-end":"true"}}})");
}

std::string StatusObject(int code, const std::string& reason, const std::string& message,
                         const std::string& details = "{}") {
  return R"({"kind":"Status","code":)" + std::to_string(code) + R"(,"reason":")" + reason + R"(","message":")" +
         message + R"(","details":)" + details + "}";
}

// Runs a reflector of ConfigMaps (their data.n as a number) against a script by the number of the request.
class ReflectorTest : public testing::Test {
 protected:
  using Script = std::function<void(FaultConnection&, int request)>;

  void Start(Script script) {
    server_ = std::make_unique<fake::FaultServer>([this, script = std::move(script)](FaultConnection& connection) {
      for (std::string request; !(request = connection.ReadRequest()).empty();) {
        int number = 0;
        {
          std::lock_guard lock(mutex_);
          number = static_cast<int>(requests_.size());
          requests_.push_back(request.substr(0, request.find(" HTTP/1.1")));
          times_.push_back(std::chrono::steady_clock::now());
        }
        script(connection, number);
      }
    });
    Config config;
    config.server = server_->url();
    client_ = *Client::Connect(config);
    WatchTuning tuning;
    tuning.backoff_min = milliseconds(5);
    tuning.backoff_max = milliseconds(20);
    tuning.page_size = 2;
    tuning.initial_silence = silence_;
    reflector_ = std::make_unique<Reflector<int>>(
        client_.get(), WatchScope{kConfigMaps, "a", "app=x", "", false},
        [](const nlohmann::json& object) -> Result<int> {
          const auto n = object.at("data").at("n").get<std::string>();  // throws when it is absent
          if (n.empty() || n.find_first_not_of("0123456789") != std::string::npos) {
            return MakeError(Code::kInvalidArgument, "data.n is no number");
          }
          return std::stoi(n);
        },
        Store<int>::OnChange(),
        [this](const ObjectKey& key, const Error& error) {
          std::lock_guard lock(mutex_);
          undecodable_.push_back(key.ToString() + ": " + error.message);
        },
        nullptr, tuning);
    thread_ = std::jthread([this](const std::stop_token& stop) { reflector_->Run(stop); });
  }

  template <typename Condition>
  static bool Eventually(const Condition& condition) {
    for (int i = 0; i < 1000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }
  // What the store holds, as "name=n name=n".
  std::string Held() const {
    std::map<std::string, int> sorted;
    for (const auto& [key, object] : reflector_->store().List()) sorted[key.name] = *object;
    std::string held;
    for (const auto& [name, n] : sorted) held += (held.empty() ? "" : " ") + name + "=" + std::to_string(n);
    return held;
  }
  bool Holds(const std::string& expected) const {
    return Eventually([&] { return reflector_->synced() && Held() == expected; });
  }
  std::string Request(size_t number) {
    std::lock_guard lock(mutex_);
    return number < requests_.size() ? requests_[number] : "";
  }
  bool Reached(size_t requests) {
    return Eventually([&] { return !Request(requests - 1).empty(); });
  }

  Duration silence_ = seconds(10);
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::vector<MonoTime> times_;
  std::vector<std::string> undecodable_;
  std::unique_ptr<fake::FaultServer> server_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Reflector<int>> reflector_;
  std::jthread thread_;
};

void SendInitial(FaultConnection& connection, const std::vector<std::string>& objects, int version) {
  connection.BeginChunked();
  for (const auto& object : objects) connection.Chunk(EventFrame("ADDED", object));
  connection.Chunk(InitialEnd(version));
}

TEST_F(ReflectorTest, WatchListThenChangesOnTheSameStream) {
  Start([](FaultConnection& connection, int) {
    SendInitial(connection, {Object("x", 3), Object("y", 4)}, 10);
    connection.Chunk(EventFrame("MODIFIED", Object("x", 11, "7")) + EventFrame("DELETED", Object("y", 12)) +
                     EventFrame("ADDED", Object("z", 13, "9")));
    connection.WaitForPeer();
  });
  EXPECT_TRUE(Holds("x=7 z=9")) << Held();
  EXPECT_THAT(Request(0), AllOf(HasSubstr("GET /api/v1/namespaces/a/configmaps?"), HasSubstr("watch=true"),
                                HasSubstr("sendInitialEvents=true"), HasSubstr("resourceVersionMatch=NotOlderThan"),
                                HasSubstr("allowWatchBookmarks=true"), HasSubstr("labelSelector=app%3Dx"),
                                HasSubstr("timeoutSeconds="), Not(HasSubstr("resourceVersion="))));
}

TEST_F(ReflectorTest, FramesSplitAtEveryByte) {
  Start([](FaultConnection& connection, int) {
    connection.BeginChunked();
    for (char c : EventFrame("ADDED", Object("x", 3)) + InitialEnd(10)) connection.Chunk(std::string(1, c));
    connection.WaitForPeer();
  });
  EXPECT_TRUE(Holds("x=1")) << Held();
}

TEST_F(ReflectorTest, AStreamThatEndsGoesOnFromItsVersion) {
  Start([](FaultConnection& connection, int request) {
    if (request == 0) {
      SendInitial(connection, {Object("x", 3)}, 10);
      connection.Chunk(EventFrame("BOOKMARK", R"({"metadata":{"resourceVersion":"55"}})"));
      connection.EndChunked();
      return;
    }
    connection.BeginChunked();
    connection.Chunk(EventFrame("MODIFIED", Object("x", 56, "2")));
    connection.WaitForPeer();
  });
  EXPECT_TRUE(Holds("x=2")) << Held();
  EXPECT_THAT(Request(1), AllOf(HasSubstr("resourceVersion=55"), Not(HasSubstr("sendInitialEvents"))));
}

TEST_F(ReflectorTest, AResetKeepsTheVersion) {
  Start([](FaultConnection& connection, int request) {
    if (request == 0) {
      SendInitial(connection, {Object("x", 3)}, 10);
      std::this_thread::sleep_for(milliseconds(50));
      connection.Write("ff\r\n{\"type\":\"MODIF");
      connection.Reset();
      return;
    }
    connection.BeginChunked();
    connection.Chunk(EventFrame("MODIFIED", Object("x", 11, "2")));
    connection.WaitForPeer();
  });
  EXPECT_TRUE(Holds("x=2")) << Held();
  EXPECT_THAT(Request(1), HasSubstr("resourceVersion=10"));
}

TEST_F(ReflectorTest, AResetInTheInitialEventsBeginsAgain) {
  Start([](FaultConnection& connection, int request) {
    if (request == 0) {
      connection.BeginChunked();
      connection.Chunk(EventFrame("ADDED", Object("gone", 3)) + EventFrame("ADDED", Object("x", 4)));
      std::this_thread::sleep_for(milliseconds(50));
      connection.Reset();
      return;
    }
    SendInitial(connection, {Object("x", 4)}, 10);
    connection.WaitForPeer();
  });
  EXPECT_TRUE(Holds("x=1")) << Held();
  EXPECT_THAT(Request(1), HasSubstr("sendInitialEvents=true"));
}

// An expired version, in each shape that it comes in: after each the collection is listed anew.
class ExpiredTest : public ReflectorTest, public testing::WithParamInterface<int> {};

TEST_P(ExpiredTest, IsListedAnew) {
  Start([shape = GetParam()](FaultConnection& connection, int request) {
    if (request == 0) {
      SendInitial(connection, {Object("x", 3), Object("gone", 4)}, 10);
      connection.EndChunked();
    } else if (request == 1) {
      const std::string too_large = StatusObject(504, "Timeout", "Too large resource version: 10, current: 5",
                                                 R"({"causes":[{"reason":"ResourceVersionTooLarge"}]})");
      const std::string expired = StatusObject(410, "Expired", "too old resource version: 10 (99)");
      if (shape == 0) connection.Reply(410, expired);
      if (shape == 1) connection.Reply(504, too_large);
      if (shape >= 2) {
        connection.BeginChunked();
        connection.Chunk(EventFrame("ERROR", shape == 2 ? expired : too_large));
        connection.WaitForPeer();
      }
    } else {
      SendInitial(connection, {Object("x", 20, "2")}, 30);
      connection.WaitForPeer();
    }
  });
  EXPECT_TRUE(Holds("x=2")) << Held();
  EXPECT_THAT(Request(1), HasSubstr("resourceVersion=10"));
  EXPECT_THAT(Request(2), HasSubstr("sendInitialEvents=true"));
}

INSTANTIATE_TEST_SUITE_P(Shapes, ExpiredTest, testing::Range(0, 4));

TEST_F(ReflectorTest, ErrorsBackOffAndKeepTheVersion) {
  Start([](FaultConnection& connection, int request) {
    switch (request) {
      case 0:
        SendInitial(connection, {Object("x", 3)}, 10);
        connection.EndChunked();
        return;
      case 1:
        connection.Reply(401, StatusObject(401, "Unauthorized", "Unauthorized"));
        return;
      case 2:
        connection.Reply(500, "internal");
        return;
      case 3:
        connection.Reply(429, StatusObject(429, "TooManyRequests", "wait"), "Retry-After: 1\r\n");
        return;
      case 4:
        connection.BeginChunked();
        connection.Chunk(EventFrame("ERROR", StatusObject(500, "InternalError", "etcd")));
        connection.EndChunked();
        return;
      case 5:
        connection.BeginChunked();
        connection.Chunk("this is no frame\n");
        connection.WaitForPeer();
        return;
      case 6:  // closed at once, without an event
        connection.BeginChunked();
        connection.EndChunked();
        return;
      default:
        connection.BeginChunked();
        connection.Chunk(EventFrame("MODIFIED", Object("x", 11, "2")));
        connection.WaitForPeer();
    }
  });
  EXPECT_TRUE(Holds("x=2")) << Held();
  for (size_t i = 1; i <= 7; ++i) EXPECT_THAT(Request(i), HasSubstr("resourceVersion=10")) << i;
  std::lock_guard lock(mutex_);
  EXPECT_GE(times_[4] - times_[3], seconds(1)) << "Retry-After was not honoured";
  EXPECT_EQ(requests_.size(), 8U);
}

TEST_F(ReflectorTest, AServerWithoutWatchListIsListedInPages) {
  Start([](FaultConnection& connection, int request) {
    auto list = [](const std::string& metadata, const std::string& items) {
      return R"({"kind":"ConfigMapList","metadata":{)" + metadata + R"(},"items":[)" + items + "]}";
    };
    switch (request) {
      case 0:
        connection.Reply(422, StatusObject(422, "Invalid", "sendInitialEvents is forbidden for watch"));
        return;
      case 1:
        connection.Reply(200,
                         list(R"("resourceVersion":"9","continue":"tok en")", Object("x", 1) + "," + Object("y", 2)));
        return;
      case 2:
        connection.Reply(200, list(R"("resourceVersion":"9")", Object("z", 3)));
        return;
      case 3:
        connection.Reply(410, StatusObject(410, "Expired", "too old"));
        return;
      case 4:
        connection.Reply(200, list(R"("resourceVersion":"20")", Object("z", 19, "5")));
        return;
      default:
        connection.BeginChunked();
        connection.WaitForPeer();
    }
  });
  EXPECT_TRUE(Holds("z=5")) << Held();
  ASSERT_TRUE(Reached(6));
  EXPECT_THAT(Request(1), AllOf(HasSubstr("limit=2"), HasSubstr("labelSelector=app%3Dx"), Not(HasSubstr("watch"))));
  EXPECT_THAT(Request(2), HasSubstr("continue=tok%20en"));
  EXPECT_THAT(Request(3), HasSubstr("resourceVersion=9"));
  EXPECT_THAT(Request(4), AllOf(Not(HasSubstr("watch")), Not(HasSubstr("continue"))));
  EXPECT_THAT(Request(5), HasSubstr("resourceVersion=20"));
}

// Before 1.27 a server passes over sendInitialEvents: it sends what there is, and then nothing, or a usual bookmark.
TEST_F(ReflectorTest, AServerThatNeverEndsTheInitialEventsIsListedInPages) {
  for (bool bookmark : {false, true}) {
    silence_ = bookmark ? Duration(seconds(60)) : Duration(milliseconds(200));
    requests_.clear();
    Start([bookmark](FaultConnection& connection, int request) {
      if (request == 0) {
        connection.BeginChunked();
        connection.Chunk(EventFrame("ADDED", Object("x", 3)) + EventFrame("ADDED", Object("stale", 4)));
        if (bookmark) connection.Chunk(EventFrame("BOOKMARK", R"({"metadata":{"resourceVersion":"5"}})"));
        connection.WaitForPeer();
      } else if (request == 1) {
        connection.Reply(200, R"({"metadata":{"resourceVersion":"9"},"items":[)" + Object("x", 8, "7") + "]}");
      } else {
        connection.BeginChunked();
        connection.Chunk(EventFrame("ADDED", Object("y", 10)));
        connection.WaitForPeer();
      }
    });
    EXPECT_TRUE(Holds("x=7 y=1")) << Held();
    EXPECT_THAT(Request(0), HasSubstr("sendInitialEvents=true"));
    EXPECT_THAT(Request(1), AllOf(HasSubstr("limit=2"), Not(HasSubstr("watch"))));
    EXPECT_THAT(Request(2), HasSubstr("resourceVersion=9"));
    thread_.request_stop();
    thread_.join();
  }
}

TEST_F(ReflectorTest, UndecodableObjectsAreReportedAndTheirLastStateStays) {
  Start([](FaultConnection& connection, int request) {
    if (request == 0) {
      SendInitial(connection, {Object("x", 3), Object("new", 4, "bad")}, 10);
      connection.Chunk(EventFrame("MODIFIED", Object("x", 11, "worse")));
      connection.Chunk(EventFrame("ERROR", StatusObject(410, "Expired", "")));
      connection.EndChunked();
      return;
    }
    SendInitial(connection, {Object("x", 11, "worse"), R"({"metadata":{"name":"shapeless"}})", Object("y", 12)}, 20);
    connection.WaitForPeer();
  });
  EXPECT_TRUE(Holds("x=1 y=1")) << Held();
  std::lock_guard lock(mutex_);
  EXPECT_THAT(undecodable_, testing::ElementsAre("a/new: data.n is no number", "a/x: data.n is no number",
                                                 "a/x: data.n is no number", testing::StartsWith("shapeless: ")));
}

TEST_F(ReflectorTest, AStopEndsItAtOnce) {
  Start([](FaultConnection& connection, int) {
    SendInitial(connection, {Object("x", 3)}, 10);
    connection.WaitForPeer();
  });
  ASSERT_TRUE(Holds("x=1"));
  const auto begun = std::chrono::steady_clock::now();
  thread_.request_stop();
  thread_.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(20));
}

}  // namespace
}  // namespace pgtier::kube
