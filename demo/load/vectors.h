// Random embeddings as pgvector's text.
#pragma once

#include <random>
#include <string>

#include "demo/load/schema.h"

namespace pgtier::load {

inline std::string RandomEmbedding(std::mt19937_64& random) {
  std::uniform_real_distribution<double> value(-0.5, 0.5);
  std::string text = "[";
  for (int i = 0; i < kEmbeddingDimensions; ++i) text += (i == 0 ? "" : ",") + std::to_string(value(random));
  return text + "]";
}

}  // namespace pgtier::load
