// Runs a fuzz target without libFuzzer: the corpus as it is, then mutations of it by a seeded generator.
//
//   <target> <corpus folder> [--seconds=2] [--seed=1]
//
// The same seed makes the same inputs in the same order. What a crash was made by is left in crash-<seed>-<number>.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

std::string current;
char crash_file[64];

// Only what a signal handler may do.
void LeaveInput(int signal) {
  const int file = open(crash_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file >= 0) {
    ssize_t written = write(file, current.data(), current.size());
    if (written >= 0) written = write(STDERR_FILENO, crash_file, sizeof(crash_file));
    close(file);
  }
  std::signal(signal, SIG_DFL);
  raise(signal);
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  size_t Below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }

  std::string Mutate(const std::vector<std::string>& corpus) {
    std::string input = corpus[Below(corpus.size())];
    for (size_t rounds = 1 + Below(6); rounds > 0; --rounds) Once(corpus, input);
    constexpr size_t kLongest = size_t{64} << 10;
    if (input.size() > kLongest) input.resize(kLongest);
    return input;
  }

 private:
  void Once(const std::vector<std::string>& corpus, std::string& input) {
    // What parsers trip over.
    static const std::vector<std::string> kTokens = {"\"",
                                                     "\\",
                                                     "'",
                                                     "{",
                                                     "}",
                                                     "[",
                                                     "]",
                                                     ":",
                                                     ",",
                                                     "\n",
                                                     "\r\n",
                                                     std::string(1, '\0'),
                                                     "\xff\xfe",
                                                     "\xed\xa0\x80",
                                                     "null",
                                                     "true",
                                                     "-1",
                                                     "1e999",
                                                     "9223372036854775808",
                                                     "0.1",
                                                     "\\u0000",
                                                     "\\ud800",
                                                     "&a",
                                                     "*a",
                                                     "<<: ",
                                                     "!!binary ",
                                                     "--- ",
                                                     "%",
                                                     "${x}",
                                                     ";",
                                                     "--",
                                                     "$$",
                                                     "\t",
                                                     "={}",
                                                     "[]",
                                                     "\"\"",
                                                     "host=",
                                                     " port=1",
                                                     std::string(300, 'A')};
    const size_t at = Below(input.size() + 1);
    switch (Below(7)) {
      case 0:
        if (!input.empty()) input[Below(input.size())] = static_cast<char>(Below(256));
        break;
      case 1:
        if (!input.empty()) input[Below(input.size())] ^= static_cast<char>(1U << Below(8));
        break;
      case 2:
        input.insert(at, kTokens[Below(kTokens.size())]);
        break;
      case 3:
        input.erase(at, Below(20));
        break;
      case 4: {
        const std::string piece = input.substr(at, Below(40));
        input.insert(Below(input.size() + 1), piece);
        break;
      }
      case 5: {
        const std::string& other = corpus[Below(corpus.size())];
        input = input.substr(0, at) + other.substr(Below(other.size() + 1));
        break;
      }
      default:
        input.replace(at, Below(8), kTokens[Below(kTokens.size())]);
        break;
    }
  }

  std::mt19937_64 random_;
};

std::string Option(int argc, char** argv, const std::string& name, const std::string& otherwise) {
  for (int i = 2; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with(name)) return argument.substr(name.size());
  }
  return otherwise;
}

void Run(const std::string& input) {
  current = input;
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(current.data()), current.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s <corpus folder> [--seconds=2] [--seed=1]\n", argv[0]);
    return 64;
  }
  const std::string seed = Option(argc, argv, "--seed=", "1");
  const std::chrono::duration<double> limit(std::stod(Option(argc, argv, "--seconds=", "2")));
  std::snprintf(crash_file, sizeof(crash_file), "crash-%s-%d\n", seed.c_str(), getpid());
  for (int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, LeaveInput);

  std::vector<std::string> corpus;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s holds nothing\n", argv[1]);
    return 1;
  }
  for (const std::string& input : corpus) Run(input);
  Run("");
  Mutator mutator(std::stoull(seed));
  const auto begun = std::chrono::steady_clock::now();
  long count = 0;
  for (; std::chrono::steady_clock::now() - begun < limit; ++count) Run(mutator.Mutate(corpus));
  std::printf("%ld inputs from %zu, none of which broke anything\n", count, corpus.size());
  return 0;
}
