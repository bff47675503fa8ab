// kubectl-pgtier: `kubectl pgtier …` where it is found on the PATH.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "cli/run.h"
#include "lib/base/log.h"
#include "lib/http/client.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  pgtier::log::SetLevel("error");  // What a person needs to know, the command says itself.
  pgtier::http::InitialiseThreads();
  bool colours = pgtier::cli::WantsColours(isatty(STDOUT_FILENO) != 0, std::getenv("NO_COLOR"), std::getenv("TERM"));
  pgtier::SystemClock clock;
  int code = pgtier::cli::Run(argc, argv, {std::cout, std::cerr, {colours}, clock});
  if (!std::cout.flush() && code == 0) code = 1;
  return code;
}
