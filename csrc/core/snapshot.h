// Snapshots: a versioned header, then one record of fixed size per board, all little-endian plain bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

#include "core/rng.h"

namespace lamer {

struct SnapshotHeader {
  static constexpr std::uint32_t kMagic = 0x53464d4cu;  // "LMFS"
  static constexpr std::uint32_t kVersion = 1;

  std::uint32_t magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint64_t config = 0;  // fingerprint of environment and configuration
  std::uint64_t num_boards = 0;
  std::uint64_t record_size = 0;
  std::uint64_t checksum = 0;  // of the records
};

// Sums and sums of sums in four lanes: checking costs less than copying. It finds accidents, not attacks.
inline std::uint64_t Checksum(std::span<const char> bytes) {
  std::uint64_t sums[4] = {}, sums_of_sums[4] = {};
  std::size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) {
    std::uint64_t words[4];
    std::memcpy(words, bytes.data() + i, 32);
    for (int k = 0; k < 4; ++k) sums_of_sums[k] += sums[k] += words[k];
  }
  std::uint64_t hash = bytes.size();
  for (int k = 0; k < 4; ++k) hash = HashCombine(HashCombine(hash, sums[k]), sums_of_sums[k]);
  for (; i < bytes.size(); ++i) hash = HashCombine(hash, static_cast<unsigned char>(bytes[i]));
  return hash;
}

// Checks all but the records' contents; throws std::invalid_argument naming the two values that disagree.
inline SnapshotHeader ReadSnapshotHeader(std::span<const char> data, std::uint64_t config,
                                         std::size_t num_boards, std::size_t record_size) {
  const auto fail = [](const std::string& what, std::uint64_t got, std::uint64_t expected) {
    throw std::invalid_argument("snapshot: " + what + " is " + std::to_string(got) + ", expected " +
                                std::to_string(expected));
  };
  SnapshotHeader header;
  if (data.size() < sizeof header)
    fail("its size in bytes", data.size(), sizeof header + num_boards * record_size);
  std::memcpy(&header, data.data(), sizeof header);
  if (header.magic != SnapshotHeader::kMagic) fail("its first word", header.magic, SnapshotHeader::kMagic);
  if (header.version != SnapshotHeader::kVersion)
    fail("its version", header.version, SnapshotHeader::kVersion);
  if (header.config != config) fail("the fingerprint of its configuration", header.config, config);
  if (header.record_size != record_size) fail("its bytes per board", header.record_size, record_size);
  if (header.num_boards != num_boards) fail("its number of boards", header.num_boards, num_boards);
  const std::size_t size = sizeof header + num_boards * record_size;
  if (data.size() != size) fail("its size in bytes", data.size(), size);
  const std::uint64_t checksum = Checksum(data.subspan(sizeof header));
  if (checksum != header.checksum) fail("the checksum of its records", checksum, header.checksum);
  return header;
}

}  // namespace lamer
