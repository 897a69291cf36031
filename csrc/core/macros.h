// Marks of functions that both the host and the CUDA compiler build.
#pragma once

#ifdef __CUDACC__
#define FASTGAN_HD __host__ __device__
#else
#define FASTGAN_HD
#endif

// Formulas are compiled once per ISA level. Internal linkage keeps the linker from handing the
// AVX-512 copy of an inline function to code that runs on a machine without it.
#define FASTGAN_FORMULA FASTGAN_HD static inline
