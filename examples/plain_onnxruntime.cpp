// Inspect with ONNX Runtime alone, in C++17: no draem, no Python.
//
//   g++ -std=c++17 plain_onnxruntime.cpp -I ORT/include -L ORT/lib -lonnxruntime -o inspect
//   ./inspect model.onnx image.ppm 0.5573
//
// ORT is an unpacked release of ONNX Runtime. The image is a binary PPM of the model's size, which
// stands for your camera's buffer; the last argument is the threshold, which `draem info` prints.

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

struct Image {
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> rgb;  // height * width * 3, row by row
};

struct Inspection {
  float anomaly_score = 0;
  std::vector<float> anomaly_map;  // height * width, in [0, 1]
};

Image read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  Image image;
  int highest = 0;
  file >> magic >> image.width >> image.height >> highest;
  file.get();
  if (!file || magic != "P6" || highest != 255) {
    throw std::runtime_error(path + ": expected a binary PPM of 8 bits");
  }
  image.rgb.assign(std::istreambuf_iterator<char>(file), {});
  if (static_cast<int64_t>(image.rgb.size()) != image.height * image.width * 3) {
    throw std::runtime_error(path + ": the pixels are incomplete");
  }
  return image;
}

Inspection inspect(Ort::Session& session, Image& image) {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<int64_t, 4> shape{1, image.height, image.width, 3};
  const auto input = Ort::Value::CreateTensor<uint8_t>(memory, image.rgb.data(), image.rgb.size(),
                                                       shape.data(), shape.size());
  const char* given[] = {"images"};
  const char* wanted[] = {"anomaly_map", "anomaly_score"};
  const auto found = session.Run(Ort::RunOptions{nullptr}, given, &input, 1, wanted, 2);

  const float* map = found[0].GetTensorData<float>();
  return {*found[1].GetTensorData<float>(), {map, map + image.height * image.width}};
}

// Both are left to draem; without them, map and score would be others.
void refuse_tiles_and_regions(Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  const auto text = session.GetModelMetadata().LookupCustomMetadataMapAllocated("draem", allocator);
  const std::string card = text ? text.get() : "";
  const auto tile = card.find("\"tile\":");  // a number or null; draem 0.1.0 wrote "tiling"
  const bool tiled = tile != std::string::npos && std::isdigit(card[tile + 7]);
  for (const bool found : {tiled, card.find("\"tiling\":{") != std::string::npos,
                           card.find("\"region_of_interest\":\"") != std::string::npos}) {
    if (found) {
      throw std::runtime_error("the model has tiles or a region of interest; use draem");
    }
  }
}

int main(int count, char** arguments) try {
  if (count != 4) {
    std::cerr << "usage: inspect MODEL.onnx IMAGE.ppm THRESHOLD\n";
    return 2;
  }
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "inspect");
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(2);
  Ort::Session session(env, arguments[1], options);  // load once, inspect many
  refuse_tiles_and_regions(session);

  Image image = read_ppm(arguments[2]);
  const Inspection found = inspect(session, image);

  const float highest = *std::max_element(found.anomaly_map.begin(), found.anomaly_map.end());
  std::cout << "score " << found.anomaly_score << ", highest pixel " << highest << '\n'
            << (found.anomaly_score >= std::atof(arguments[3]) ? "anomalous" : "normal") << '\n';
  return 0;
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
