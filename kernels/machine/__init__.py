"""What all kernels run on: devices, threads, the cache of compiled code, and elementary functions that vectorise."""
