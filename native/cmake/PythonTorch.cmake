# The torch that the building interpreter imports, as the target torch::python; TORCH_VERSION is its version, TORCH_CUDA
# says whether it has CUDA, TORCH_ROOT is the folder it is installed in.
#
# Not find_package(Torch): with a CUDA torch that one refuses to configure on a machine without the CUDA toolkit,
# and the wheel that the package index hands out by default is such a one.
execute_process(
  COMMAND "${Python_EXECUTABLE}" -c
"import os, torch, torch.utils.cpp_extension as e
print(';'.join(e.include_paths()))
print(os.path.join(os.path.dirname(torch.__file__), 'lib'))
print(int(torch._C._GLIBCXX_USE_CXX11_ABI))
print(int(torch.version.cuda is not None))
print(torch.__version__)"
  OUTPUT_VARIABLE answer ERROR_VARIABLE trouble RESULT_VARIABLE status OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "pixeltier: ${Python_EXECUTABLE} cannot import torch, which the extension is built against:\n${trouble}")
endif()
string(REPLACE "\n" "|" answer "${answer}")
string(REGEX MATCH "^([^|]*)[|]([^|]*)[|]([^|]*)[|]([^|]*)[|]([^|]*)$" _ "${answer}")
set(torch_includes "${CMAKE_MATCH_1}")
set(torch_libraries "${CMAKE_MATCH_2}")
set(torch_abi "${CMAKE_MATCH_3}")
set(TORCH_CUDA "${CMAKE_MATCH_4}")
set(TORCH_VERSION "${CMAKE_MATCH_5}")
get_filename_component(TORCH_ROOT "${torch_libraries}/../.." ABSOLUTE)

add_library(torch::python INTERFACE IMPORTED)
target_include_directories(torch::python SYSTEM INTERFACE ${torch_includes})
target_compile_definitions(torch::python INTERFACE _GLIBCXX_USE_CXX11_ABI=${torch_abi})
foreach(name c10 torch_cpu torch)
  find_library(torch_${name} ${name} PATHS "${torch_libraries}" NO_DEFAULT_PATH REQUIRED)
  target_link_libraries(torch::python INTERFACE "${torch_${name}}")
endforeach()
# at::parallel_for is a header: compiled with OpenMP, it runs on torch's own pool, whose runtime torch_cpu brings
# along. Hence no -fopenmp when linking: it could add a second runtime.
target_compile_options(torch::python INTERFACE -fopenmp)
if(TORCH_CUDA)
  find_library(torch_c10_cuda c10_cuda PATHS "${torch_libraries}" NO_DEFAULT_PATH REQUIRED)
  add_library(torch::c10_cuda INTERFACE IMPORTED)
  target_link_libraries(torch::c10_cuda INTERFACE "${torch_c10_cuda}")
endif()
message(STATUS "pixeltier: torch ${TORCH_VERSION} from ${torch_libraries}, CUDA ${TORCH_CUDA}")
