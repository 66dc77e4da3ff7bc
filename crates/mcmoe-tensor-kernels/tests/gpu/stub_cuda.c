// An NVIDIA driver that computes nothing: what runs on it has its kernels compiled, by the real compiler,
// and finds zeros in memory. It stands in for a card where only the kernels' source is in question.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
enum { SUCCESS = 0 };

Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGet(int *device, int number) { *device = number; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)8 << 30; return SUCCESS; }
Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)1; return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Result cuCtxSetCurrent(void *context) { return SUCCESS; }
Result cuCtxGetCurrent(void **context) { *context = (void *)1; return SUCCESS; }
Result cuGetErrorName(int error, const char **name) { *name = "STUB_ERROR"; return SUCCESS; }
Result cuGetErrorString(int error, const char **text) { *text = "the stub driver failed"; return SUCCESS; }

// As a Hopper card has them; the numbers are those of CUdevice_attribute.
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 1: *value = 1024; break;             // threads a block
    case 2: case 3: *value = 1024; break;     // block x, y
    case 4: *value = 64; break;               // block z
    case 5: *value = 0x7FFFFFFF; break;       // grid x
    case 6: case 7: *value = 65535; break;    // grid y, z
    case 8: *value = 49152; break;            // shared memory a block
    case 10: *value = 32; break;              // warp
    case 16: *value = 132; break;             // multiprocessors
    case 75: *value = 9; break;               // compute capability
    case 76: *value = 0; break;
    case 97: *value = 232448; break;          // shared memory a block, on request
    case 115: *value = 1; break;              // memory pools
    default: *value = 0;
    }
    return SUCCESS;
}

static Result allocate(void **memory, size_t bytes) {
    *memory = calloc(bytes ? bytes : 1, 1);
    return *memory ? SUCCESS : 2;
}
Result cuMemAlloc_v2(void **memory, size_t bytes) { return allocate(memory, bytes); }
Result cuMemAllocAsync(void **memory, size_t bytes, void *stream) { return allocate(memory, bytes); }
Result cuMemAllocHost_v2(void **memory, size_t bytes) { return allocate(memory, bytes); }
Result cuMemFree_v2(void *memory) { free(memory); return SUCCESS; }
Result cuMemFreeAsync(void *memory, void *stream) { free(memory); return SUCCESS; }
Result cuMemFreeHost(void *memory) { free(memory); return SUCCESS; }
Result cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    memcpy(to, from, bytes);
    return SUCCESS;
}
Result cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    memcpy(to, from, bytes);
    return SUCCESS;
}
Result cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    memcpy(to, from, bytes);
    return SUCCESS;
}
// Pitched copies: what is copied does not matter, memory holds zeros.
Result cuMemcpy2DAsync_v2(const void *copy, void *stream) { return SUCCESS; }

Result cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)1; return SUCCESS; }
Result cuStreamDestroy_v2(void *stream) { return SUCCESS; }
Result cuStreamSynchronize(void *stream) { return SUCCESS; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
Result cuEventCreate(void **event, unsigned flags) { *event = (void *)1; return SUCCESS; }
Result cuEventRecord(void *event, void *stream) { return SUCCESS; }
Result cuEventSynchronize(void *event) { return SUCCESS; }
Result cuEventDestroy_v2(void *event) { return SUCCESS; }

Result cuModuleLoadData(void **module, const void *image) { *module = (void *)1; return SUCCESS; }
Result cuModuleUnload(void *module) { return SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = (void *)1;
    return SUCCESS;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                      unsigned bz, unsigned shared, void *stream, void **arguments, void **extra) {
    return SUCCESS;
}
