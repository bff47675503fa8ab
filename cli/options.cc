#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <initializer_list>

#include "lib/base/time_format.h"

namespace pgtier::cli {
namespace {

// NAME, or TYPE/NAME with any name of the type that kubectl takes.
void ReadName(const std::string& text, Options& options) {
  size_t slash = text.find('/');
  options.name = slash == std::string::npos ? text : text.substr(slash + 1);
  options.kind = Kind::kAny;
  if (slash != std::string::npos) {
    std::string type = text.substr(0, text.find_first_of("./"));
    std::string group = text.substr(type.size(), slash - type.size());
    auto is = [&](std::initializer_list<const char*> names) {
      return std::any_of(names.begin(), names.end(), [&](const char* name) { return type == name; });
    };
    if (is({"scaletierpolicies", "scaletierpolicy", "scaletiers", "scaletier", "stp"})) options.kind = Kind::kScaleTier;
    if (is({"shadowtablepolicies", "shadowtablepolicy", "shadowtables", "shadowtable", "shtp"})) {
      options.kind = Kind::kShadowTable;
    }
    bool known = group.empty() || group == ".pgtier.dev" || group == ".v1alpha1.pgtier.dev";
    if (options.kind == Kind::kAny || !known) {
      throw CLI::ValidationError("NAME", "no policies are of the kind \"" + text.substr(0, slash) +
                                             "\": scaletiers/NAME or shadowtables/NAME");
    }
  }
  if (options.name.empty() || options.name.find('/') != std::string::npos) {
    throw CLI::ValidationError("NAME", "\"" + text + "\" is no policy's name");
  }
}

void AddCommon(CLI::App& app, Options& options) {
  app.add_option("-n,--namespace", options.namespace_, "The policy's namespace; the context's when absent");
  app.add_option("--kubeconfig", options.kubeconfig, "A kubeconfig file. Without it: $KUBECONFIG, ~/.kube/config");
  app.add_option("--context", options.context, "A context of the kubeconfig; the current one when absent");
  app.add_option_function<std::string>(
         "-o,--output", [&options](const std::string& format) { options.json = format == "json"; },
         "json: a document of a stable shape (docs/cli.md); absent: text for people")
      ->check(CLI::IsMember({"json"}));
}

CLI::App* AddCommand(CLI::App& app, Options& options, Command command, const char* name, const char* what,
                     const char* examples) {
  CLI::App* sub = app.add_subcommand(name, what);
  sub->add_option_function<std::string>(
         "NAME", [&options](const std::string& text) { ReadName(text, options); },
         "The policy's name: of a ScaleTierPolicy, or where there is none of a ShadowTablePolicy. With its kind as "
         "with kubectl: scaletiers/NAME, shadowtables/NAME")
      ->required();
  sub->callback([&options, command] { options.command = command; });
  sub->footer(std::string("Examples:\n") + examples);
  AddCommon(*sub, options);
  return sub;
}

void AddDemand(CLI::App& app, Options& options) {
  CLI::App* demand = AddCommand(
      app, options, Command::kDemand, "demand", "Make a trigger with `demand` fire, by naming it in spec.demands",
      "  kubectl pgtier demand kyoyu isolated-reads\n"
      "  kubectl pgtier demand kyoyu isolated-reads --off\n\n"
      "spec.demands is a field of the policy. Where Git owns the policy (Argo CD, Flux), write\n"
      "the demand there: its next sync takes back what was changed in the cluster only.");
  demand->add_option("TRIGGER", options.trigger, "The trigger's name")->required();
  demand->add_flag("--off", options.off, "Take the demand back");
}

void AddApprove(CLI::App& app, Options& options) {
  CLI::App* approve =
      AddCommand(app, options, Command::kApprove, "approve", "Approve the plan that waits for approval",
                 "  kubectl pgtier plan kyoyu                # shows the plan and its hash\n"
                 "  kubectl pgtier approve kyoyu 3f9c2a7711d0e5b8\n"
                 "  kubectl pgtier approve kyoyu --current   # whatever it is now\n\n"
                 "Needs the verb `approve` on the policy's resource, such as scaletierpolicies.pgtier.dev.");
  CLI::Option* hash = approve->add_option("HASH", options.hash, "The plan's hash, as `plan` shows it");
  CLI::Option* current = approve->add_flag("--current", options.current, "Approve the present plan unseen");
  hash->excludes(current);
  approve->callback([&options] {
    if (options.hash.empty() && !options.current) throw CLI::RequiredError("HASH or --current");
    options.command = Command::kApprove;
  });
}

void AddPromote(CLI::App& app, Options& options) {
  CLI::App* promote =
      AddCommand(app, options, Command::kPromote, "promote", "Make a replica the primary",
                 "  kubectl pgtier promote kyoyu kyoyu-2 --wait\n"
                 "  kubectl pgtier promote kyoyu kyoyu-2 --force   # the primary is lost\n\n"
                 "Without --force nothing that was committed is lost: the primary is shut down, and the\n"
                 "replica must have received all of its WAL. Needs the verb `promote`.");
  promote->add_option("REPLICA", options.replica, "The instance to promote, such as kyoyu-2")->required();
  promote->add_flag("--force", options.force,
                    "Accept the loss of what the replica has not received, for a primary that cannot be shut down");
  promote->add_flag("--wait", options.wait, "Wait until it is done or refused");
  promote
      ->add_option_function<std::string>(
          "--timeout",
          [&options](const std::string& text) {
            Result<Duration> timeout = ParseDuration(text);
            if (!timeout.has_value()) throw CLI::ValidationError("--timeout", timeout.error().message);
            options.timeout = *timeout;
          },
          "How long --wait waits")
      ->default_str("10m");
}

}  // namespace

std::optional<int> ParseOptions(int argc, const char* const* argv, Options& options, std::ostream& out,
                                std::ostream& err) {
  CLI::App app{
      "Shows why a ScaleTierPolicy or ShadowTablePolicy stands where it stands, and says what a person has to say.",
      "kubectl pgtier"};
  app.set_version_flag("--version", PGTIER_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 the command line is wrong. Colours only on a terminal and without "
      "NO_COLOR.");
  AddCommand(app, options, Command::kWhy, "why", "Each trigger of each tier, and what is missing until it fires",
             "  kubectl pgtier why kyoyu -n data\n  kubectl pgtier why shadowtables/kyoyu-audit -n data\n"
             "  kubectl pgtier why kyoyu -o json");
  AddCommand(app, options, Command::kPlan, "plan", "What the next tier would change, with the plan's steps and hash",
             "  kubectl pgtier plan kyoyu -n data\n  kubectl pgtier plan kyoyu -o json");
  AddApprove(app, options);
  AddDemand(app, options);
  AddCommand(app, options, Command::kPause, "pause", "Keep pgtier from acting; it goes on to look and report",
             "  kubectl pgtier pause kyoyu\n  kubectl pgtier pause shadowtables/kyoyu-audit\n\n"
             "Of a paused ShadowTablePolicy changes are kept as before, and a slot that is in danger of\n"
             "filling the disk is left all the same.");
  AddCommand(app, options, Command::kResume, "resume", "End a pause", "  kubectl pgtier resume kyoyu");
  AddPromote(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, out, err) == 0 ? kDone : kBadCommand;
  }
  return std::nullopt;
}

}  // namespace pgtier::cli
