#include "cli/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <vector>

namespace pgtier::cli {
namespace {

using testing::HasSubstr;

struct Parsed {
  std::optional<int> code;
  Options options;
  std::string out, err;
};

Parsed Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "kubectl-pgtier");
  Parsed parsed;
  std::ostringstream out;
  std::ostringstream err;
  parsed.code = ParseOptions(static_cast<int>(arguments.size()), arguments.data(), parsed.options, out, err);
  parsed.out = out.str();
  parsed.err = err.str();
  return parsed;
}

TEST(Options, CommonOnesStandBehindTheCommandAsWithKubectl) {
  Parsed parsed = Parse({"why", "kyoyu", "-n", "data", "--context=prod", "--kubeconfig", "/k", "-o", "json"});
  ASSERT_FALSE(parsed.code.has_value()) << parsed.err;
  EXPECT_EQ(parsed.options.command, Command::kWhy);
  EXPECT_EQ(parsed.options.name, "kyoyu");
  EXPECT_EQ(parsed.options.namespace_, "data");
  EXPECT_EQ(parsed.options.context, "prod");
  EXPECT_EQ(parsed.options.kubeconfig, "/k");
  EXPECT_TRUE(parsed.options.json);
  EXPECT_EQ(Parse({"resume", "kyoyu"}).options.command, Command::kResume);
}

TEST(Options, EachCommandTakesItsOwn) {
  Parsed demand = Parse({"demand", "kyoyu", "isolated-reads", "--off"});
  EXPECT_EQ(demand.options.trigger, "isolated-reads");
  EXPECT_TRUE(demand.options.off);
  Parsed promote = Parse({"promote", "kyoyu", "kyoyu-2", "--wait", "--timeout=90s"});
  EXPECT_EQ(promote.options.replica, "kyoyu-2");
  EXPECT_TRUE(promote.options.wait);
  EXPECT_FALSE(promote.options.force);
  EXPECT_EQ(promote.options.timeout, std::chrono::seconds(90));
  EXPECT_EQ(Parse({"approve", "kyoyu", "3f9c2a77"}).options.hash, "3f9c2a77");
  EXPECT_TRUE(Parse({"approve", "kyoyu", "--current"}).options.current);
}

TEST(Options, TheKindOfAPolicyIsNamedAsWithKubectl) {
  struct Case {
    const char* name;
    Kind kind;
  };
  for (const Case& each : {Case{"kyoyu-audit", Kind::kAny}, Case{"shadowtables/kyoyu-audit", Kind::kShadowTable},
                           Case{"shtp/kyoyu-audit", Kind::kShadowTable},
                           Case{"shadowtablepolicies.pgtier.dev/kyoyu-audit", Kind::kShadowTable},
                           Case{"scaletier/kyoyu-audit", Kind::kScaleTier}}) {
    Parsed parsed = Parse({"why", each.name});
    ASSERT_FALSE(parsed.code.has_value()) << parsed.err;
    EXPECT_EQ(parsed.options.kind, each.kind) << each.name;
    EXPECT_EQ(parsed.options.name, "kyoyu-audit");
  }
  for (const char* wrong : {"pods/kyoyu", "shadowtables.apps/kyoyu", "shadowtables/", "shadowtables/a/b"}) {
    Parsed parsed = Parse({"why", wrong});
    EXPECT_EQ(parsed.code, kBadCommand) << wrong;
    EXPECT_THAT(parsed.err, HasSubstr("NAME")) << wrong;
  }
}

TEST(Options, AWrongCommandLineIsTwoAndSaysWhatIsWrong) {
  struct Case {
    std::vector<const char*> arguments;
    const char* says;
  };
  for (const Case& each : std::initializer_list<Case>{{{}, "subcommand is required"},
                                                      {{"explain", "kyoyu"}, "subcommand is required"},
                                                      {{"why"}, "NAME is required"},
                                                      {{"why", "kyoyu", "-o", "yaml"}, "yaml"},
                                                      {{"demand", "kyoyu"}, "TRIGGER is required"},
                                                      {{"approve", "kyoyu"}, "HASH or --current"},
                                                      {{"approve", "kyoyu", "3f9c", "--current"}, "excludes"},
                                                      {{"promote", "kyoyu"}, "REPLICA is required"},
                                                      {{"promote", "kyoyu", "kyoyu-2", "--timeout=x"}, "timeout"},
                                                      {{"pause", "kyoyu", "more"}, "more"}}) {
    Parsed parsed = Parse(each.arguments);
    EXPECT_EQ(parsed.code, kBadCommand) << each.says;
    EXPECT_THAT(parsed.err, HasSubstr(each.says));
  }
}

TEST(Options, HelpIsNoFailureAndShowsExamples) {
  Parsed all = Parse({"--help"});
  EXPECT_EQ(all.code, kDone);
  for (const char* command : {"why", "plan", "approve", "demand", "pause", "resume", "promote", "Exit codes"}) {
    EXPECT_THAT(all.out, HasSubstr(command));
  }
  for (const char* command : {"why", "plan", "approve", "demand", "pause", "resume", "promote"}) {
    Parsed help = Parse({command, "--help"});
    EXPECT_EQ(help.code, kDone);
    EXPECT_THAT(help.out, HasSubstr(std::string("kubectl pgtier ") + command + " kyoyu"));
  }
}

}  // namespace
}  // namespace pgtier::cli
