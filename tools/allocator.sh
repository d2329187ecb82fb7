# Sourced by the launchers: what PyTorch on a CPU needs of glibc's allocator. By default glibc maps large
# blocks from the system one by one and gives them back when they are free, and every step pays anew for
# each of their pages. Here they come from the heap, which is kept and made of huge pages.
export MALLOC_MMAP_MAX_="${MALLOC_MMAP_MAX_:-0}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-1099511627776}" # more than any machine has
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
