// What a simple CUDA kernel needs to be C++: its words, where a thread is, and the functions it calls for either REAL.
// The loop over the threads is in emulate.py. <math.h> would be 90 % of the time that g++ takes.

struct Dimensions {
    unsigned x, y, z;
};
static Dimensions gridDim, blockDim, blockIdx, threadIdx;

#define __global__
#define __device__
#define __forceinline__ inline

extern "C" double exp(double);
extern "C" double log(double);
extern "C" double sqrt(double);
extern "C" float expf(float);
extern "C" float logf(float);
extern "C" float sqrtf(float);
static inline float exp(float x) { return expf(x); }
static inline float log(float x) { return logf(x); }
static inline float sqrt(float x) { return sqrtf(x); }
