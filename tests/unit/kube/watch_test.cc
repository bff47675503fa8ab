#include "lib/kube/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace pgtier::kube {
namespace {

TEST(FrameSplitterTest, SplitAtEveryByte) {
  const std::string stream = "{\"a\":1}\n\n{\"b\":\"\\n\"}\r\n{\"c\":3}\n";
  const std::vector<std::string> expected = {"{\"a\":1}", "{\"b\":\"\\n\"}\r", "{\"c\":3}"};
  for (size_t first = 0; first <= stream.size(); ++first) {
    for (size_t second = first; second <= stream.size(); ++second) {
      FrameSplitter splitter;
      std::vector<std::string> frames;
      auto collect = [&](std::string_view frame) -> Status {
        frames.emplace_back(frame);
        return {};
      };
      ASSERT_TRUE(splitter.Feed(stream.substr(0, first), collect).has_value());
      ASSERT_TRUE(splitter.Feed(stream.substr(first, second - first), collect).has_value());
      ASSERT_TRUE(splitter.Feed(stream.substr(second), collect).has_value());
      ASSERT_EQ(frames, expected) << first << " " << second;
      ASSERT_EQ(splitter.pending(), 0U);
    }
  }
}

TEST(FrameSplitterTest, AFrameIsBounded) {
  auto ignore = [](std::string_view) -> Status { return {}; };
  FrameSplitter whole(10);
  EXPECT_EQ(whole.Feed("12345678901\n", ignore).error().code, Code::kResourceExhausted);
  FrameSplitter pieces(10);
  EXPECT_TRUE(pieces.Feed("123456", ignore).has_value());
  EXPECT_TRUE(pieces.Feed("7890", ignore).has_value());
  EXPECT_EQ(pieces.Feed("1", ignore).error().code, Code::kResourceExhausted);
}

TEST(FrameSplitterTest, AnErrorStopsIt) {
  FrameSplitter splitter;
  int calls = 0;
  auto refuse = [&](std::string_view) -> Status {
    ++calls;
    return MakeError(Code::kAborted, "no");
  };
  EXPECT_EQ(splitter.Feed("a\nb\n", refuse).error().code, Code::kAborted);
  EXPECT_EQ(calls, 1);
}

TEST(WatchEventTest, Types) {
  auto event = ParseWatchEvent(R"({"type":"DELETED","object":{"metadata":{"name":"x"}}})");
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->type, WatchEvent::Type::kDeleted);
  EXPECT_EQ(event->object["metadata"]["name"], "x");
  for (const char* bad : {"", "[]", "3", R"({"type":"ADDED"})", R"({"type":"ADDED","object":[]})",
                          R"({"type":"OTHER","object":{}})", R"({"object":{}})", R"({"type":3,"object":{}})", "{"}) {
    EXPECT_EQ(ParseWatchEvent(bad).error().code, Code::kInvalidArgument) << bad;
  }
}

TEST(WatchEventTest, TheEndOfTheInitialEvents) {
  auto event = ParseWatchEvent(
      R"({"type":"BOOKMARK","object":{"metadata":{"annotations":{"k8s.io/initial-events-end":"true"}}}})");
  EXPECT_TRUE(IsInitialEventsEnd(event->object));
  EXPECT_FALSE(IsInitialEventsEnd(nlohmann::json::object()));
}

}  // namespace
}  // namespace pgtier::kube
