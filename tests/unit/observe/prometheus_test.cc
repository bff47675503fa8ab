#include "lib/observe/prometheus.h"

#include <gtest/gtest.h>

namespace pgtier::observe {
namespace {

std::string Vector(const std::string& samples) {
  return R"({"status":"success","data":{"resultType":"vector","result":[)" + samples + "]}}";
}

std::string ReasonOf(int status, const std::string& body) {
  core::Reading reading = ParsePrometheusAnswer(status, body);
  EXPECT_FALSE(reading.value.has_value());
  return reading.unknown_reason.substr(0, reading.unknown_reason.find(':'));
}

TEST(PrometheusAnswer, OneSampleIsAReading) {
  EXPECT_DOUBLE_EQ(*ParsePrometheusAnswer(200, Vector(R"({"metric":{},"value":[1.5,"0.031"]})")).value, 0.031);
  EXPECT_DOUBLE_EQ(
      *ParsePrometheusAnswer(200, R"({"status":"success","data":{"resultType":"scalar","result":[1,"4"]}})").value, 4);
}

TEST(PrometheusAnswer, WhatIsNotOneNumberIsUnknown) {
  const char* sample = R"({"metric":{},"value":[1,"1"]})";
  EXPECT_EQ(ReasonOf(200, Vector("")), "NoData");
  EXPECT_EQ(ReasonOf(200, Vector(std::string(sample) + "," + sample)), "ManySeries");
  EXPECT_EQ(ReasonOf(200, Vector(R"({"metric":{},"value":[1,"NaN"]})")), "NotANumber");
  EXPECT_EQ(ReasonOf(200, Vector(R"({"metric":{},"value":[1,"+Inf"]})")), "NotANumber");
  EXPECT_EQ(ReasonOf(200, Vector(R"({"metric":{},"value":[1,"x"]})")), "BadAnswer");
  EXPECT_EQ(ReasonOf(200, Vector("7")), "BadAnswer");
  EXPECT_EQ(ReasonOf(200, R"({"status":"success","data":{"resultType":"matrix","result":[]}})"), "BadQuery");
}

TEST(PrometheusAnswer, FailuresAreUnknownAndDoNotRepeatTheBody) {
  core::Reading bad = ParsePrometheusAnswer(400, R"({"status":"error","errorType":"bad_data","error":"secret words"})");
  EXPECT_EQ(bad.unknown_reason, "BadQuery: Prometheus cannot parse or run the query");
  EXPECT_EQ(ReasonOf(503, "upstream down"), "PrometheusError");
  EXPECT_EQ(ReasonOf(200, "<html>"), "BadAnswer");
  EXPECT_EQ(ReasonOf(200, "[]"), "BadAnswer");
  EXPECT_EQ(ReasonOf(200, R"({"data":7})"), "BadAnswer");
}

}  // namespace
}  // namespace pgtier::observe
