#include "lib/observe/http_json.h"

#include <gtest/gtest.h>

#include "lib/base/time_format.h"

namespace pgtier::observe {
namespace {

const WallTime kNow = *ParseTime("2026-11-20T17:00:00Z");

HttpQuestion Question() {
  HttpQuestion question;
  question.json_path = "$.data[0].p99";
  question.timestamp_path = "$.data[0].time";
  question.scale = 0.001;
  question.max_age = std::chrono::hours(36);
  return question;
}

// The reading's value, or its reason.
std::string Parse(const HttpQuestion& question, int status, const std::string& body) {
  core::Reading reading = ParseHttpAnswer(question, status, body, kNow);
  if (reading.value.has_value()) return std::to_string(*reading.value);
  return reading.unknown_reason.substr(0, reading.unknown_reason.find(':'));
}

std::string Body(const std::string& value, const std::string& time) {
  return R"({"data": [{"p99": )" + value + R"(, "time": )" + time + "}]}";
}

TEST(HttpJson, ANumberIsScaled) {
  EXPECT_EQ(Parse(Question(), 200, Body("52", R"("2026-11-20T16:00:00Z")")), "0.052000");
  EXPECT_EQ(Parse(Question(), 200, Body(R"("52.5")", R"("2026-11-20T16:00:00+01:00")")), "0.052500");
}

TEST(HttpJson, ATimeIsRfc3339OrUnixSecondsOrMilliseconds) {
  for (const char* time : {"1795190400", "1795190400.5", "1795190400000", "\"1795190400\""}) {
    EXPECT_EQ(Parse(Question(), 200, Body("1000", time)), "1.000000") << time;
  }
  EXPECT_EQ(Parse(Question(), 200, Body("1", "\"yesterday\"")), "BadTimestamp");
  EXPECT_EQ(Parse(Question(), 200, Body("1", "-1")), "BadTimestamp");
  EXPECT_EQ(Parse(Question(), 200, Body("1", "{}")), "BadTimestamp");
  EXPECT_EQ(Parse(Question(), 200, Body("1", "\"2026-11-20T18:00:00Z\"")), "BadTimestamp") << "of the future";
}

TEST(HttpJson, AnOldNumberIsNone) {
  EXPECT_EQ(Parse(Question(), 200, Body("1000", "\"2026-11-19T05:00:00Z\"")), "1.000000");
  EXPECT_EQ(Parse(Question(), 200, Body("1000", "\"2026-11-19T04:59:59Z\"")), "Stale");
  EXPECT_EQ(Parse(Question(), 200, R"({"data": [{"p99": 1}]})"), "NoTimestamp");
  HttpQuestion untimed = Question();
  untimed.timestamp_path.clear();
  EXPECT_EQ(Parse(untimed, 200, Body("1", "1")), "NoTimestamp") << "an age cannot be known";
  untimed.max_age.reset();
  EXPECT_EQ(Parse(untimed, 200, Body("1000", "1")), "1.000000");
}

TEST(HttpJson, WhatIsNotOneNumberIsUnknown) {
  HttpQuestion question = Question();
  EXPECT_EQ(Parse(question, 200, "{}"), "NoData");
  EXPECT_EQ(Parse(question, 200, Body("null", "1")), "NoData");
  EXPECT_EQ(Parse(question, 200, Body("true", "1")), "NotANumber");
  EXPECT_EQ(Parse(question, 200, Body("[1]", "1")), "NotANumber");
  EXPECT_EQ(Parse(question, 200, Body("\"\"", "1")), "NotANumber");
  EXPECT_EQ(Parse(question, 200, Body("\"12 ms\"", "1")), "NotANumber");
  EXPECT_EQ(Parse(question, 200, Body("\"nan\"", "1")), "NotANumber");
  EXPECT_EQ(Parse(question, 200, "<html>"), "BadAnswer");
  EXPECT_EQ(Parse(question, 200, ""), "BadAnswer");
  EXPECT_EQ(Parse(question, 500, Body("1", "1")), "HttpError");
  EXPECT_EQ(Parse(question, 204, ""), "HttpError");
  EXPECT_EQ(Parse(question, 302, ""), "HttpError");
  EXPECT_EQ(Parse(question, 401, ""), "Unauthorized");
  question.json_path = "$.data[*]";
  EXPECT_EQ(Parse(question, 200, "{}"), "BadJsonPath");
  question = Question();
  question.timestamp_path = "time";
  EXPECT_EQ(Parse(question, 200, Body("1", "1")), "BadJsonPath");
}

TEST(HttpJson, NoReasonRepeatsTheAnswer) {
  for (const char* body :
       {"secret", R"({"data": [{"p99": "secret"}]})", R"({"data": [{"p99": 1, "time": "secret"}]})"}) {
    for (int status : {200, 500}) {
      EXPECT_EQ(ParseHttpAnswer(Question(), status, body, kNow).unknown_reason.find("secret"), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace pgtier::observe
