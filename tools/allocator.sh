# Sourced by the launchers: what PyTorch on a CPU needs of glibc's allocator. By default glibc gives large
# blocks back to the system after every step, and the next step pays for clearing each page anew.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-33554432}" # the largest that glibc allows
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-17179869184}"
